"""A stream's declaration is read whole, or every fault of it is told with its place."""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration import (
    DeriveStep,
    Detector,
    DropStep,
    Envelope,
    How,
    LookupStep,
    Mask,
    Match,
    OnError,
    ParseKind,
    ParseStep,
    RenameStep,
    SetStep,
    destinations_of,
)
from ingest_platform.feeds.stream_events.declaration.place import WrongPipeline
from ingest_platform.feeds.stream_events.declaration.reading import read_pipeline

PAYMENTS: dict[str, Any] = yaml.safe_load("""
name: payments
envelope: auto
parse:
  - {field: event.message, as: json, into: event, on_error: reject}
  - {field: event.line, as: grok, pattern: '%{IP:client} %{WORD:verb}'}
  - {field: event.row, as: csv, columns: [a, b], separator: ;}
enrich:
  - set: {metadata.region: eu-west-1}
  - lookup:
      table: {columns: [source, owner], rows: [[api, ann], [web, bob]]}
      key: source
      add: {metadata.team_owner: owner}
  - rename: {event.transactionId: event.transaction_id}
  - derive: {event.slow: 'event.latency_ms > 500'}
  - drop: [event.debug, 'event."odd.name"']
mask:
  - {field: event.card_number, how: partial, keep_last: 4}
  - {pattern: email, how: redact}
  - {field: event.note, how: regex, pattern: '[0-9]+', replacement: '#'}
routes:
  match: all
  rules:
    - {name: errors, when: 'event.level == "ERROR"', to: [archive, siem]}
    - {name: chatter, when: 'event.latency_ms < 5', sample: 0.01, to: [archive]}
  otherwise: drop
""")


def test_the_documented_declaration_is_read() -> None:
    pipeline = read_pipeline(PAYMENTS)
    assert (pipeline.name, pipeline.envelope) == ("payments", Envelope.AUTO)
    assert pipeline.parse == (
        ParseStep(field=("event", "message"), as_=ParseKind.JSON, into=("event",), on_error=OnError.REJECT),
        ParseStep(field=("event", "line"), as_=ParseKind.GROK, pattern="%{IP:client} %{WORD:verb}"),
        ParseStep(field=("event", "row"), as_=ParseKind.CSV, columns=("a", "b"), separator=";"),
    )
    assert pipeline.masks == (
        Mask(field=("event", "card_number"), how=How.PARTIAL, keep_last=4),
        Mask(detector=Detector.EMAIL, how=How.REDACT),
        Mask(field=("event", "note"), how=How.REGEX, pattern="[0-9]+", replacement="#"),
    )
    assert [(rule.name, rule.sample, rule.to) for rule in pipeline.routes.rules] == [
        ("errors", 1.0, ("archive", "siem")),
        ("chatter", 0.01, ("archive",)),
    ]
    assert (pipeline.routes.match, pipeline.routes.otherwise) == (Match.ALL, ())
    assert destinations_of(pipeline) == {"archive", "siem"}


def test_steps_of_enrich_are_read() -> None:
    set_, lookup, rename, derive, drop = read_pipeline(PAYMENTS).enrich
    assert set_ == SetStep(values={("metadata", "region"): "eu-west-1"})
    assert isinstance(lookup, LookupStep)
    assert (lookup.key, lookup.key_column, lookup.add) == (("source",), "source", {("metadata", "team_owner"): "owner"})
    assert lookup.table.rows == (("api", "ann"), ("web", "bob"))
    assert rename == RenameStep(paths={("event", "transactionId"): ("event", "transaction_id")})
    assert isinstance(derive, DeriveStep)
    assert [(path, value.text) for path, value in derive.values.items()] == [
        (("event", "slow"), "event.latency_ms > 500")
    ]
    assert drop == DropStep(paths=(("event", "debug"), ("event", "odd.name")))


def test_little_is_needed() -> None:
    pipeline = read_pipeline({"name": "all", "routes": {"otherwise": ["archive"]}})
    assert (pipeline.envelope, pipeline.routes.match, pipeline.routes.otherwise) == (
        Envelope.STRICT,
        Match.FIRST,
        ("archive",),
    )
    assert (pipeline.parse, pipeline.enrich, pipeline.masks, pipeline.routes.rules) == ((), (), (), ())


