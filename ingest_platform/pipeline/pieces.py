"""Some records of one submission decoded together: columns of the good ones, problems of the others.

Where the bytes come from (`documents.py`, `tabular.py`, `columnar.py`) is not known here.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from ingest_platform.domain.contract import Field, Kind
from ingest_platform.domain.rejection import Problem
from ingest_platform.pipeline.nested import count_quotes, look_at
from ingest_platform.pipeline.records import BLANKS, DECODE_ERRORS, RecordReader
from ingest_platform.pipeline.rules import integer_doubt

Positions = npt.NDArray[np.int64]
Bad = dict[int, tuple[Problem, ...]]

SENT_TYPES: dict[Kind, pl.DataType] = {
    Kind.STRING: pl.String(),
    Kind.NUMBER: pl.Float64(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.TIMESTAMP: pl.String(),
    Kind.OBJECT: pl.String(),
}
_EMPTY, _NULL = b"{}", b"null"
# No decoder takes it, so a line that is no UTF-8 can stand in its place without being decoded.
_NO_JSON = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Records decoded together. Positions count from 0 within the piece.

    `columns` has the fields, as sent, of the records at `positions` (ascending); `bad` the problems of all others.
    """

    columns: pl.DataFrame
    positions: Positions
    bad: Bad
    count: int
    raw: Callable[[int], bytes]


def decode_lines(reader: RecordReader, lines: list[bytes]) -> Piece:
    """Decode JSON records, one in each entry; blank ones are no records."""
    joined = b"\n".join(lines)
    decoded, bad = _decode_good(reader, _in_utf8(lines, joined))
    if any(not lines[position].strip(BLANKS) for position in bad):
        return decode_lines(reader, [line for line in lines if line.strip(BLANKS)])
    positions = np.delete(np.arange(len(lines), dtype=np.int64), sorted(bad))
    columns, objects = _columns(reader, decoded)
    doubted = _doubted(reader, columns)
    looks = [look_at(each) for each in objects.values()]
    for look in looks:
        doubted[look.unsure] = True
    quotes = joined.count(b'"') - sum(lines[position].count(b'"') for position in bad)
    if quotes != _quotes_of_fields(columns, objects) + sum(look.quotes for look in looks):
        doubted[_with_more_quotes(reader, [lines[each] for each in positions.tolist()], columns, objects)] = True
    if reader.contract.whole is not None:
        # Of a good record; which ones are good besides their fields is found out below.
        texts = [lines[position].strip(BLANKS).decode() for position in positions.tolist()]
        columns = columns.with_columns(whole_column(reader, texts))
    problems = _problems_at(reader, lines, positions[doubted].tolist())
    if problems:
        good = ~np.isin(positions, list(problems))
        columns, positions = columns.filter(pl.Series(good)), positions[good]
    for position in bad:
        problems[position] = reader.problems(lines[position])
    assert len(positions) + len(problems) == len(lines)
    return Piece(
        columns=_without_nulls(reader, columns),
        positions=positions,
        bad=problems,
        count=len(lines),
        raw=lambda position: lines[position].strip(BLANKS),
    )


def _in_utf8(lines: list[bytes], joined: bytes) -> list[bytes]:
    # The decoder does not look into what it skips, so it would let broken UTF-8 pass there.
    if joined.isascii() or is_utf8(joined):
        return lines
    return [line if is_utf8(line) else _NO_JSON for line in lines]


def object_text(column: pl.Expr) -> pl.Expr:
    """Read JSON objects that lie in a table's cells as text: blanks around one are not part of it, a null is none."""
    bare = column.str.strip_chars(BLANKS.decode())
    return pl.when(bare != "null").then(bare)


def object_as_json(cell: str) -> str:
    """Lay out such a cell: as the JSON that it is, or, if it is none, as a string, which is right for no object.

    >>> object_as_json("{"), object_as_json('{"a": 1}')
    ('"{"', '{"a": 1}')
    """
    try:
        json.loads(cell)
    except (ValueError, RecursionError):
        return json.dumps(cell, ensure_ascii=False)
    return cell


