"""Expressions as their users see them: compiled, evaluated on frames, derived values."""

import pytest

from ingest_platform.feeds.stream_events.language import (
    RuleFault,
    Type,
    columns_of,
    compile_expression,
    compile_rule,
)

ERROR = {
    "timestamp": "2026-05-06T12:15:32.441Z",
    "source": "shop",
    "event": {"level": "ERROR", "status": 503, "tags": ["a", 1], "odd name": {"in": True}},
    "metadata": {"env": "prod"},
}
QUIET = {"timestamp": "2026-05-07T00:00:00Z", "source": "shop", "event": {"level": 3, "status": None, "tags": "a"}}

MET, NOT_MET, UNKNOWN, FAULTY = (True, False), (False, False), (None, False), (None, True)


@pytest.mark.parametrize(
    ("text", "of_error", "of_quiet"),
    [
        ('event.level == "ERROR" and metadata.env in ["prod", "staging"]', MET, FAULTY),
        ('event.level == "ERROR" and event.status < 500', NOT_MET, FAULTY),
        ("event.status > 500", MET, UNKNOWN),
        ("not event.status > 500", NOT_MET, UNKNOWN),
        ("event.status > 500 or exists(source)", MET, MET),
        ("event.level exists", MET, MET),
        ("exists(metadata.env)", MET, NOT_MET),
        ('event.tags contains "a"', MET, MET),
        ("event.tags contains 1", MET, FAULTY),
        ('"b" in event.tags', NOT_MET, FAULTY),
        ('event.level starts_with "ERR" and event.level ends_with "OR"', MET, FAULTY),
        ('lower(event.level) matches r"^err\\w+$"', MET, FAULTY),
        ("length(event.tags) * 2 - 1 == 3", MET, NOT_MET),
        ('event."odd name".in', MET, UNKNOWN),
        ('timestamp < "2026-05-06T14:15:33+02:00"', MET, NOT_MET),
        ("event.status / 0 == 1", UNKNOWN, UNKNOWN),
        ("true", MET, MET),
    ],
)
def test_a_rule_is_met_not_met_or_unknown(
    text: str, of_error: tuple[bool | None, bool], of_quiet: tuple[bool | None, bool]
) -> None:
    rule = compile_rule(text)
    assert rule.evaluate(columns_of([ERROR, QUIET], rule.paths)).rows() == [of_error, of_quiet]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("event.status + 0.5", [503.5, None]),
        ("event.status % 10 * 2", [6.0, None]),
        ("upper(source)", ["SHOP", "SHOP"]),
        ("event.missing + 1", [None, None]),
    ],
)
def test_what_is_derived_is_a_value_of_one_type(text: str, values: list[object]) -> None:
    derived = compile_expression(text)
    assert derived.evaluate(columns_of([ERROR, QUIET], derived.paths))["value"].to_list() == values


@pytest.mark.parametrize(("text", "path"), [("event.tags", ("event", "tags")), ("timestamp", ("timestamp",))])
def test_a_field_alone_is_a_copy_of_it(text: str, path: tuple[str, ...]) -> None:
    assert compile_expression(text).copies == path
    assert compile_expression(f"length({text})" if text != "timestamp" else "true").copies is None


@pytest.mark.parametrize("text", ["event.status + 1", '"a"', "5", "timestamp", "length(event.tags)"])
def test_a_value_is_no_rule(text: str) -> None:
    assert not compile_expression(text).is_condition
    with pytest.raises(RuleFault, match="a rule is true or false"):
        compile_rule(text)


@pytest.mark.parametrize("text", ["null", '["a"]'])
def test_what_is_no_value_of_an_event_is_no_expression(text: str) -> None:
    with pytest.raises(RuleFault, match="a condition or a value of one event"):
        compile_expression(text)


def test_an_expression_tells_its_paths_and_its_type() -> None:
    expression = compile_expression('event."odd.name".x + length(source)')
    assert expression.paths == {("event", "odd.name", "x"), ("source",)}
    assert expression.type is Type.NUMBER
    assert compile_expression("event.level").type is Type.ANY
