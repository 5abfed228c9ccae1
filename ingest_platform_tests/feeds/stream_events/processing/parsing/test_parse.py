"""Parse steps put what they lift where it is declared, and an event whose text is unfit stays whole or is rejected."""

import copy

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import OnError, ParseKind, ParseStep, Path
from ingest_platform.feeds.stream_events.processing.parsing.parse import ParseFault, parse

OPTIONS: dict[ParseKind, dict[str, object]] = {
    ParseKind.REGEX: {"pattern": r"^(?<first>[a-z]+) (?<second>[a-z]+)$"},
    ParseKind.GROK: {"pattern": "^%{WORD:first} %{INT:second:int}$"},
    ParseKind.CSV: {"columns": ("first", "second")},
}
MESSAGE: Path = ("event", "message")
CANARY = "4111 1111 1111 1111"


def step(kind: ParseKind, *, field: Path = MESSAGE, into: Path | None = None, reject: bool = False) -> ParseStep:
    on_error = OnError.REJECT if reject else OnError.KEEP
    return ParseStep(field=field, as_=kind, into=into, on_error=on_error, **OPTIONS.get(kind, {}))  # type: ignore[arg-type]


def parsed(event: dict[str, object], *steps: ParseStep) -> object:
    documents: list[dict[str, object]] = [{"timestamp": "t", "source": "s", "event": event}]
    assert parse(documents, steps) == []
    return documents[0]["event"]


@pytest.mark.parametrize(
    ("event", "into", "result"),
    [
        ({"message": '{"a": 1}'}, None, {"message": '{"a": 1}', "a": 1}),
        ({"message": '{"a": 1}', "a": 0, "b": 2}, ("event",), {"message": '{"a": 1}', "a": 1, "b": 2}),
        ({"message": '{"message": "hi"}'}, ("event",), {"message": "hi"}),
        ({"message": "{}"}, ("event", "x", "y"), {"message": "{}", "x": {"y": {}}}),
        ({"message": '{"a": 1}'}, MESSAGE, {"message": {"a": 1}}),
        ({"message": '{"a": 1}', "x": 5}, ("event", "x"), {"message": '{"a": 1}', "x": {"a": 1}}),
        (
            {"message": '{"x": {"a": {"c": 1}, "b": 2}}', "x": {"a": {"d": 3}, "b": {}, "e": 4}},
            None,
            {"message": '{"x": {"a": {"c": 1}, "b": 2}}', "x": {"a": {"d": 3, "c": 1}, "b": 2, "e": 4}},
        ),
    ],
)
def test_members_are_put_where_they_are_declared(event: dict[str, object], into: Path | None, result: object) -> None:
    assert parsed(event, step(ParseKind.JSON, into=into)) == result


@pytest.mark.parametrize(
    ("kind", "text", "members"),
    [
        (ParseKind.JSON, '{"first": 1}', {"first": 1}),
        (ParseKind.LOGFMT, "first=1", {"first": "1"}),
        (ParseKind.REGEX, "one two", {"first": "one", "second": "two"}),
        (ParseKind.GROK, "one 2", {"first": "one", "second": 2}),
        (ParseKind.CSV, "one,2", {"first": "one", "second": "2"}),
        (ParseKind.URL, "/one?second=2", {"path": "/one", "query": {"second": "2"}}),
        (
            ParseKind.USER_AGENT,
            "curl/8.4.0",
            {"browser": {"name": "curl", "version": "8.4.0"}, "os": {"name": "Other"}, "device": {"name": "Other"}},
        ),
        (ParseKind.SYSLOG, "<6>first: 2", {"facility": "kern", "severity": "info", "appname": "first", "message": "2"}),
    ],
)
def test_every_kind_lifts_its_members(kind: ParseKind, text: str, members: object) -> None:
    assert parsed({"message": text}, step(kind, into=("event", "x"))) == {"message": text, "x": members}


def test_what_is_in_a_field_at_the_top_goes_into_the_event() -> None:
    documents: list[dict[str, object]] = [{"timestamp": "t", "source": '{"timestamp": 0}', "event": {}}]
    assert parse(documents, [step(ParseKind.JSON, field=("source",))]) == []
    assert documents == [{"timestamp": "t", "source": '{"timestamp": 0}', "event": {"timestamp": 0}}]


