"""Flat objects as events: what becomes of each member, and the agreement with the contract of all events."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.contract import STRICT
from ingest_platform.feeds.stream_events.envelopes import event_of, problems_of
from ingest_platform.pipeline.records import reader_of

AT = "2026-05-06T10:15:00Z"
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(["", " \t", "api"]), st.just([]), st.just({"a": 1})
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["source", "service", "event", "metadata", "level"]), VALUES, max_size=5
).map(lambda members: {"timestamp": AT, **members})


@pytest.mark.parametrize(
    ("flat", "event"),
    [
        ({"source": "api", "level": "ERROR"}, {"source": "api", "event": {"level": "ERROR"}}),
        ({"service": "api", "level": "ERROR"}, {"source": "api", "event": {"level": "ERROR"}}),
        # Of two the first is the source, and the other is left where it is.
        ({"source": "api", "service": "x"}, {"source": "api", "event": {"service": "x"}}),
        ({"source": None, "service": "x"}, {"source": "x", "event": {"source": None}}),
        ({"source": "api", "event": "login"}, {"source": "api", "event": {"event": "login"}}),
        ({"source": "api", "metadata": {"env": "prod"}}, {"source": "api", "metadata": {"env": "prod"}, "event": {}}),
        ({"source": "api", "metadata": "none"}, {"source": "api", "event": {"metadata": "none"}}),
    ],
)
def test_a_flat_object_becomes_an_event(flat: dict[str, object], event: dict[str, object]) -> None:
    document = {"timestamp": AT, **flat}
    assert problems_of(document) == ()
    assert event_of(document) == {"timestamp": AT, **event}


@pytest.mark.parametrize("flat", [{}, {"source": ""}, {"source": None}, {"service": 7}, {"source": 1, "service": " "}])
def test_a_flat_object_needs_a_source(flat: dict[str, object]) -> None:
    assert [found.field for found in problems_of({"timestamp": AT, "level": "x", **flat})] == ["source"]


@given(document=DOCUMENTS)
def test_an_object_with_an_event_is_held_to_what_all_events_are_held_to(document: dict[str, object]) -> None:
    enveloped = document | {"event": {"level": "x"}}
    assert problems_of(enveloped) == reader_of(STRICT).problems(json.dumps(enveloped).encode())


@given(document=DOCUMENTS)
def test_whatever_is_taken_is_an_event_that_lost_nothing(document: dict[str, object]) -> None:
    if problems_of(document):
        return
    event = event_of(document)
    assert reader_of(STRICT).problems(json.dumps(event).encode()) == ()
    if isinstance(document.get("event"), dict):
        assert event == document
        return
    inner = event["event"]
    assert isinstance(inner, dict)
    rest = {name: event[name] for name in ("timestamp", "source", "metadata") if name in event}
    assert len(inner) + len(rest) == len(document)
    assert [value for name, value in document.items() if inner.get(name, value) != value] == []
