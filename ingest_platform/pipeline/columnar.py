"""Parquet and Arrow IPC as pieces of records. Only pyarrow reads them, with limits on what they declare.

Which columns a field takes: strings (also dictionary-encoded) for strings and JSON objects; integers, floats and
decimals for numbers; booleans; and for timestamps, strings or timestamps with a zone. A timestamp without a zone is
laid out without one, and so is an `invalid_timestamp`. A null is a missing field. Whatever the columns let doubt is
laid out as a JSON object and judged like one.
"""

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest_platform.domain.contract import Field, Kind
from ingest_platform.domain.errors import Unreadable
from ingest_platform.pipeline.pieces import SENT_TYPES, Bad, Piece, object_as_json, object_text, whole_column
from ingest_platform.pipeline.records import RecordReader
from ingest_platform.pipeline.rules import integer_doubt

MIB = 1024 * 1024
ROWS_PER_PIECE = 65_536
# What a file may declare: a row group is held decoded, so its size is the memory that it takes.
ROWS_MAX = 100_000_000
COLUMNS_MAX = 1_000
ROW_GROUP_BYTES_MAX = 512 * MIB
FILE_BYTES_MAX = 8 * 1024 * MIB
# The footer's structures; honest ones are far smaller.
THRIFT_BYTES_MAX = 16 * MIB
THRIFT_ITEMS_MAX = 1_000_000
# A compressed file is put beside in memory up to here, then on disk: both formats are read from the end.
SPOOLED_BYTES = 16 * MIB
ARROW_FILE_MAGIC = b"ARROW1"
_encode = msgspec.json.Encoder(enc_hook=str).encode

# What pyarrow raises for bytes that are no such file, all told by the 743 files that were tried.
READ_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError)


def read_parquet(reader: RecordReader, stream: io.BufferedReader) -> Iterator[Piece]:
    """Read a Parquet file piece by piece. Raises Unreadable."""
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES) as file:
        shutil.copyfileobj(stream, file, MIB)
        try:
            yield from _read_parquet(reader, file)
        except READ_ERRORS as error:
            raise _damaged("Parquet") from error


def _read_parquet(reader: RecordReader, file: IO[bytes]) -> Iterator[Piece]:
    parquet = pq.ParquetFile(
        file,
        pre_buffer=False,
        page_checksum_verification=True,
        thrift_string_size_limit=THRIFT_BYTES_MAX,
        thrift_container_size_limit=THRIFT_ITEMS_MAX,
    )
    _gate(parquet.metadata)
    names = parquet.schema_arrow.names
    _look_at_names(names)
    declared = [each.name for each in reader.contract.fields if each.name in names]
    if reader.contract.whole is not None:
        declared = list(names)
    if not declared:
        for batch_rows in _batches_of(parquet.metadata.num_rows):
            yield _piece(reader, pa.record_batch({"": pa.nulls(batch_rows)}), names)
        return
    for batch in parquet.iter_batches(batch_size=ROWS_PER_PIECE, columns=declared, use_threads=False):
        yield _piece(reader, batch, names)


def _batches_of(rows: int) -> Iterator[int]:
    for begin in range(0, rows, ROWS_PER_PIECE):
        yield min(ROWS_PER_PIECE, rows - begin)


def _gate(metadata: pq.FileMetaData) -> None:
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    sizes = [group.total_byte_size for group in groups]
    if metadata.num_columns > COLUMNS_MAX:
        raise Unreadable(f"There are more than {COLUMNS_MAX} columns.", code="too_large")
    if metadata.num_rows > ROWS_MAX or any(group.num_rows > ROWS_MAX for group in groups):
        raise Unreadable(f"There are more than {ROWS_MAX} rows.", code="too_large")
    if sum(sizes) > FILE_BYTES_MAX or max(sizes, default=0) > ROW_GROUP_BYTES_MAX:
        message = (
            f"The columns, once decompressed, are larger than {FILE_BYTES_MAX} bytes, "
            f"or those of one row group larger than {ROW_GROUP_BYTES_MAX}."
        )
        raise Unreadable(message, code="too_large")


def _look_at_names(names: Sequence[str]) -> None:
    if len(names) > COLUMNS_MAX:
        raise Unreadable(f"There are more than {COLUMNS_MAX} columns.", code="too_large")
    if len(set(names)) != len(names):
        raise Unreadable("Two columns have the same name.", code="duplicate_key")


