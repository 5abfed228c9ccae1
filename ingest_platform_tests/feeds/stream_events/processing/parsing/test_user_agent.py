"""User agents are told by a library that knows them; what it told is remembered, and shared with no event."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing.parsing import user_agent
from ingest_platform.feeds.stream_events.processing.parsing.user_agent import lift

PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.2 Mobile/15E148 Safari/604.1"
)
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:121.0) Gecko/20100101 Firefox/121.0"


@pytest.mark.parametrize(
    ("text", "members"),
    [
        (
            PHONE,
            {
                "browser": {"name": "Mobile Safari", "version": "17.2"},
                "os": {"name": "iOS", "version": "17.2"},
                "device": {"name": "iPhone", "brand": "Apple", "model": "iPhone"},
            },
        ),
        (
            DESKTOP,
            {
                "browser": {"name": "Firefox", "version": "121.0"},
                "os": {"name": "Windows", "version": "10"},
                "device": {"name": "Other"},
            },
        ),
        ("zzz", {"browser": {"name": "Other"}, "os": {"name": "Other"}, "device": {"name": "Other"}}),
    ],
)
def test_agents_are_told(text: str, members: object) -> None:
    assert list(lift([text])) == [members]


def test_events_of_one_agent_share_no_object() -> None:
    first, second = (dict(members) for members in lift([PHONE, PHONE]) if members is not None)
    assert first == second
    assert all(first[name] is not second[name] for name in first)


def test_what_an_event_does_with_its_objects_changes_nothing_for_later_ones() -> None:
    (members,) = lift([DESKTOP])
    assert isinstance(members, dict)
    members["os"].clear()
    assert list(lift([DESKTOP])) != [members]


def test_an_agent_is_worked_out_once() -> None:
    list(lift([DESKTOP]))
    before = user_agent._read.cache_info()
    list(lift([DESKTOP] * 100))
    after = user_agent._read.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (0, 100)


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    (members,) = lift([text])
    assert isinstance(members, dict)
    assert set(members) == {"browser", "os", "device"}


def test_of_a_long_text_the_beginning_counts() -> None:
    assert list(lift([PHONE + " " * 10_000 + "Firefox/1"])) == list(lift([PHONE]))