def test_a_later_step_sees_what_an_earlier_one_found() -> None:
    event: dict[str, object] = {"message": '{"inner": "first=1"}'}
    steps = [step(ParseKind.JSON), step(ParseKind.LOGFMT, field=("event", "inner"))]
    assert parsed(event, *steps) == {"message": '{"inner": "first=1"}', "inner": "first=1", "first": "1"}


@pytest.mark.parametrize("event", [{}, {"message": None}, {"other": 1}])
@pytest.mark.parametrize("kind", ParseKind)
def test_a_field_that_is_missing_is_no_error(event: dict[str, object], kind: ParseKind) -> None:
    before = copy.deepcopy(event)
    assert parsed(event, step(kind, reject=True)) == before


@pytest.mark.parametrize("value", [1, True, 0.5, ["x"], {"x": 1}])
def test_a_field_that_is_no_text_is_an_error(value: object) -> None:
    documents: list[dict[str, object]] = [{"event": {"message": value}}]
    (fault,) = parse(documents, [step(ParseKind.LOGFMT)])
    assert fault.message == "event.message must be a string, to be parsed as logfmt."
    assert documents == [{"event": {"message": value}}]


@pytest.mark.parametrize("kind", [kind for kind in ParseKind if kind is not ParseKind.USER_AGENT])
def test_a_fault_names_field_and_kind_and_never_quotes_the_value(kind: ParseKind) -> None:
    documents: list[dict[str, object]] = [{"event": {"message": f"é{CANARY}"}}]
    assert parse(documents, [step(kind)]) == [
        ParseFault(
            place=0,
            step=0,
            field="event.message",
            message=f"event.message could not be parsed as {kind.value}.",
            rejects=False,
        )
    ]
    assert documents == [{"event": {"message": f"é{CANARY}"}}]


def test_a_rejected_event_is_looked_at_by_no_later_step_and_its_neighbours_are() -> None:
    documents: list[dict[str, object]] = [
        {"event": {"message": text}} for text in ("first=1", "no pairs", '{"a": 1}', 'first="1"')
    ]
    before = copy.deepcopy(documents)
    steps = [step(ParseKind.LOGFMT, into=("event", "x"), reject=True), step(ParseKind.JSON), step(ParseKind.JSON)]
    faults = [(fault.place, fault.step, fault.rejects) for fault in parse(documents, steps)]
    assert faults == [(1, 0, True), (2, 0, True), (0, 1, False), (3, 1, False), (0, 2, False), (3, 2, False)]
    assert documents[1:3] == before[1:3]
    assert documents[0] == {"event": {"message": "first=1", "x": {"first": "1"}}}


def test_there_may_be_no_event_at_all() -> None:
    assert parse([], [step(kind) for kind in ParseKind]) == []


JSON_SCALARS = st.none() | st.booleans() | st.integers() | st.text()
EVENTS = st.lists(st.fixed_dictionaries({}, optional={"message": JSON_SCALARS, "x": JSON_SCALARS}), max_size=4)


@settings(deadline=None)
@given(EVENTS, st.lists(st.tuples(st.sampled_from(ParseKind), st.booleans()), max_size=3))
def test_no_event_is_lost_whatever_its_text_is(
    events: list[dict[str, object]], kinds: list[tuple[ParseKind, bool]]
) -> None:
    steps = [step(kind, into=("event", "x"), reject=reject) for kind, reject in kinds]
    documents: list[dict[str, object]] = [{"event": event, "n": place} for place, event in enumerate(events)]
    before = copy.deepcopy(documents)
    faults = parse(documents, steps)
    assert [document["n"] for document in documents] == list(range(len(events)))
    assert msgspec.json.decode(msgspec.json.encode(documents)) == documents
    for place, document in enumerate(documents):
        own = [fault for fault in faults if fault.place == place]
        assert sum(fault.rejects for fault in own) <= 1
        if len(own) == len(steps):
            assert document == before[place]