def read_arrow(reader: RecordReader, stream: io.BufferedReader) -> Iterator[Piece]:
    """Read an Arrow IPC file or stream piece by piece. Raises Unreadable."""
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES) as file:
        shutil.copyfileobj(stream, file, MIB)
        try:
            for batch in _arrow_batches(file):
                _look_at_names(batch.schema.names)
                for begin in range(0, batch.num_rows, ROWS_PER_PIECE):
                    yield _piece(reader, batch.slice(begin, ROWS_PER_PIECE), batch.schema.names)
        except READ_ERRORS as error:
            raise _damaged("Arrow") from error


def _arrow_batches(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    file.seek(0)
    is_file = file.read(len(ARROW_FILE_MAGIC)) == ARROW_FILE_MAGIC
    file.seek(0)
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if not is_file:
        batches: Iterator[pa.RecordBatch] = iter(pa.ipc.open_stream(file, options=options))
    else:
        opened = pa.ipc.open_file(file, options=options)
        batches = (opened.get_batch(place) for place in range(opened.num_record_batches))
    for batch in batches:
        # Offsets and lengths in the file are believed by everything that comes after.
        batch.validate(full=True)
        yield batch


def _damaged(name: str) -> Unreadable:
    return Unreadable(f"The bytes are no {name} file, or a damaged one.", code="unreadable")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A field's column: its values as sent, the rows that only their JSON can judge, and how a value is laid out."""

    values: pl.Series
    doubted: pl.Series
    as_json: Callable[[int], str | None]


def _piece(reader: RecordReader, batch: pa.RecordBatch, names: Sequence[str]) -> Piece:
    # Strings read from Parquet were never looked at; Polars believes that they are UTF-8.
    batch.validate(full=True)
    columns = {each.name: _column(each, batch) for each in reader.contract.fields}
    others = [name for name in names if name not in columns]
    extras = others if not reader.contract.extra_allowed else []
    kept = _others(batch.select(others)) if reader.contract.whole is not None else None

    def raw(row: int) -> bytes:
        beside = dict.fromkeys(extras, "null") if kept is None else kept[row]
        cells = {name: column.as_json(row) for name, column in columns.items()} | beside
        members = (f"{json.dumps(name)}:{cell}" for name, cell in cells.items() if cell is not None)
        return ("{" + ",".join(members) + "}").encode(errors="replace")

    doubted = np.full(batch.num_rows, bool(extras))
    for column in columns.values():
        doubted |= column.doubted.to_numpy()
    bad: Bad = {row: found for row in np.flatnonzero(doubted).tolist() if (found := reader.problems(raw(row)))}
    positions = np.delete(np.arange(batch.num_rows, dtype=np.int64), sorted(bad))
    frame = pl.DataFrame([column.values for column in columns.values()])
    if kept is not None:
        frame = frame.with_columns(whole_column(reader, [raw(row).decode() for row in range(batch.num_rows)]))
    return Piece(columns=frame[positions], positions=positions, bad=bad, count=batch.num_rows, raw=raw)


def _others(batch: pa.RecordBatch) -> "list[dict[str, str]]":
    """Lay out the columns that the contract does not name, a null as a missing member."""
    values = {
        name: _written(array) if pa.types.is_timestamp(array.type) else array.to_pylist()
        for name, array in zip(batch.schema.names, batch.columns, strict=True)
    }
    return [
        {name: _encode(column[row]).decode() for name, column in values.items() if column[row] is not None}
        for row in range(batch.num_rows)
    ]


def _column(each: Field, batch: pa.RecordBatch) -> _Column:
    array = batch.column(each.name) if each.name in batch.schema.names else pa.nulls(batch.num_rows)
    if pa.types.is_null(array.type):
        return _blank(each, batch.num_rows)
    return _present(each, array.dictionary_decode() if pa.types.is_dictionary(array.type) else array)


def _present(each: Field, array: pa.Array) -> _Column:
    kind = array.type
    if each.kind is Kind.NUMBER and _is_number(kind):
        return _numbers(each, array)
    if each.kind is Kind.BOOLEAN and pa.types.is_boolean(kind):
        return _booleans(each, array)
    if each.kind is Kind.TIMESTAMP and pa.types.is_timestamp(kind):
        return _texts(each, pa.array(_written(array), type=pa.large_string()))
    if each.kind in {Kind.STRING, Kind.TIMESTAMP, Kind.OBJECT} and _is_text(kind):
        return _texts(each, array.cast(pa.large_string()))
    return _wrong(each, array)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _blank(each: Field, rows: int) -> _Column:
    return _Column(
        values=pl.repeat(None, rows, dtype=SENT_TYPES[each.kind], eager=True).alias(each.name),
        doubted=pl.repeat(each.required, rows, dtype=pl.Boolean, eager=True),
        as_json=lambda _: None,
    )


def _numbers(each: Field, array: pa.Array) -> _Column:
    # safe=False: integers beyond 2^53 become the nearest double, as they do in JSON; the doubt finds them where not.
    values = _series(each, pc.cast(array, pa.float64(), safe=False))
    plain = values.is_finite() & (values.abs() < integer_doubt(each))
    return _Column(
        values=values,
        doubted=~plain.fill_null(not each.required),
        as_json=lambda row: _number_as_json(array[row].as_py()),
    )


def _number_as_json(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        # NaN and infinities too: no JSON, but that is what was sent.
        return json.dumps(value)
    return str(value)


def _booleans(each: Field, array: pa.Array) -> _Column:
    values = _series(each, array)
    words = {True: "true", False: "false", None: None}
    return _Column(values=values, doubted=_absent(each, values), as_json=lambda row: words[values[row]])


def _texts(each: Field, array: pa.Array) -> _Column:
    sent = values = _series(each, array)
    if each.kind is Kind.OBJECT:
        values = values.to_frame().select(object_text(pl.col(each.name)).alias(each.name)).to_series()
    absent = _absent(each, values)
    doubted = absent | sent.is_not_null() if each.kind is Kind.OBJECT else absent
    return _Column(values=values, doubted=doubted, as_json=lambda row: _text_as_json(each.kind, sent[row]))


def _absent(each: Field, values: pl.Series) -> pl.Series:
    if each.required:
        return values.is_null()
    return pl.repeat(value=False, n=len(values), dtype=pl.Boolean, eager=True)


def _text_as_json(kind: Kind, text: str | None) -> str | None:
    if text is None:
        return None
    return object_as_json(text) if kind is Kind.OBJECT else json.dumps(text, ensure_ascii=False)


def _wrong(each: Field, array: pa.Array) -> _Column:
    """Take a column of a type that the field does not have: whatever is not null is of the wrong type."""
    blank = _blank(each, len(array))
    absent = pl.Series(array.is_null().to_numpy(zero_copy_only=False), dtype=pl.Boolean)
    return _Column(
        values=blank.values, doubted=~absent | each.required, as_json=lambda row: _wrong_as_json(each.kind, array[row])
    )


def _wrong_as_json(kind: Kind, scalar: pa.Scalar) -> str | None:
    """Lay out a value that is wrong for the field such that it is wrong in JSON too."""
    if not scalar.is_valid:
        return None
    try:
        value = scalar.as_py()
    except (*READ_ERRORS, ArithmeticError):
        value = str(scalar.type)
    if isinstance(value, bool | int | float | str) and not _is_right(kind, value):
        return json.dumps(value, ensure_ascii=False)
    # An array is right for no field.
    return json.dumps([str(value)])


def _is_right(kind: Kind, value: object) -> bool:
    if isinstance(value, bool):
        return kind is Kind.BOOLEAN
    if isinstance(value, str):
        return kind in {Kind.STRING, Kind.TIMESTAMP}
    return kind is Kind.NUMBER


def _series(each: Field, array: pa.Array) -> pl.Series:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series.cast(SENT_TYPES[each.kind]).alias(each.name)


def _written(array: pa.TimestampArray) -> "list[str | None]":
    """Write timestamps as strings, with Z if they are instants. numpy writes any year; others fail beyond 9999."""
    unit, zone = array.type.unit, array.type.tz
    numbers = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    suffix = "Z" if zone is not None else ""
    written = np.datetime_as_string(numbers.view(f"datetime64[{unit}]")).tolist()
    valid = array.is_valid().to_numpy(zero_copy_only=False).tolist()
    return [text + suffix if good else None for text, good in zip(written, valid, strict=True)]