def faults(body: Mapping[str, object]) -> list[str]:
    with pytest.raises(WrongPipeline) as raised:
        read_pipeline(body)
    return [f"{fault.path}: {fault.message}" for fault in raised.value.faults]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{colour: red}", "colour: is unknown; there are name, envelope, parse, enrich, mask, routes"),
        ("{name: null}", "name: is missing"),
        ("{name: 5}", "name: must be a text, not 5"),
        ("{envelope: loose}", "envelope: must be one of strict, auto, not 'loose'"),
        ("{parse: {}}", "parse: must be a list, not {}"),
        ("{parse: [1]}", "parse[0]: must be a mapping, not 1"),
        ("{parse: [{}]}", "parse[0].field: is missing"),
        ("{parse: [{field: event.m, as: xml}]}", "parse[0].as: must be one of json, logfmt, regex, grok, csv, url"),
        (
            "{parse: [{field: event.m, as: json, pattern: x}]}",
            "parse[0].pattern: belongs to regex and grok; json needs",
        ),
        ("{parse: [{field: event.m, as: regex}]}", "parse[0].pattern: is missing; regex needs one"),
        ("{parse: [{field: event.m, as: regex, pattern: '(?<a>['}]}", "parse[0].pattern: unclosed character class"),
        ("{parse: [{field: event.m, as: regex, pattern: 'a+'}]}", "parse[0].pattern: captures nothing"),
        ("{parse: [{field: event.m, as: grok, pattern: '%{NO:a}'}]}", "parse[0].pattern: %{NO} is no pattern"),
        ("{parse: [{field: event.m, as: csv}]}", "parse[0].columns: is missing; name the columns"),
        ("{parse: [{field: event.m, as: csv, columns: [a, a]}]}", "parse[0].columns: must be different"),
        ("{parse: [{field: event.m, as: csv, columns: [a], separator: ab}]}", "parse[0].separator: must be one char"),
        ("{parse: [{field: event.m, as: json, separator: x}]}", "parse[0].separator: belongs to csv; json has none"),
        ("{parse: [{field: event, as: json}]}", "parse[0].field: event is no text"),
        ("{parse: [{field: event..m, as: json}]}", "parse[0].field: column 7: a path is members joined by dots"),
        ("{parse: [{field: event.m, as: json, into: source}]}", "parse[0].into: source is no object"),
        ("{parse: [{field: event.m, as: json, on_error: skip}]}", "parse[0].on_error: must be one of keep, reject"),
        ("{enrich: [{}]}", "enrich[0]: must be exactly one of set, lookup, rename, derive, drop"),
        ("{enrich: [{set: {event.a: 1}, drop: [event.b]}]}", "enrich[0]: must be exactly one of"),
        ("{enrich: [{put: {event.a: 1}}]}", "enrich[0].put: is unknown; there are set, lookup"),
        ("{enrich: [{set: {}}]}", "enrich[0].set: is empty"),
        ("{enrich: [{set: {timestamp: 1}}]}", "enrich[0].set.timestamp: timestamp can't be changed"),
        ("{enrich: [{set: {event: 1}}]}", "enrich[0].set.event: event itself must stay an object"),
        ("{enrich: [{set: {event.a: 1, 'event.\"a\"': 2}}]}", 'enrich[0].set.event."a": is written twice'),
        ("{enrich: [{drop: [event]}]}", "enrich[0].drop[0]: event itself must stay an object"),
        ("{enrich: [{rename: {event.a: event.a}}]}", "enrich[0].rename.event.a: is renamed to itself"),
        ("{enrich: [{rename: {event.a: event.c, event.b: event.c}}]}", "event.b: event.c is written twice"),
        ("{enrich: [{derive: {event.a: 'event.b >'}}]}", "enrich[0].derive.event.a: column 10: "),
        ("{enrich: [{derive: {event.a: 5}}]}", "enrich[0].derive.event.a: must be an expression, written as a text"),
        ("{enrich: [{lookup: {key: source}}]}", "enrich[0].lookup.table: is missing"),
        ("{enrich: [{lookup: {table: t.csv, key: source, add: {event.a: b}}}]}", "table: names a file, which is read"),
        ("{mask: [{how: redact}]}", "mask[0]: must have either a field, or a pattern"),
        ("{mask: [{how: redact, field: event.a, pattern: email}]}", "mask[0]: can't have both; either a field, or"),
        ("{mask: [{how: redact, pattern: name}]}", "mask[0].pattern: must be one of email, card, ipv4, ipv6, phone"),
        ("{mask: [{how: blur, field: event.a}]}", "mask[0].how: must be one of redact, partial, hash, drop, regex"),
        ("{mask: [{how: hash, field: event.a, keep_last: 4}]}", "mask[0].keep_last: belongs to partial; hash keeps"),
        ("{mask: [{how: partial, field: event.a, keep_last: -1}]}", "keep_last: must be a whole number from 0 to 64"),
        ("{mask: [{how: redact, field: event.a, replacement: x}]}", "mask[0].replacement: belongs to regex; redact"),
        ("{mask: [{how: regex, pattern: '[0-9]'}]}", "mask[0].field: is missing; name the field"),
        ("{mask: [{how: regex, field: event.a, pattern: '('}]}", "mask[0].pattern: unclosed group"),
        ("{mask: [{how: regex, field: event.a, pattern: 'a', replacement: 1}]}", "replacement: must be a text of at"),
        ("{mask: [{how: drop, field: timestamp}]}", "mask[0].field: timestamp can't be changed"),
        ("{routes: {}}", "routes: has neither rules nor otherwise"),
        ("{routes: {match: any, otherwise: drop}}", "routes.match: must be one of first, all, not 'any'"),
        ("{routes: {otherwise: archive}}", "routes.otherwise: must be a list of destinations, or drop"),
        ("{routes: {otherwise: [A b]}}", "routes.otherwise[0]: must be the name of a destination"),
        ("{routes: {otherwise: []}}", "routes.otherwise: is empty; name at least one destination"),
        ("{routes: {rules: [{name: a, when: 'true'}]}}", "routes.rules[0].to: is missing"),
        ("{routes: {rules: [{name: a, when: 'source', to: []}]}}", "routes.rules[0].to: is empty"),
        ("{routes: {rules: [{name: a, when: 'source', to: [b, b]}]}}", "routes.rules[0].to[1]: b stands twice"),
        ("{routes: {rules: [{name: a, when: 'event.a = 1', to: [b]}]}}", "routes.rules[0].when: column 9: "),
        ("{routes: {rules: [{name: a, when: 'event.a + 1', to: [b]}]}}", "routes.rules[0].when: column 9: a rule is"),
        ("{routes: {rules: [{name: a, when: true, to: [b]}]}}", "routes.rules[0].when: must be an expression, written"),
        ("{routes: {rules: [{name: 'a,b', when: 'source', to: [b]}]}}", "routes.rules[0].name: is no name; a name is"),
        ("{routes: {rules: [{name: otherwise, when: 'source', to: [b]}]}}", "name: otherwise is what takes the events"),
        (
            "{routes: {rules: [{name: a, when: 'source', to: [b], sample: 0}]}}",
            "sample: is 0; it must be greater than 0",
        ),
        ("{routes: {rules: [{name: a, when: 'source', to: [b], sample: 1.5}]}}", "sample: is 1.5; it must be greater"),
        ("{routes: {rules: [{name: a, when: 'source', to: [b], sample: .nan}]}}", "sample: must be a number greater"),
        ("{routes: {rules: [{name: a, when: 'source', to: [b], sample: true}]}}", "sample: must be a number greater"),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_is_allowed(given: str, said: str) -> None:
    body = {"name": "payments", "routes": {"otherwise": "drop"}, **yaml.safe_load(given)}
    told = faults(body)
    assert any(said in each for each in told), told