def is_utf8(text: bytes) -> bool:
    """Tell whether bytes are UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode_good(reader: RecordReader, lines: Sequence[bytes]) -> tuple[list[object], list[int]]:
    decoded: list[object] = []
    bad: list[int] = []
    rest = iter(lines)
    # `map` runs without the interpreter until a line fails, and goes on behind it.
    while True:
        try:
            decoded.extend(map(reader.decode, rest))
        except DECODE_ERRORS:
            bad.append(len(decoded) + len(bad))
        else:
            return decoded, bad


def _problems_at(reader: RecordReader, lines: Sequence[bytes], positions: Sequence[int]) -> Bad:
    return {position: found for position in positions if (found := reader.problems(lines[position]))}


def _columns(reader: RecordReader, decoded: Sequence[object]) -> tuple[pl.DataFrame, dict[str, list[bytes]]]:
    """Turn records into columns, and give the text of each object in them; one that is left out is empty."""
    columns: list[pl.Series] = []
    objects: dict[str, list[bytes]] = {}
    for field in reader.contract.fields:
        values = list(map(reader.getters[field.name], decoded))
        if field.kind is Kind.OBJECT:
            objects[field.name], values = _texts(field, values)
        columns.append(pl.Series(field.name, values, dtype=SENT_TYPES[field.kind], strict=True))
    return pl.DataFrame(columns), objects


def _texts(field: Field, values: Sequence[msgspec.Raw | None]) -> tuple[list[bytes], Sequence[str | None]]:
    """Copy objects, as a Raw is a view of the piece's bytes, and read them; their lines were found to be UTF-8."""
    if field.required and not field.nullable:
        # Without the interpreter, as nearly all time goes to such loops.
        texts = list(map(bytes, cast("Sequence[msgspec.Raw]", values)))
        return texts, list(map(bytes.decode, texts))
    given = [None if value is None else bytes(value) for value in values]
    # There is nothing to be found in one that is left out, or null where one may be (which is turned to one later).
    empty = {None, _NULL} if field.nullable else {None}
    texts = [_EMPTY if text is None or text in empty else text for text in given]
    return texts, [None if text is None else text.decode() for text in given]


def _quotes_of(column: pl.Series, objects: Mapping[str, list[bytes]]) -> int:
    """Count the quotes that a field takes where it is given, without those in an object: its key's and a string's."""
    return 2 if column.name in objects or column.dtype != pl.String else 4


def _quotes_of_fields(columns: pl.DataFrame, objects: Mapping[str, list[bytes]]) -> int:
    """Count the quotes that records have at least; a repeated or undeclared key, or an escaped quote, makes more."""
    return sum((len(column) - column.null_count()) * _quotes_of(column, objects) for column in columns.get_columns())


def _with_more_quotes(
    reader: RecordReader, lines: Sequence[bytes], columns: pl.DataFrame, objects: Mapping[str, list[bytes]]
) -> list[int]:
    """Find records that may have something in them that no column shows."""
    known = np.zeros(len(lines), dtype=np.int64)
    for column in columns.get_columns():
        known += column.is_not_null().to_numpy() * _quotes_of(column, objects)
    for texts in objects.values():
        known += np.fromiter(map(count_quotes, texts), dtype=np.int64, count=len(texts))
    quotes = np.fromiter(map(count_quotes, lines), dtype=np.int64, count=len(lines))
    return [place for place in np.flatnonzero(quotes != known).tolist() if reader.doubtful(lines[place])]


def _doubted(reader: RecordReader, columns: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Find records whose numbers only their text can judge."""
    doubted = np.zeros(columns.height, dtype=np.bool_)
    for field in reader.contract.fields:
        column = columns[field.name]
        doubt = integer_doubt(field)
        if field.kind is Kind.NUMBER and _reaches(column, doubt):
            doubted |= (column.abs() >= doubt).fill_null(value=False).to_numpy()
    return doubted


def _reaches(column: pl.Series, doubt: float) -> bool:
    least, most = column.min(), column.max()
    assert least is None or isinstance(least, float)
    assert most is None or isinstance(most, float)
    return least is not None and most is not None and max(-least, most) >= doubt


def _without_nulls(reader: RecordReader, columns: pl.DataFrame) -> pl.DataFrame:
    """Turn the text of a JSON null, where an object may be one, into a null."""
    nullable = [field.name for field in reader.contract.fields if field.kind is Kind.OBJECT and field.nullable]
    return columns.with_columns(pl.when(pl.col(name) != "null").then(pl.col(name)) for name in nullable)


def whole_column(reader: RecordReader, texts: Sequence[str]) -> pl.Series:
    """Make the column of whole records, for a contract that has one."""
    assert reader.contract.whole is not None
    return pl.Series(reader.contract.whole, texts, dtype=pl.String())


def no_columns(reader: RecordReader) -> pl.DataFrame:
    """Make an empty frame of a contract's fields as sent."""
    schema = {field.name: SENT_TYPES[field.kind] for field in reader.contract.fields}
    if reader.contract.whole is not None:
        schema[reader.contract.whole] = pl.String()
    return pl.DataFrame(schema=schema)
