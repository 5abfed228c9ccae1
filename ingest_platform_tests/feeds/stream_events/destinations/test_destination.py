"""Laws that every type of destinations keeps, found by looking; and that the document says what is true of each."""

import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events import destinations
from ingest_platform.feeds.stream_events.destinations.destination import (
    DestinationFault,
    DestinationType,
    Sent,
    Transient,
    WrongDestination,
    all_delivered,
    destination_types,
    filled,
)
from ingest_platform.feeds.stream_events.destinations.portions import Divisible, send_in_portions
from ingest_platform_tests.feeds.stream_events.destinations.batches import CANARY, batch, item, opened

DOCUMENT = Path(__file__).parents[4] / "docs" / "destinations.md"
KINDS = destination_types()
BATCH_FIELDS = ("batch_events", "batch_bytes", "batch_seconds", "at_once")
each_type = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.type)

EIGHTH = '''
"""Nowhere."""

from ingest_platform.feeds.stream_events.destinations.destination import (
    BatchRule, DestinationType, all_delivered, batch_fields, batch_rule
)

RULE = BatchRule(events_max=10, bytes_max=10_000, linger_seconds=0.0, at_once=1)


class Nowhere:
    type = "nowhere"

    def __init__(self, rule):
        self.batch = rule

    def send(self, batch):
        return all_delivered(batch)

    def close(self):
        pass


KIND = DestinationType(
    type="nowhere",
    fields=batch_fields(RULE),
    check=lambda body: [],
    opened=lambda body, site: Nowhere(batch_rule(body, RULE)),
)
'''


def test_the_types_are_those_that_were_promised() -> None:
    assert set(KINDS) == {"files", "s3", "elasticsearch", "splunk_hec", "snowflake", "http", "syslog"}
    modules = {found.name for found in pkgutil.iter_modules(destinations.__path__)}
    assert set(KINDS) <= modules, "a type is called as its module is"


@pytest.fixture
def looked_again() -> Iterator[None]:
    destination_types.cache_clear()
    yield
    destination_types.cache_clear()
    sys.modules.pop(f"{destinations.__name__}.nowhere", None)


@pytest.mark.usefixtures("looked_again")
def test_an_eighth_type_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nowhere.py").write_text(EIGHTH)
    monkeypatch.setattr(destinations, "__path__", [*destinations.__path__, str(tmp_path)])
    assert set(destination_types()) == {*KINDS, "nowhere"}
    sent = opened({"type": "nowhere", "batch_events": 5}, tmp_path).send(batch([item(1)]))
    assert list(sent.delivered) == [item(1).event_id]


@each_type
def test_a_type_declares_its_fields_once_and_says_what_they_mean(kind: DestinationType) -> None:
    names = [each.name for each in kind.fields]
    assert len(set(names)) == len(names)
    assert set(BATCH_FIELDS) <= set(names)
    assert "type" not in names
    assert all(each.meaning.endswith(".") for each in kind.fields)
    assert json.loads(json.dumps(kind.schema))["properties"]["type"] == {"const": kind.type}
    for each in kind.fields:
        if each.default is not None:
            assert not kind.read({each.name: each.default}) or {
                fault.message for fault in kind.read({each.name: each.default})
            } == {"is missing"}


@each_type
def test_what_is_missing_and_what_is_unknown_is_told_at_once(kind: DestinationType) -> None:
    required = {each.name for each in kind.fields if each.required}
    told = kind.read({"type": kind.type, "colour": CANARY, "batch_events": "many", "batch_seconds": float("nan")})
    assert {fault.path for fault in told} == {*required, "colour", "batch_events", "batch_seconds"}
    assert CANARY not in str(told)
    assert all(fault.message for fault in told)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@each_type
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_declaration_breaks_the_check(kind: DestinationType, data: st.DataObject) -> None:
    strings = st.text(max_size=40) | st.sampled_from(["https://a.example", "s3://bucket", "tls://h", "events-{date}"])
    body = {each.name: data.draw(strings if each.required else ANY) for each in kind.fields}
    assert isinstance(kind.read(body), list)


@each_type
def test_a_declaration_that_is_wrong_can_not_be_opened(kind: DestinationType, tmp_path: Path) -> None:
    with pytest.raises(WrongDestination) as told:
        opened({"type": kind.type, "colour": "red"}, tmp_path)
    assert DestinationFault(path="colour", message=told.value.faults[0].message) in told.value.faults


def test_secrets_are_put_where_they_were_named() -> None:
    body = {"a": "${A}", "headers": {"X.Y": "${B}", "Z": "z"}}
    assert filled(body, {"a": "1", "headers.X.Y": "2"}) == {"a": "1", "headers": {"X.Y": "2", "Z": "z"}}
    assert body["a"] == "${A}"


# Halves


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.integers(1, 12))
def test_every_event_has_one_outcome_whatever_is_refused(bad: set[int], busy: set[int], most: int) -> None:
    items = [item(number) for number in range(41)]
    bad_ids, busy_ids = {items[each].event_id for each in bad}, {items[each].event_id for each in busy - bad}

    def send(part: object) -> Sent:
        ids = [each.event_id for each in part]  # type: ignore[attr-defined]
        if len(ids) > most or not bad_ids.isdisjoint(ids):
            raise Divisible("too much")
        if not busy_ids.isdisjoint(ids):
            raise Transient("busy", retry_after_seconds=2.0)
        return all_delivered(batch(part))  # type: ignore[arg-type]

    sent = send_in_portions(items, send)
    assert sorted([*sent.delivered, *sent.retry, *sent.dead]) == sorted(each.event_id for each in items)
    assert set(sent.dead) == bad_ids
    assert busy_ids <= set(sent.retry)
    assert sent.retry_after_seconds == (2.0 if busy_ids else None)


# The document


def _section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


@each_type
def test_the_document_names_every_field_what_is_required_and_what_is_secret(kind: DestinationType) -> None:
    own = [each for each in kind.fields if each.name not in BATCH_FIELDS]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", _section(kind.type), re.MULTILINE))
    assert list(rows) == [each.name for each in own]
    assert {name for name, text in rows.items() if "required" in text.split("; ")} == {
        each.name for each in own if each.required
    }
    assert {name for name, text in rows.items() if "*secret*" in text} == kind.secrets


@each_type
def test_the_document_knows_how_much_is_sent_together(kind: DestinationType) -> None:
    defaults = {each.name: each.default for each in kind.fields}
    shown = " | ".join(
        f"{defaults[name]:g}" if name == "batch_seconds" else str(defaults[name]) for name in BATCH_FIELDS
    )
    assert f"| `{kind.type}` | {shown} |" in DOCUMENT.read_text(encoding="utf-8")


@each_type
def test_the_documents_example_can_be_declared(kind: DestinationType) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", _section(kind.type), re.MULTILINE | re.DOTALL)
    ((_, body),) = yaml.safe_load(example)["destinations"].items()
    assert body["type"] == kind.type
    # As a variable's value, the name of the variable is good enough for all but a key.
    assert {fault.path for fault in kind.read(body)} <= {"private_key", "secret"}
