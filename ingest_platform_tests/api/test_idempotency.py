"""The idempotency key: the first answer again, byte for byte, and nothing taken twice."""

import gzip
import json
import socket
import threading
import time

import httpx
import pytest

from ingest_platform.pipeline import admit
from ingest_platform.pipeline.admit import RESERVED_SECONDS
from ingest_platform.storage import idempotency
from ingest_platform_tests.serving import CONFIG, Site

IMPORT = "/v1/machine-data/import-jobs"
BATCH = "/v1/machine-data/batch"
KEY = {"Idempotency-Key": "k-1"}
# "Recovery after kill -9 takes at most 30 s" (promise 8); half of it is for starting again.
RECOVERY_SECONDS_MAX = 30.0


def _body(value: object = 1.5) -> dict[str, object]:
    return {"items": [{"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": value}]}


def _jobs(site: Site) -> int:
    return site.client.get("/v1/jobs").json()["page"]["total"]


@pytest.mark.parametrize("path", [IMPORT, BATCH])
def test_the_same_key_and_body_get_the_first_answer_and_one_job(site: Site, path: str) -> None:
    first = site.client.post(path, json=_body(), headers=KEY)
    again = site.client.post(path, json=_body(), headers=KEY)
    assert first.status_code in {200, 202}
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers.get("Location") == first.headers.get("Location")
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert _jobs(site) == 1


def test_the_bytes_count_not_how_they_were_sent(site: Site) -> None:
    raw = json.dumps(_body()).encode()
    plain = {**KEY, "Content-Type": "application/json"}
    first = site.client.post(IMPORT, content=raw, headers=plain)
    again = site.client.post(IMPORT, content=gzip.compress(raw), headers={**plain, "Content-Encoding": "gzip"})
    assert again.content == first.content
    file = {"file": ("a.json", raw)}
    uploads = [site.client.post(IMPORT, files=file, headers={"Idempotency-Key": "k-2"}) for _ in range(2)]
    assert uploads[0].content == uploads[1].content
    assert _jobs(site) == 2


def test_another_body_under_the_key_is_422_and_the_first_answer_stands(site: Site) -> None:
    first = site.client.post(IMPORT, json=_body(1), headers=KEY)
    other = site.client.post(IMPORT, json=_body(2), headers=KEY)
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert site.client.post(IMPORT, json=_body(1), headers=KEY).content == first.content
    assert _jobs(site) == 1


@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b'{"items":[]}', 422)])
def test_refusals_of_the_body_itself_are_kept(site: Site, content: bytes, status: int) -> None:
    headers = {**KEY, "Content-Type": "application/json"}
    answers = [site.client.post(IMPORT, content=content, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["Idempotency-Replayed"] == "true"


def test_other_refusals_free_the_key(site: Site) -> None:
    assert site.client.post(IMPORT, content=b"x", headers={**KEY, "Content-Type": "text/plain"}).status_code == 415
    assert site.anyone.post(IMPORT, json=_body(), headers=KEY).status_code == 401
    too_long = {**KEY, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert site.client.post(IMPORT, content=b"no gzip", headers=too_long).status_code == 400
    assert site.client.post(IMPORT, json=_body(), headers=KEY).status_code == 202


def test_while_the_first_is_in_flight_the_second_is_409(site: Site) -> None:
    scope = idempotency.Scope(workspace="acme", route="create_import_job", key="k-1")
    with site.platform.ledger.transaction() as tx:
        idempotency.reserve(tx, scope, seconds=60)
    busy = site.client.post(IMPORT, json=_body(), headers=KEY)
    assert (busy.status_code, busy.json()["error"]["type"]) == (409, "conflict")
    with site.platform.ledger.transaction() as tx:
        idempotency.abandon(tx, scope)
    assert site.client.post(IMPORT, json=_body(), headers=KEY).status_code == 202


def test_a_retry_is_taken_once_the_reservation_of_a_killed_request_has_run_out(site: Site) -> None:
    scope = idempotency.Scope(workspace="acme", route="create_import_job", key="k-1")
    with site.platform.ledger.transaction() as tx:
        # What a process leaves behind that was killed; nobody extends it any more.
        idempotency.reserve(tx, scope, seconds=0.5)
    statuses = [site.client.post(IMPORT, json=_body(), headers=KEY).status_code]
    deadline = time.monotonic() + 5
    while statuses[-1] == 409 and time.monotonic() < deadline:
        time.sleep(0.05)
        statuses.append(site.client.post(IMPORT, json=_body(), headers=KEY).status_code)
    assert (statuses[0], statuses[-1]) == (409, 202)
    assert _jobs(site) == 1
    assert RESERVED_SECONDS <= RECOVERY_SECONDS_MAX / 2


def test_a_key_stays_reserved_while_its_body_takes_longer_than_a_reservation(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admit, "RESERVED_SECONDS", 0.6)
    body = json.dumps(_body()).encode()
    head = (
        f"POST {IMPORT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {site.token}\r\nidempotency-key: k-1\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection(site.address, timeout=10) as slow:
        slow.sendall(head.encode() + body[:10])
        time.sleep(0.2)
        begun, statuses = time.monotonic(), set[int]()
        while time.monotonic() - begun < 1.5:
            statuses.add(site.client.post(IMPORT, json=_body(), headers=KEY).status_code)
            time.sleep(0.1)
        assert statuses == {409}
        slow.sendall(body[10:])
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 202 ")
    again = site.client.post(IMPORT, content=body, headers={**KEY, "Content-Type": "application/json"})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert answer.endswith(again.content)
    assert _jobs(site) == 1


def test_many_at_once_make_one_job(site: Site) -> None:
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(site.anyone.post(IMPORT, json=_body(), headers={**KEY, "Authorization": f"Bearer {site.token}"}))

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.content for answer in answers if answer.status_code == 202}) == 1
    assert _jobs(site) == 1


def test_keys_are_of_a_workspace_and_a_route(site: Site) -> None:
    assert site.client.post(IMPORT, json=_body(), headers=KEY).status_code == 202
    assert site.client.post(BATCH, json=_body(), headers=KEY).status_code == 200
    foreign = site.anyone.post(IMPORT, json=_body(2), headers={**KEY, **site.bearer(workspace="globex")})
    assert foreign.status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ä"])
def test_a_key_of_another_form_is_400(site: Site, key: str) -> None:
    answer = site.client.post(IMPORT, json=_body(), headers={"Idempotency-Key": key.encode()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_idempotency_key")


def test_a_dry_run_does_not_use_the_key_up(site: Site) -> None:
    tried = site.client.post(f"{IMPORT}?dry_run=true", json=_body("x"), headers=KEY)
    assert (tried.status_code, tried.json()["dry_run"]) == (200, True)
    assert site.client.post(IMPORT, json=_body(), headers=KEY).status_code == 202
    assert _jobs(site) == 1