def test_rules_have_different_names() -> None:
    body = deepcopy(PAYMENTS)
    body["routes"]["rules"][1]["name"] = "errors"
    assert faults(body) == [
        "routes.rules[1].name: 'errors' is the name of routes.rules[0], too; choose another",
    ]


def test_all_faults_are_told_at_once() -> None:
    body = deepcopy(PAYMENTS)
    body["parse"][1]["pattern"] = "%{NO:a}"
    body["enrich"][3]["derive"] = {"event.slow": "event.latency_ms >"}
    body["mask"][0] = {"how": "redact"}
    body["routes"]["rules"][1]["when"] = "event.latency_ms <"
    body["routes"]["rules"][1]["sample"] = 7
    assert [each.partition(": ")[0] for each in faults(body)] == [
        "parse[1].pattern",
        "enrich[3].derive.event.slow",
        "mask[0]",
        "routes.rules[1].when",
        "routes.rules[1].sample",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), value=JSON)
def test_whatever_stands_anywhere_is_read_or_told(data: st.DataObject, value: object) -> None:
    body: Any = deepcopy(PAYMENTS)
    holder, key = body, data.draw(st.sampled_from(sorted(body)))
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.booleans()):
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[key] = value
    # Anything else that is raised, by a library say, fails the test.
    with suppress(WrongPipeline):
        assert read_pipeline(body).name
