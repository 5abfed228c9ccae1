"""Parquet and Arrow: which columns are what, and the limits on what a file declares."""

import io
import json
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.machine_data.contract import CONTRACT
from ingest_platform.pipeline import columnar
from ingest_platform_tests.pipeline.sent import CONFIG_ID, GOOD, faults, parsed, verdicts

INSTANT = "2026-05-06T10:15:00Z"


def arrow(table: pa.Table, *, stream: bool = False) -> bytes:
    buffer = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def parquet(table: pa.Table, **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def readings(**columns: object) -> pa.Table:
    """Make a table of good readings with some columns in the place of others."""
    given = {name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in columns.items()}
    rows = len(next(iter(given.values())))
    return pa.table({name: given.pop(name, pa.array([value] * rows)) for name, value in GOOD.items()} | given)


def values_of(table: pa.Table) -> list[object]:
    """Read the values of readings, the reasons of those rejected in their place."""
    (frame,) = parsed(arrow(table), CONTRACT, Format.ARROW)
    found: dict[int, object] = {each.record_index: each.problems[0].code for each in frame.rejections}
    found |= dict(frame.frame.select("record_index", "value").rows())
    return [found[index] for index in range(table.num_rows)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1.5, float("nan"), float("inf"), None]), [1.5, "not_finite", "not_finite", "missing_field"]),
        (pa.array([1, -(2**63), 2**63 - 1, None]), [1.0, -(2.0**63), 2.0**63, "missing_field"]),
        (pa.array([1, 2**63, 2**64 - 1], pa.uint64()), [1.0, "not_finite", "not_finite"]),
        (pa.array([1, -1], pa.int8()), [1.0, -1.0]),
        (pa.array([1.5], pa.float16()), [1.5]),
        (pa.array([Decimal("12.50"), Decimal("-1.00")]), [12.5, -1.0]),
        (pa.array([Decimal(10**20), Decimal(5)]), ["not_finite", 5.0]),
        (pa.array([Decimal("100000000000000000000.5")]), [1e20]),
        (pa.array(["12.5", None]), ["invalid_type", "missing_field"]),
        (pa.array([True, None]), ["invalid_type", "missing_field"]),
        (pa.array([b"1"]), ["invalid_type"]),
        (pa.array([[1.5]]), ["invalid_type"]),
        (pa.array([{"a": 1}]), ["invalid_type"]),
        (pa.array([date(2026, 5, 6)]), ["invalid_type"]),
        (pa.nulls(2), ["missing_field", "missing_field"]),
        (pa.array([1.5, 2.5]).dictionary_encode(), [1.5, 2.5]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_a_number_comes_in_columns_of_numbers(column: pa.Array, expected: list[object]) -> None:
    assert values_of(readings(value=column)) == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["2026-05-06T10:15:00.5+02:00", "no"]), ["2026-05-06T10:15:00.5+02:00", "invalid_timestamp"]),
        (pa.array([0, None], pa.timestamp("us", "UTC")), ["1970-01-01T00:00:00.000000Z", "missing_field"]),
        (pa.array([1_500], pa.timestamp("ms", "UTC")), ["1970-01-01T00:00:01.500Z"]),
        (pa.array([-1], pa.timestamp("ns", "Europe/Berlin")), ["1969-12-31T23:59:59.999999999Z"]),
        (pa.array([2**62, -(2**62)], pa.timestamp("s", "UTC")), ["invalid_timestamp", "invalid_timestamp"]),
        (pa.array([datetime(2026, 5, 6, 10, 15)]), ["invalid_timestamp"]),  # noqa: DTZ001 - a naive one is the case.
        (pa.array([date(2026, 5, 6)]), ["invalid_type"]),
        (pa.array([1778062500]), ["invalid_type"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)  # fmt: skip
def test_a_timestamp_comes_as_text_or_with_a_zone(column: pa.Array, expected: list[str]) -> None:
    body = arrow(readings(timestamp=column))
    found = {index: each[0][0] for index, each in verdicts(body, CONTRACT, Format.ARROW).items()}
    (frame,) = parsed(body, CONTRACT, Format.ARROW)
    sent = dict(frame.frame.select("record_index", "timestamp").rows())
    assert [found.get(index) or sent[index] for index in range(len(expected))] == expected


def test_booleans_objects_and_texts_of_any_encoding_are_read() -> None:
    contract = Contract(
        name="other",
        extra_allowed=False,
        fields=(
            Field(name="on", kind=Kind.BOOLEAN),
            Field(name="event", kind=Kind.OBJECT),
            Field(name="name", kind=Kind.STRING, required=False),
        ),
    )
    table = pa.table(
        {
            "on": pa.array([True, False, None, True]),
            "event": pa.array(['{"a":1}', '{"a":1,"a":2}', "{}", "[]"]),
            "name": pa.array(["é", None, "x", "y"]).dictionary_encode(),
        }
    )
    (frame,) = parsed(arrow(table), contract, Format.ARROW)
    assert frame.frame.rows() == [(0, 0, True, '{"a":1}', "é")]
    assert faults(frame.rejections) == {
        1: [("duplicate_key", "event")],
        2: [("missing_field", "on")],
        3: [("invalid_type", "event")],
    }
    (frame,) = parsed(arrow(table.append_column("more", pa.nulls(4))), contract, Format.ARROW)
    assert [each.problems[0].field for each in frame.rejections] == ["more"] * 4


OBJECT_CELLS = {
    '{"a": 1.50}': [],
    ' {"a":[ ]}\n': [],
    "null": [],
    " null ": [],
    "[1]": [("invalid_type", "event")],
    "{": [("invalid_type", "event")],
    "x": [("invalid_type", "event")],
    '"{}"': [("invalid_type", "event")],
    '{"a":1,"a":2}': [("duplicate_key", "event")],
    '{"a":NaN}': [("not_finite", "event")],
}


@pytest.mark.parametrize("form", [Format.CSV, Format.PARQUET, Format.ARROW, Format.NDJSON])
def test_an_object_lies_in_a_cell_as_its_json(form: Format) -> None:
    fields = (Field(name="n", kind=Kind.NUMBER), Field(name="event", kind=Kind.OBJECT, required=False, nullable=True))
    contract = Contract(name="other", extra_allowed=False, fields=fields)
    cells = list(OBJECT_CELLS)
    table = pa.table({"n": range(len(cells)), "event": cells})
    quoted = (cell.replace('"', '""') for cell in cells)
    written = {
        Format.CSV: "n,event\n" + "".join(f'{number},"{cell}"\n' for number, cell in enumerate(quoted)),
        Format.NDJSON: "".join(f'{{"n":{number},"event":{cell.strip()}}}\n' for number, cell in enumerate(cells)),
    }
    content = {Format.PARQUET: parquet, Format.ARROW: arrow}[form](table) if form not in written else b""
    (frame,) = parsed(content or written[form].encode(), contract, form)
    assert frame.frame["event"].to_list() == ['{"a": 1.50}', '{"a":[ ]}', None, None]
    if form is not Format.NDJSON:
        assert faults(frame.rejections) == {
            index: problems for index, problems in enumerate(OBJECT_CELLS.values()) if problems
        }


def test_a_stream_is_read_like_a_file() -> None:
    (frame,) = parsed(arrow(readings(value=[1.0, 2.0]), stream=True), CONTRACT, Format.ARROW)
    assert frame.frame["value"].to_list() == [1.0, 2.0]


def test_a_rejected_row_is_laid_out_as_a_json_object() -> None:
    table = readings(value=pa.array(["12.5"]), timestamp=pa.array([0], pa.timestamp("ms", "UTC")), note=["x"])
    (frame,) = parsed(parquet(table), CONTRACT, Format.PARQUET)
    assert json.loads(frame.rejections[0].raw) == {
        "timestamp": "1970-01-01T00:00:00.000Z",
        "machine_data_point_config_id": CONFIG_ID,
        "value": "12.5",
    }


def test_columns_that_are_not_there_are_missing_in_every_row() -> None:
    found = verdicts(parquet(pa.table({"x": [1, 2]})), CONTRACT, Format.PARQUET)
    assert {index: [code for code, _ in each] for index, each in found.items()} == dict.fromkeys(
        range(2), ["missing_field"] * 3
    )


def test_pieces_continue_the_index() -> None:
    rows = columnar.ROWS_PER_PIECE * 2 + 5
    body = parquet(readings(value=[float(number) for number in range(rows)]), row_group_size=50_000)
    frames = parsed(body, CONTRACT, Format.PARQUET)
    assert [row for frame in frames for row in frame.frame.select("record_index", "value").rows()] == [
        (number, float(number)) for number in range(rows)
    ]


def test_a_damaged_page_is_found_by_its_checksum() -> None:
    body = bytearray(
        parquet(readings(value=[float(number) for number in range(1000)]), write_page_checksum=True, compression="none")
    )
    body[len(body) // 2] ^= 0xFF
    with pytest.raises(Unreadable):
        parsed(bytes(body), CONTRACT, Format.PARQUET)


def test_what_a_file_declares_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    body = parquet(readings(value=[1.0] * 100))
    for limit in ("ROWS_MAX", "COLUMNS_MAX", "ROW_GROUP_BYTES_MAX", "FILE_BYTES_MAX"):
        with monkeypatch.context() as patched, pytest.raises(Unreadable) as raised:
            patched.setattr(columnar, limit, 1)
            parsed(body, CONTRACT, Format.PARQUET)
        assert raised.value.code == "too_large"
