"""The verdict on one record: every problem of it, in order, in words for people."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.machine_data.contract import CONTRACT
from ingest_platform.pipeline.records import (
    DEPTH_MAX,
    EXTRA_PROBLEMS_MAX,
    KEY_CHARACTERS_MAX,
    RECORD_BYTES_MAX,
    reader_of,
)
from ingest_platform_tests.pipeline.sent import GOOD, record, verdicts

STRICT = Contract(name="strict", extra_allowed=False, fields=CONTRACT.fields)
UNFIT = "value is not finite, or fits neither a double nor a 64-bit integer."


def problems_of(raw: bytes, contract: Contract = CONTRACT) -> list[tuple[str, str | None]]:
    return [(found.code, found.field) for found in reader_of(contract).problems(raw)]


@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1))
def test_every_number_that_fits_is_good(value: float) -> None:
    assert math.isfinite(value)
    assert problems_of(json.dumps(record(value=value)).encode()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"12.5"', ("invalid_type", "value must be a number, but is a string.")),
        ("true", ("invalid_type", "value must be a number, but is a boolean.")),
        ("null", ("invalid_type", "value must be a number, but is null.")),
        ("[1]", ("invalid_type", "value must be a number, but is an array.")),
        ("{}", ("invalid_type", "value must be a number, but is an object.")),
        ("NaN", ("not_finite", UNFIT)),
        ("-Infinity", ("not_finite", UNFIT)),
        ("1e400", ("not_finite", UNFIT)),
        ("9223372036854775808", ("not_finite", UNFIT)),
        ("1" + "0" * 5_000, ("not_finite", UNFIT)),
    ],
)
def test_a_message_names_the_field_and_the_reason(text: str, expected: tuple[str, str]) -> None:
    (found,) = reader_of(CONTRACT).problems(json.dumps(record(value=0)).replace("0}", text + "}").encode())
    assert (found.code, found.message) == expected
    assert found.field == "value"


EXACT = Contract(
    name="exact", extra_allowed=False, fields=(Field(name="count", kind=Kind.NUMBER, exact_integers=True),)
)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("9007199254740992", True),
        ("-9007199254740992", True),
        ("9007199254740993", False),
        ("-9007199254740993", False),
        ("9007199254740994", False),
        # No integers, so nobody expects them to be exact.
        ("9007199254740993.5", True),
        ("1e20", True),
    ],
)
@pytest.mark.parametrize("form", [Format.NDJSON, Format.CSV])
def test_integers_that_would_be_rounded_are_of_the_wrong_type_where_they_must_be_exact(
    text: str, form: Format, *, good: bool
) -> None:
    expected = {} if good else {0: [("invalid_type", "count")]}
    body = f'{{"count":{text}}}' if form is Format.NDJSON else f"count\n{text}\n"
    assert verdicts(body.encode(), EXACT, form) == expected
    assert problems_of(f'{{"count":{text}}}'.encode(), EXACT) == expected.get(0, [])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"[1]", [("not_an_object", None)]),
        (b"null", [("not_an_object", None)]),
        (b'"text"', [("not_an_object", None)]),
        (b"", [("invalid_json", None)]),
        (b'{"a":1', [("invalid_json", None)]),
        (b'{"a":"\xff"}', [("invalid_json", None)]),
        (json.dumps(GOOD | {"x": "\ud800"}).encode(), [("invalid_json", None)]),
        (json.dumps(GOOD | {"x": float("nan")}).encode(), [("not_finite", None)]),
        (json.dumps(GOOD | {"timestamp": 5}).encode(), [("invalid_type", "timestamp")]),
        (json.dumps(GOOD | {"timestamp": "2026-05-06"}).encode(), [("invalid_timestamp", "timestamp")]),
        (json.dumps(GOOD).encode()[:-1] + b',"val\\u0075e":1}', [("duplicate_key", "value")]),
        (
            b'{"x":{"a":1,"a":2},"value":"1","timestamp":"no"}',
            [
                ("duplicate_key", None),
                ("invalid_timestamp", "timestamp"),
                ("missing_field", "machine_data_point_config_id"),
                ("invalid_type", "value"),
            ],
        ),
        (b"{" + b" " * RECORD_BYTES_MAX + b"}", [("too_long", None)]),
        (b'{"NaN' + b'\\"' * 1_000_000, [("invalid_json", None)]),
        (b'{"' + b"[" * 100 + b'\\"' * 1_000_000, [("invalid_json", None)]),
    ],
    ids=lambda value: value[:30].decode(errors="replace") if isinstance(value, bytes) else None,
)
def test_all_problems_are_reported_in_order(raw: bytes, expected: list[tuple[str, str | None]]) -> None:
    assert problems_of(raw) == expected


@pytest.mark.parametrize(("levels", "codes"), [(DEPTH_MAX - 1, []), (DEPTH_MAX, ["too_deep"]), (5_000, ["too_deep"])])
def test_a_record_is_nested_at_most_as_deep_as_allowed(levels: int, codes: list[str]) -> None:
    nested = "[" * levels + "]" * levels
    # Brackets in strings are not nesting.
    raw = json.dumps(record(x="{[" * 100, y="Y")).replace('"Y"', nested).encode()
    assert [code for code, _ in problems_of(raw)] == codes
    assert verdicts(raw, CONTRACT) == ({0: [("too_deep", None)]} if codes else {})


def test_undeclared_keys_are_named_where_none_are_allowed() -> None:
    assert problems_of(json.dumps(GOOD | {"a": 1, "b": 2}).encode(), STRICT) == [
        ("extra_field", "a"),
        ("extra_field", "b"),
    ]


def test_undeclared_keys_are_not_repeated_at_any_length_or_number() -> None:
    raw = json.dumps(GOOD | {f"{number}{'x' * 10_000}": 1 for number in range(100)}).encode()
    found = reader_of(STRICT).problems(raw)
    assert len(found) == EXTRA_PROBLEMS_MAX
    assert max(len(each.message) for each in found) < KEY_CHARACTERS_MAX + 50


def test_two_records_of_one_fault_share_its_words() -> None:
    first, second = (reader_of(CONTRACT).problems(json.dumps(record(value=value)).encode()) for value in ("1", "2"))
    assert first is second
