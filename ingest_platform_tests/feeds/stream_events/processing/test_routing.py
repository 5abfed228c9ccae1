"""Each event goes one way, which follows from the rules in their order, and from its draw where they sample."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import Match, RouteRule, Routes
from ingest_platform.feeds.stream_events.language import columns_of, compile_rule
from ingest_platform.feeds.stream_events.processing.routing import Places, route
from ingest_platform.feeds.stream_events.processing.sampling import draw_of

JOB = "evt_01kqzcjrpyf27tge33jwvjhkff"
A = RouteRule(name="a", when=compile_rule("event.a == 1"), to=("lake", "siem"))
B = RouteRule(name="b", when=compile_rule("event.b > 0"), sample=0.25, to=("lake",))
C = RouteRule(name="c", when=compile_rule('event.c contains "x"'), sample=0.5, to=("lake", "hook"))
RULES = (A, B, C)


def routed(events: list[dict[str, object]], routes: Routes) -> list[dict[str, object]]:
    documents: list[dict[str, object]] = [{"event": event} for event in events]
    paths = {path for rule in routes.rules for path in rule.when.paths}
    places = Places(job_ids=[JOB], jobs=np.zeros(len(events), dtype=np.int64), indexes=np.arange(len(events)))
    return route(columns_of(documents, paths), routes, places).to_dicts()


def met(event: dict[str, object], rule: RouteRule) -> bool:
    """Tell it in plain Python, of the three rules above."""
    value = event.get(rule.name)
    match rule.name:
        case "a":
            return value == 1 and not isinstance(value, bool)
        case "b":
            return isinstance(value, int) and not isinstance(value, bool) and value > 0
        case _:
            return isinstance(value, str) and "x" in value


def faulty(event: dict[str, object], rule: RouteRule) -> bool:
    value = event.get(rule.name)
    wanted = str if rule.name == "c" else int
    return value is not None and type(value) is not wanted


def expected(event: dict[str, object], index: int, routes: Routes) -> dict[str, object]:
    asked = list(routes.rules)
    if routes.match is Match.FIRST:
        first = next((place for place, rule in enumerate(asked) if met(event, rule)), len(asked))
        asked = asked[: first + 1]
    taking = [rule for rule in asked if met(event, rule)]
    keeping = [rule for rule in taking if draw_of(f"{JOB}-{index}", rule.name) < rule.sample]
    weights = {
        name: min(1 / rule.sample for rule in keeping if name in rule.to) for rule in keeping for name in rule.to
    }
    if not taking:
        weights = dict.fromkeys(routes.otherwise, 1.0)
    names = [rule.name for rule in taking] or ["otherwise"] * bool(routes.otherwise)
    faults = [rule.name for rule in asked if faulty(event, rule)]
    return {
        "decision": "routed" if weights else "sampled_out" if taking else "dropped",
        "rules": ",".join(names),
        "destinations": weights or None,
        "faults": ",".join(faults) or None,
    }


EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.sampled_from([1, 2, None, "1"]),
        "b": st.sampled_from([1, 0, -1, "1", [], None]),
        "c": st.sampled_from(["x", "yx", "", 1, {}, None]),
    },
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(EVENTS, max_size=12),
    st.sampled_from(Match),
    st.lists(st.sampled_from(RULES), unique=True).map(tuple),
    st.sampled_from([(), ("rest",), ("rest", "lake")]),
)
def test_events_go_the_way_that_rules_say(
    events: list[dict[str, object]], match: Match, rules: tuple[RouteRule, ...], otherwise: tuple[str, ...]
) -> None:
    routes = Routes(match=match, rules=rules, otherwise=otherwise)
    found = routed(events, routes)
    for row in found:
        row["destinations"] = None if row["destinations"] is None else json.loads(str(row["destinations"]))
    assert found == [expected(event, index, routes) for index, event in enumerate(events)]


@pytest.mark.parametrize("match", list(Match))
def test_nothing_is_decided_about_no_events(match: Match) -> None:
    assert routed([], Routes(match=match, rules=RULES, otherwise=())) == []


def test_many_rules_are_told_apart() -> None:
    rules = tuple(
        RouteRule(name=f"r{number}", when=compile_rule(f"event.n == {number} or event.n == -1"), to=("lake",))
        for number in range(100)
    )
    found = routed([{"n": 99}, {"n": 0}, {"n": -1}], Routes(match=Match.ALL, rules=rules, otherwise=()))
    assert [row["rules"] for row in found] == ["r99", "r0", ",".join(f"r{number}" for number in range(100))]


def test_weights_are_written_as_short_as_they_are() -> None:
    third = RouteRule(name="t", when=compile_rule("true"), sample=0.3, to=("lake",))
    found = pl.DataFrame(routed([{}] * 50, Routes(match=Match.ALL, rules=(A, third), otherwise=())))
    assert set(found["destinations"].drop_nulls()) == {'{"lake":3.3333333333333335}'}
    assert routed([{"a": 1}], Routes(match=Match.FIRST, rules=(A,), otherwise=()))[0]["destinations"] == (
        '{"lake":1,"siem":1}'
    )
