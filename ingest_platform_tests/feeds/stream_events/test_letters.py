"""Dead letters are listed with their reasons, and delivered anew under the same ids."""

import pytest

from ingest_platform.feeds.stream_events.letters import EVENT_IDS_MAX
from ingest_platform_tests.feeds.stream_events.delivering.consigned import Flaky, deliver
from ingest_platform_tests.feeds.stream_events.followed import EVENTS, Followed


def _letters(followed: Followed, **query: object) -> dict[str, object]:
    return followed.site.client.get(f"{followed.path}/dead-letters", params=query).json()  # type: ignore[arg-type]


def test_dead_letters_are_delivered_anew_and_the_accounts_stay_balanced(followed: Followed) -> None:
    ids = {f"{followed.job_id}-0", f"{followed.send(EVENTS[0])}-0"}
    followed.deliver()
    listed = _letters(followed)
    assert {each["event_id"] for each in listed["data"]} == ids  # type: ignore[attr-defined]
    assert _letters(followed, destination="archive")["data"] == []
    page = _letters(followed, limit=1)
    assert page["page"]["has_more"]  # type: ignore[index]
    rest = _letters(followed, limit=1, cursor=page["page"]["next_cursor"])  # type: ignore[index]
    assert page["data"] + rest["data"] == listed["data"]  # type: ignore[operator]
    path, headers = f"{followed.path}/dead-letters/replay", followed.site.bearer("replays:write")
    one = followed.site.anyone.post(path, json={"event_ids": [f"{followed.job_id}-0"]}, headers=headers)
    assert (one.status_code, one.json()) == (202, {"replayed": 1, "left": 0})
    others = followed.site.anyone.post(path, json={"destination": "siem"}, headers=headers)
    assert others.json() == {"replayed": 1, "left": 0}
    mended = Flaky()
    deliver(followed.site.platform, {"siem": mended, "archive": Flaky()})
    assert set(mended.taken) == ids
    stats = followed.site.client.get(f"{followed.path}/stats").json()
    assert stats["balanced"]
    assert [(each["destination"], each["delivered"], each["dead"]) for each in stats["destinations"]] == [
        ("archive", 2, 0),
        ("siem", 2, 0),
    ]
    assert followed.site.anyone.post(path, json={}, headers=headers).json() == {"replayed": 0, "left": 0}


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"more":1}',
        b'{"event_ids":[]}',
        b'{"destination":"\\u0000"}',
        b'{"event_ids":["\\u0000"]}',
        b"\xff",
    ],
)
def test_another_body_is_refused(followed: Followed, body: bytes) -> None:
    headers = {**followed.site.bearer("replays:write"), "Content-Type": "application/json"}
    answer = followed.site.anyone.post(f"{followed.path}/dead-letters/replay", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_format")


def test_not_all_too_many_are_named_at_once(followed: Followed) -> None:
    ids = ["evt_x-0"] * (EVENT_IDS_MAX + 1)
    answer = followed.site.anyone.post(
        f"{followed.path}/dead-letters/replay", json={"event_ids": ids}, headers=followed.site.bearer("replays:write")
    )
    assert answer.status_code == 400
    assert "1 to 1000" in answer.json()["detail"]


def test_delivering_anew_needs_its_scope(followed: Followed) -> None:
    answer = followed.site.anyone.post(
        f"{followed.path}/dead-letters/replay", json={}, headers=followed.site.bearer("jobs:read")
    )
    assert answer.status_code == 403
