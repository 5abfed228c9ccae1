"""Asking: until there is an answer, with the same key and bytes, and not for ever."""

import asyncio
from collections.abc import Callable, Sequence

import httpx
import pytest

from ingest_platform import client
from ingest_platform.client import AsyncClient, Client, Patience
from ingest_platform.client.asking import Pause, Request, ask

QUICK = Patience(attempts_max=4, pause_seconds=0.001, pause_seconds_max=0.002)
ACCEPTED = httpx.Response(202, json={"job_id": "job_1"})
Script = Sequence[httpx.Response | Exception]


def _scripted(script: Script, seen: list[httpx.Request]) -> Callable[[httpx.Request], httpx.Response]:
    """Answer one after the other, as a proxy or a server in trouble would."""
    rest = list(script)

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        found = rest.pop(0)
        if isinstance(found, Exception):
            raise found
        # A response can be read once, so each request gets one of its own.
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)

    return answer


def _import(script: Script, *, patience: Patience = QUICK) -> list[httpx.Request]:
    seen: list[httpx.Request] = []
    transport = httpx.MockTransport(_scripted(script, seen))
    with Client("http://ingest.test", "ing_live_x", patience=patience, transport=transport) as sender:
        assert sender.import_readings([{"value": 1}]).job_ids == ("job_1",)
    return seen


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("silent"),
        httpx.RemoteProtocolError("cut off"),
        httpx.Response(429, headers={"Retry-After": "0"}),
        httpx.Response(503),
        httpx.Response(500, text="<html>"),
    ],
    ids=repr,
)
def test_a_request_in_trouble_is_sent_again_with_the_same_key_and_body(trouble: httpx.Response | Exception) -> None:
    first, second = _import([trouble, ACCEPTED])
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.content == second.content


def test_two_batches_have_two_keys() -> None:
    seen = _import([ACCEPTED]) + _import([ACCEPTED])
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 2


def test_a_first_attempt_that_is_still_at_work_is_waited_for() -> None:
    assert len(_import([httpx.ReadTimeout("silent"), httpx.Response(409, json={}), ACCEPTED])) == 3


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, client.Invalid),
        (401, client.Unauthorized),
        (403, client.Forbidden),
        (404, client.NotFound),
        (409, client.Conflict),
        (413, client.TooLarge),
        (422, client.Invalid),
    ],
)
def test_an_answer_that_stands_is_not_asked_for_again(status: int, expected: type[client.ApiError]) -> None:
    with pytest.raises(expected) as raised:
        _import([httpx.Response(status, json={"error": {"code": "why", "message": "Because."}})])
    assert (raised.value.status, raised.value.code, raised.value.message) == (status, "why", "Because.")


def test_attempts_end() -> None:
    with pytest.raises(client.Unreachable, match="refused"):
        _import([httpx.ConnectError("refused")] * 4)
    with pytest.raises(client.ServerError):
        _import([httpx.Response(503)] * 4)


def test_a_quota_that_is_used_up_is_not_waited_for() -> None:
    quota = {"limit": 10, "used": 10}
    answer = httpx.Response(429, headers={"Retry-After": "86400"}, json={"error": "Exceeded", "quota": quota})
    with pytest.raises(client.QuotaExceeded) as raised:
        _import([answer])
    assert raised.value.quota == quota


def test_retry_after_is_waited_besides_a_pause_that_is_drawn() -> None:
    patience = Patience(pause_seconds=1.0)
    steps = ask(Request(method="GET", path="/", token="t"), patience)
    assert isinstance(next(steps), Request)
    waited = steps.send(httpx.Response(429, headers={"Retry-After": "7"}))
    assert isinstance(waited, Pause)
    assert 7.0 <= waited.seconds <= 8.0


def test_pauses_grow_to_their_bound() -> None:
    patience = Patience(pause_seconds=1.0, pause_seconds_max=4.0)
    assert max(patience.pause(attempt) for attempt in range(20) for _ in range(20)) <= 4.0
    assert max(patience.pause(0) for _ in range(50)) <= 1.0


def test_the_awaited_client_takes_the_same_steps() -> None:
    seen: list[httpx.Request] = []
    transport = httpx.MockTransport(_scripted([httpx.ConnectError("refused"), httpx.Response(503), ACCEPTED], seen))

    async def send() -> client.Sent:
        async with AsyncClient("http://ingest.test", "ing_live_x", patience=QUICK, transport=transport) as sender:
            return await sender.import_readings([{"value": 1}])

    assert asyncio.run(send()).job_ids == ("job_1",)
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1


def test_a_job_that_goes_on_is_not_waited_for_any_longer() -> None:
    job = {"id": "job_1", "state": "processing", "verdict": None, "counts": {}}
    seen: list[httpx.Request] = []
    transport = httpx.MockTransport(_scripted([httpx.Response(200, json=job)], seen))
    with (
        Client("http://ingest.test", "ing_live_x", transport=transport) as asker,
        pytest.raises(client.JobUnfinished, match="job_1 is processing"),
    ):
        asker.wait("job_1", seconds=0.0)
    assert seen[0].url.params["wait"] == "1"
