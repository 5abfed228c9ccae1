"""What a tail finds: events of jobs that have ended since, each once, whatever the order in which they end."""

import pytest

from ingest_platform.feeds.stream_events import tailing
from ingest_platform.feeds.stream_events.language import compile_rule
from ingest_platform.feeds.stream_events.tailing import LATE_SECONDS, Tail
from ingest_platform_tests.feeds.stream_events.followed import EVENTS, Followed


def _tail(followed: Followed, *, rule: str | None = None, now: list[float] | None = None) -> Tail:
    clock = now or [0.0]
    tail = Tail(
        platform=followed.site.platform,
        workspace="acme",
        stream_id=followed.stream_id,
        wanted=None if rule is None else compile_rule(rule),
        clock=lambda: clock[0],
    )
    assert tail.look().events == ()
    return tail


def test_events_are_found_once_as_their_jobs_end(followed: Followed) -> None:
    now = [0.0]
    tail = _tail(followed, now=now)
    job_id = followed.send(*EVENTS[:3])
    seen = tail.look().events
    assert [(each["event_id"], each["decision"]) for each in seen] == [
        (f"{job_id}-0", "routed"),
        (f"{job_id}-1", "sampled_out"),
        (f"{job_id}-2", "dropped"),
    ]
    assert seen[0]["event"]["event"] == {"level": "ERROR", "card": "[redacted]"}  # type: ignore[index]
    assert seen[1]["event"] is None
    assert tail.look().events == ()
    # What was seen is forgotten after a while, and is not found again then.
    now[0] = LATE_SECONDS
    assert tail.look().events == ()
    assert tail._ended == {}
    again = followed.send(EVENTS[0])
    assert [each["event_id"] for each in tail.look().events] == [f"{again}-0"]


def test_a_job_that_ends_late_is_found_behind_later_ones(followed: Followed) -> None:
    now = [0.0]
    tail = _tail(followed, now=now)
    late, early = followed.send(EVENTS[0]), followed.send(EVENTS[0])
    with followed.site.platform.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET state = 'processing', finished_at = NULL WHERE id = %s", (late,))
    assert [each["event_id"] for each in tail.look().events] == [f"{early}-0"]
    now[0] = 2 * LATE_SECONDS
    assert tail.look().events == ()
    with followed.site.platform.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET state = 'finished', finished_at = now() WHERE id = %s", (late,))
    assert [each["event_id"] for each in tail.look().events] == [f"{late}-0"]


def test_a_filter_lets_through_only_events_that_meet_it(followed: Followed) -> None:
    tail = _tail(followed, rule='event.level == "ERROR" and metadata.owner == "core"')
    job_id = followed.send(*EVENTS[:3])
    assert [each["event_id"] for each in tail.look().events] == [f"{job_id}-0"]
    nothing = _tail(followed, rule="event.level == 1")
    followed.send(EVENTS[0])
    assert nothing.look().events == []


def test_of_too_many_the_latest_are_shown_and_the_others_counted(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "EVENTS_MAX", 2)
    tail = _tail(followed)
    job_id = followed.send(*EVENTS[:3])
    seen = tail.look()
    assert ([each["event_id"] for each in seen.events], seen.left_out) == ([f"{job_id}-1", f"{job_id}-2"], 1)
