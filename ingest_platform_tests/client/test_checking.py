"""The client's check: it says of every record what the door says, in the same words and order."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.client.checking import faults_of
from ingest_platform.feeds.datasets.contract import contract_of
from ingest_platform.feeds.datasets.wire import BadRecord, errors_of
from ingest_platform.pipeline.door import check_record

FIELDS = {"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
CONTRACT = contract_of(FIELDS)
GOOD: dict[str, object] = {
    "timestamp": "2026-05-06T10:15:00Z",
    "context": {"source": "billing"},
    "country": "RO",
    "amount": 42.5,
    "active": True,
    "signup_at": "2026-05-01T08:00:00+02:00",
}
_EDGES = [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**400]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(_EDGES),
    st.floats(),
    st.text(),
    # Lone surrogates too, which st.text() leaves out.
    st.text(st.characters(), max_size=3),
    st.sampled_from(
        ["2026-05-06T10:15:00Z", "2026-05-06", "2026-02-30T00:00:00Z", "2026-05-06T10:15:60Z", "\ud800", ""]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
NAMES = st.sampled_from([*GOOD, "extra", "timestamp ", "Country", "x" * 300]) | st.text(max_size=3)


def _local(record: object) -> list[tuple[str | None, str, str]]:
    return [(fault.field, fault.code, fault.error) for fault in faults_of(record, FIELDS)]


def _at_the_door(record: object) -> list[tuple[object, ...]]:
    problems = check_record(json.dumps(record).encode(), CONTRACT)
    told = errors_of([BadRecord(index=None, problems=problems)], CONTRACT)
    return [(each["field"], each["code"], each["error"]) for each in told]


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.sets(st.sampled_from(list(GOOD)), max_size=3))
def test_a_record_is_judged_as_at_the_door(changed: dict[str, object], dropped: set[str]) -> None:
    record = {name: value for name, value in (GOOD | changed).items() if name not in dropped}
    assert _local(record) == _at_the_door(record)


@given(VALUES)
def test_whatever_is_sent_for_a_record_is_judged_as_at_the_door(value: object) -> None:
    assert _local(value) == _at_the_door(value)


@pytest.mark.parametrize("levels", [61, 62, 63, 64, 65, 3000])
def test_depth_is_judged_as_at_the_door(levels: int) -> None:
    nested: object = 1
    text = "[" * levels + "1" + "]" * levels
    for _ in range(levels):
        nested = [nested]
    found = [fault.code for fault in faults_of(GOOD | {"context": {"a": nested}}, FIELDS)]
    raw = json.dumps(GOOD | {"context": {"a": "here"}}).replace('"here"', text).encode()
    assert found == [problem.code for problem in check_record(raw, CONTRACT)]


def test_many_extra_fields_are_told_as_at_the_door() -> None:
    record = GOOD | {f"extra_{number}": number for number in range(50)}
    assert _local(record) == _at_the_door(record)
    assert len(_local(record)) == 20


@pytest.mark.parametrize(
    ("at", "good"),
    [
        (datetime(2026, 5, 6, tzinfo=UTC), True),
        (datetime(2026, 5, 6, tzinfo=timezone(timedelta(hours=1, seconds=7))), True),
        (datetime(2026, 5, 6), False),  # noqa: DTZ001 - the very thing that is refused.
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), False),
    ],
)
def test_a_time_is_a_timestamp_if_it_is_an_instant(at: datetime, *, good: bool) -> None:
    assert (faults_of(GOOD | {"signup_at": at}, FIELDS) == []) is good


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {2}}, b"bytes", object()])
def test_what_json_does_not_have_is_no_json(value: object) -> None:
    assert [fault.error for fault in faults_of(GOOD | {"context": value}, FIELDS)] == ["Invalid JSON body"]
