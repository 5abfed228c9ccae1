"""Enrich steps do what they declare, in their order, and share nothing between events."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import (
    DeriveStep,
    DropStep,
    EnrichStep,
    LookupStep,
    RenameStep,
    SetStep,
    Table,
)
from ingest_platform.feeds.stream_events.language import compile_expression
from ingest_platform.feeds.stream_events.processing.enriching import enrich

TEAMS = Table(columns=("service", "owner", "tier"), rows=(("web", "ann", "1"), ("7", "bob", ""), ("true", "eve", "3")))
OWNER, TIER = ("metadata", "owner"), ("metadata", "tier")


def enriched(event: dict[str, object], *steps: EnrichStep) -> object:
    documents: list[dict[str, object]] = [{"source": "web", "event": event}]
    enrich(documents, steps)
    return documents[0]["event"]


def derive(**texts: str) -> DeriveStep:
    return DeriveStep(values={("event", name): compile_expression(text) for name, text in texts.items()})


def test_constants_are_set_where_they_are_declared() -> None:
    documents: list[dict[str, object]] = [{"event": {}}, {"event": {}, "metadata": {"region": "us", "env": "prod"}}]
    enrich(documents, [SetStep(values={("metadata", "region"): "eu-west-1"})])
    assert [each["metadata"] for each in documents] == [{"region": "eu-west-1"}, {"region": "eu-west-1", "env": "prod"}]


def test_no_two_events_share_a_constant_that_could_be_changed() -> None:
    value = {"tags": ["a"]}
    documents: list[dict[str, object]] = [{"event": {}}, {"event": {}}]
    steps = [SetStep(values={("event", "set"): value})]
    enrich(documents, [*steps, SetStep(values={("event", "set", "tags"): 1})])
    enrich(first := copy.deepcopy(documents), steps)
    documents[0]["event"]["set"]["tags"] = 2  # type: ignore[index]
    assert documents[1] == {"event": {"set": {"tags": 1}}}
    assert first[0] == {"event": {"set": {"tags": ["a"]}}}
    assert value == {"tags": ["a"]}


@pytest.mark.parametrize(
    ("key", "metadata"),
    [
        ("web", {"owner": "ann", "tier": "1"}),
        (7, {"owner": "bob"}),
        (7.0, {"owner": "bob"}),
        (True, {"owner": "eve", "tier": "3"}),
        ("unknown", None),
        (None, None),
        (["web"], None),
        ({}, None),
    ],
)
def test_a_lookup_adds_what_the_table_has_for_the_key(key: object, metadata: object) -> None:
    documents: list[dict[str, object]] = [{"event": {"service": key}}]
    step = LookupStep(table=TEAMS, key=("event", "service"), key_column="service", add={OWNER: "owner", TIER: "tier"})
    assert enrich(documents, [step]) == {}
    assert documents[0].get("metadata") == metadata


def test_a_lookup_of_a_field_that_is_missing_adds_nothing() -> None:
    documents: list[dict[str, object]] = [{"event": "text"}, {}]
    step = LookupStep(table=TEAMS, key=("event", "service"), key_column="service", add={OWNER: "owner"})
    enrich(documents, [step])
    assert documents == [{"event": "text"}, {}]


def test_two_lookups_keep_their_tables_apart() -> None:
    other = Table(columns=("service", "owner"), rows=(("web", "zoe"),))
    steps = [
        LookupStep(table=table, key=("source",), key_column="service", add={("event", name): "owner"})
        for name, table in [("first", TEAMS), ("second", other)]
    ]
    assert enriched({}, *steps) == {"first": "ann", "second": "zoe"}


@pytest.mark.parametrize(
    ("event", "paths", "result"),
    [
        ({"a": 1}, {"a": "b"}, {"b": 1}),
        ({"a": 1, "b": 2}, {"a": "b"}, {"b": 1}),
        ({"b": 2}, {"a": "b"}, {"b": 2}),
        ({"a": None}, {"a": "b"}, {"b": None}),
        ({"a": 1, "b": 2}, {"a": "b", "b": "a"}, {"b": 1, "a": 2}),
        ({"a": 1}, {"a": "a.b"}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a.b": "a"}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": "b.c"}, {"b": {"c": 1}}),
    ],
)
def test_a_field_is_moved_over_whatever_stands_there(
    event: dict[str, object], paths: dict[str, str], result: object
) -> None:
    moved = {("event", *old.split(".")): ("event", *new.split(".")) for old, new in paths.items()}
    assert enriched(event, RenameStep(paths=moved)) == result


@pytest.mark.parametrize(
    ("event", "path", "result"),
    [
        ({"a": 1, "b": 2}, "a", {"b": 2}),
        ({"b": 2}, "a", {"b": 2}),
        ({"a": {"b": 1, "c": 2}}, "a.b", {"a": {"c": 2}}),
        ({"a": "text"}, "a.b", {"a": "text"}),
    ],
)
def test_a_field_is_dropped_where_there_is_one(event: dict[str, object], path: str, result: object) -> None:
    assert enriched(event, DropStep(paths=(("event", *path.split(".")),))) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("event.ms > 500", True),
        ("event.ms / 1000", 0.75),
        ("event.ms * 2", 1500),
        ("lower(event.name)", "web"),
        ("event.deep", {"list": [1, {"a": None}]}),
        ("7", 7),
        ('"text"', "text"),
    ],
)
def test_values_are_derived(text: str, result: object) -> None:
    event: dict[str, object] = {"ms": 750, "name": "WEB", "deep": {"list": [1, {"a": None}]}}
    after = enriched(event, derive(result=text))
    assert after == {**event, "result": result}
    assert isinstance(after, dict)
    assert type(after["result"]) is type(result)


def test_a_value_that_is_copied_is_a_value_of_its_own() -> None:
    after = enriched({"a": {"b": [1]}}, derive(c="event.a"), DropStep(paths=(("event", "a", "b"),)))
    assert after == {"a": {}, "c": {"b": [1]}}


def test_expressions_of_one_step_see_the_event_as_it_was_before_it() -> None:
    assert enriched({"a": 1, "b": 10}, derive(a="event.a + event.b", b="event.a", c="event.a > 1")) == {
        "a": 11,
        "b": 1,
        "c": False,
    }


@pytest.mark.parametrize("event", [{}, {"ms": None}])
def test_what_is_unknown_for_a_missing_field_leaves_what_there_was(event: dict[str, object]) -> None:
    documents: list[dict[str, object]] = [{"event": {**event, "slow": "before"}}]
    assert enrich(documents, [derive(slow="event.ms > 500")]) == {}
    assert documents == [{"event": {**event, "slow": "before"}}]


def test_types_that_do_not_fit_are_counted_and_change_nothing() -> None:
    documents: list[dict[str, object]] = [{"event": {"ms": ms}} for ms in ("fast", 600, True, 1e308, [])]
    before = copy.deepcopy(documents)
    faults = enrich(documents, [derive(double="event.ms * 10"), derive(double="event.ms * 10")])
    before[1]["event"]["double"] = 6000  # type: ignore[index]
    assert (documents, faults) == (before, {"event.double": 6})


def test_steps_follow_each_other_as_declared() -> None:
    steps: list[EnrichStep] = [
        SetStep(values={("event", "a"): 1}),
        RenameStep(paths={("event", "a"): ("event", "b")}),
        derive(c="event.b + 1"),
        DropStep(paths=(("event", "b"),)),
        SetStep(values={("event", "b"): "last"}),
    ]
    assert enriched({}, *steps) == {"c": 2, "b": "last"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), max_size=5)
STEPS: list[EnrichStep] = [
    SetStep(values={("event", "a", "b"): {"c": [1]}}),
    LookupStep(table=TEAMS, key=("event", "a"), key_column="service", add={("event", "b"): "owner"}),
    RenameStep(paths={("event", "a"): ("event", "b", "c"), ("event", "c"): ("event", "a")}),
    derive(a="event.b", b="event.a == event.c", c="event.a + 1"),
    DropStep(paths=(("event", "a"), ("event", "b", "c"))),
]


@settings(deadline=None)
@given(EVENTS, st.lists(st.sampled_from(STEPS), max_size=4))
def test_events_of_a_frame_do_not_touch_each_other(events: list[dict[str, object]], steps: list[EnrichStep]) -> None:
    together: list[dict[str, object]] = [{"event": copy.deepcopy(event)} for event in events]
    alone: list[list[dict[str, object]]] = [[{"event": copy.deepcopy(event)}] for event in events]
    enrich(together, steps)
    for each in alone:
        enrich(each, steps)
    assert together == [document for (document,) in alone]
