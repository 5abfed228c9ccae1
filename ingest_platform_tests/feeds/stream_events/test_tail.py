"""The live tail over HTTP: server-sent events behind the masks, until the reader hangs up or may not read any more."""

import json
import threading

import httpx
import pytest

from ingest_platform.feeds.stream_events import tail
from ingest_platform.storage import keys
from ingest_platform_tests.feeds.stream_events.followed import EVENTS, Followed


def test_events_come_as_they_are_let_through(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "LOOK_SECONDS", 0.1)
    with followed.site.client.stream(
        "GET", f"{followed.path}/tail", params={"filter": "exists(event.level)"}
    ) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.iter_lines()
        assert next(lines).startswith(":")
        sender = threading.Thread(target=followed.send, args=EVENTS[:3])
        sender.start()
        found = [line for line in (next(lines) for _ in range(3)) if line]
        sender.join()
    assert found[0] == "event: event"
    shown = json.loads(found[1].removeprefix("data: "))
    assert (shown["decision"], shown["event"]["event"]["card"]) == ("routed", "[redacted]")


def test_a_wrong_filter_is_refused_with_its_column(followed: Followed) -> None:
    answer = followed.site.client.get(f"{followed.path}/tail", params={"filter": "event.ms <"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_filter")
    assert "column" in answer.json()["detail"]


def test_a_tail_ends_with_its_key(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "LOOK_SECONDS", 0.1)
    key = followed.site.key("jobs:read")
    headers = {"Authorization": f"Bearer {key.token}"}
    with httpx.stream("GET", f"{followed.site.url}{followed.path}/tail", headers=headers, timeout=20) as answer:
        lines = answer.iter_lines()
        next(lines)
        with followed.site.platform.ledger.transaction() as tx:
            assert keys.revoke(tx, key.record.key_id)
        assert [line for line in lines if line] == []


def test_not_all_too_many_follow_at_once(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "TAILS_MAX", 0)
    answer = followed.site.client.get(f"{followed.path}/tail")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
