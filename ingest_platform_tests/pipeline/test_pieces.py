"""Lines decoded together: good ones as columns, the others by position, none lost."""

import json

import polars as pl
import pytest

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.feeds.machine_data.contract import CONTRACT
from ingest_platform.pipeline.pieces import decode_lines, is_utf8, no_columns
from ingest_platform.pipeline.records import reader_of
from ingest_platform_tests.pipeline.sent import GOOD, record

READER = reader_of(CONTRACT)


def raw(**changes: object) -> bytes:
    return json.dumps(record(**changes)).encode()


def test_good_lines_are_columns_and_the_others_keep_their_places() -> None:
    lines = [raw(value=0), b"{", raw(value=2), raw(value="3"), raw(value=4)]
    piece = decode_lines(READER, lines)
    assert piece.columns["value"].to_list() == [0.0, 2.0, 4.0]
    assert piece.positions.tolist() == [0, 2, 4]
    assert sorted(piece.bad) == [1, 3]
    assert [piece.raw(position) for position in range(piece.count)] == lines


@pytest.mark.parametrize("blank", [b"", b" ", b"\r", b"\t \r"])
def test_blank_lines_are_no_records(blank: bytes) -> None:
    piece = decode_lines(READER, [blank, raw(value=1), blank, b"{", blank, raw(value=2)])
    assert (piece.count, piece.positions.tolist(), list(piece.bad)) == (3, [0, 2], [1])
    assert decode_lines(READER, [blank]).count == 0


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (raw()[:-1] + b', "value": 1}', "duplicate_key"),
        (raw()[:-1] + b', "val\\u0075e": 1}', "duplicate_key"),
        (raw()[:-1] + b', "x": 1, "x" : 2}', "duplicate_key"),
        (raw()[:-1] + b', "x": [{"a": 1, "a": 2}]}', "duplicate_key"),
        (raw()[:-1] + b', "x": 1e999}', "not_finite"),
        (raw()[:-1] + b', "x": 9223372036854775808}', "not_finite"),
        (raw(value=2**63), "not_finite"),
        (raw(value=-(2**63) - 1), "not_finite"),
        (raw()[:-1] + b', "x": "\xff"}', "invalid_json"),
        (raw()[:-1] + b', "x": ' + b"[" * 64 + b"]" * 64 + b"}", "too_deep"),
    ],
)
def test_what_the_decoder_lets_pass_is_found_all_the_same(line: bytes, code: str) -> None:
    # Alone, and among lines whose quotes could make up for its own.
    for lines in ([line], [raw(), line, b"{}", raw(note='a "quote"', other={"a": [1]})]):
        piece = decode_lines(READER, lines)
        place = lines.index(line)
        assert [found.code for found in piece.bad[place]] == [code]
        assert place not in piece.positions


@pytest.mark.parametrize(
    "changes", [{"x": {"a": {"a": 1}}}, {"x": ":,\"'{}[]" * 9}, {"é": "\\ \x00"}, {"value": 2**63 - 1}]
)
def test_what_only_looks_doubtful_is_good(changes: dict[str, object]) -> None:
    assert decode_lines(READER, [raw(**changes), raw()]).bad == {}


def test_a_null_object_is_null_where_it_may_be() -> None:
    fields = (Field(name="a", kind=Kind.OBJECT, nullable=True), Field(name="b", kind=Kind.OBJECT, required=False))
    reader = reader_of(Contract(name="objects", fields=fields, extra_allowed=False))
    piece = decode_lines(reader, [b'{"a": null}', b'{"a": {"x": 1.50}, "b": {}}', b'{"a": {}, "b": null}'])
    assert piece.columns.rows() == [(None, None), ('{"x": 1.50}', "{}")]
    assert [found.field for found in piece.bad[2]] == ["b"]


def test_no_records_have_the_columns_all_the_same() -> None:
    assert no_columns(READER).schema == decode_lines(READER, [json.dumps(GOOD).encode()]).columns.schema
    assert no_columns(READER).schema["value"] == pl.Float64


def test_utf8_is_told_from_other_bytes() -> None:
    assert is_utf8("é".encode())
    assert not is_utf8("é".encode("latin-1"))
    assert not is_utf8(b"\xed\xa0\x80")
