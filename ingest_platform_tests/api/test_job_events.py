"""A job as server-sent events: what comes, when, and what ends the stream."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from ingest_platform.api import job_events
from ingest_platform.domain.outcome import Tally
from ingest_platform.storage import jobs, keys
from ingest_platform.storage.jobs import Costs, Load, Settlement
from ingest_platform_tests.serving import CONFIG, Site

IMPORT = "/v1/machine-data/import-jobs"
ITEM = {"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}
SECONDS_MAX = 5.0


def _send(site: Site) -> str:
    return site.client.post(IMPORT, json={"items": [ITEM]}).json()["job_id"]


def _begin(site: Site) -> Load:
    with site.platform.ledger.transaction() as tx:
        load = jobs.claim(tx, feed="machine_data", bytes_max=1 << 30, submissions_max=1000, lease_seconds=60)
    assert load is not None
    return load


def _end(site: Site, load: Load) -> None:
    tally = Tally.of(received=1, created=1)
    ended = [Settlement(job_id=each.job_id, tally=tally) for each in load.submissions]
    with site.platform.ledger.transaction() as tx:
        jobs.settle(tx, load, ended, Costs(run_id="run-1"))


@contextmanager
def _following(site: Site, job_id: str, **headers: str) -> Iterator[Iterator[str]]:
    """Follow a job; its stream piece by piece, a piece being what stands between blank lines."""
    path = f"/v1/jobs/{job_id}/events"
    with site.client.stream("GET", path, headers=headers, timeout=SECONDS_MAX) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        yield _pieces(answer)


def _pieces(answer: httpx.Response) -> Iterator[str]:
    lines: list[str] = []
    for line in answer.iter_lines():
        if line:
            lines.append(line)
        else:
            yield "\n".join(lines)
            lines.clear()
    assert lines == []


def _job(piece: str) -> dict[str, object]:
    name, data = piece.split("\n")
    assert name == "event: job"
    return json.loads(data.removeprefix("data: "))


def test_the_job_object_comes_at_once_and_whenever_it_has_changed_until_its_end(site: Site) -> None:
    job_id = _send(site)
    with _following(site, job_id) as pieces:
        assert _job(next(pieces)) == site.client.get(f"/v1/jobs/{job_id}").json()
        load = _begin(site)
        assert _job(next(pieces))["state"] == "processing"
        _end(site, load)
        last = _job(next(pieces))
        assert (last["state"], last["verdict"]) == ("finished", "succeeded")
        assert last == site.client.get(f"/v1/jobs/{job_id}").json()
        assert list(pieces) == []


def test_a_job_that_has_ended_is_one_event(site: Site) -> None:
    job_id = _send(site)
    _end(site, _begin(site))
    with _following(site, job_id) as pieces:
        assert [_job(piece)["state"] for piece in pieces] == ["finished"]


def test_a_comment_comes_while_nothing_else_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_events, "HEARTBEAT_SECONDS", 0.1)
    with _following(site, _send(site)) as pieces:
        assert _job(next(pieces))["state"] == "accepted"
        assert [next(pieces)[:1] for _ in range(2)] == [":", ":"]


def test_a_stream_ends_after_its_time_and_can_be_asked_for_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_events, "STREAM_SECONDS_MAX", 0.1)
    job_id = _send(site)
    for _ in range(2):
        with _following(site, job_id) as pieces:
            assert [_job(piece)["state"] for piece in pieces] == ["accepted"]


def test_a_stream_ends_with_the_key_that_asked_for_it(site: Site) -> None:
    key = site.key()
    with _following(site, _send(site), Authorization=f"Bearer {key.token}") as pieces:
        assert _job(next(pieces))["state"] == "accepted"
        with site.platform.ledger.transaction() as tx:
            assert keys.revoke(tx, key.record.key_id)
        assert list(pieces) == []


def test_a_job_of_nobody_and_one_of_another_workspace_are_404_alike(site: Site) -> None:
    foreign = site.bearer(workspace="globex")
    answers = [
        site.client.get("/v1/jobs/job_none/events"),
        site.client.get(f"/v1/jobs/{_send(site)}/events", headers=foreign),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1


def test_a_client_that_hangs_up_makes_room_for_another(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_events, "STREAMS_MAX", 1)
    path = f"/v1/jobs/{_send(site)}/events"
    with site.client.stream("GET", path) as first:
        # Kept: an iterator that is forgotten closes its stream.
        lines = first.iter_lines()
        next(lines)
        with site.client.stream("GET", path) as refused:
            assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
        del lines
    until = time.monotonic() + SECONDS_MAX
    while time.monotonic() < until:
        with site.client.stream("GET", path) as again:
            if again.status_code == 200:
                return
        time.sleep(0.05)
    pytest.fail("the first stream is still open")


def test_asking_for_the_headers_alone_does_not_follow(site: Site) -> None:
    answer = site.client.head(f"/v1/jobs/{_send(site)}/events", timeout=SECONDS_MAX)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
