"""Some records of one submission decoded together: columns of the good ones, problems of the others.

Where the bytes come from (`documents.py`, `tabular.py`, `columnar.py`) is not known here.
"""

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ingest_platform.domain.contract import Field, Kind
from ingest_platform.domain.rejection import Problem
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
_count_quotes = operator.methodcaller("count", b'"')
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
    problems: Bad = {}
    # Exact for all lines at once: a record has at least this number of quotes, one with repeated keys has more.
    if joined.count(b'"') - sum(lines[position].count(b'"') for position in bad) != reader.quotes_min * len(decoded):
        quotes = np.fromiter(map(_count_quotes, lines), dtype=np.int64, count=len(lines))[positions]
        more = positions[quotes != reader.quotes_min].tolist()
        problems |= _problems_at(reader, lines, [position for position in more if reader.doubtful(lines[position])])
    columns = pl.DataFrame([_column(reader, field, decoded) for field in reader.contract.fields])
    problems |= _problems_at(reader, lines, positions[_doubted(reader, columns)].tolist())
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


def _column(reader: RecordReader, field: Field, decoded: Sequence[object]) -> pl.Series:
    values = list(map(reader.getters[field.name], decoded))
    if field.kind is Kind.OBJECT:
        # A Raw is a view of the piece's bytes; the line was found to be UTF-8.
        values = [None if value is None else bytes(value).decode() for value in values]
    return pl.Series(field.name, values, dtype=SENT_TYPES[field.kind], strict=True)


def _doubted(reader: RecordReader, columns: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Find records whose numbers or objects only their text can judge."""
    doubted = np.zeros(columns.height, dtype=np.bool_)
    for field in reader.contract.fields:
        column = columns[field.name]
        doubt = integer_doubt(field)
        if field.kind is Kind.NUMBER and _reaches(column, doubt):
            doubted |= (column.abs() >= doubt).fill_null(value=False).to_numpy()
        elif field.kind is Kind.OBJECT:
            doubted |= (~column.str.starts_with("{")).fill_null(value=False).to_numpy()
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


def no_columns(reader: RecordReader) -> pl.DataFrame:
    """Make an empty frame of a contract's fields as sent."""
    schema = {field.name: SENT_TYPES[field.kind] for field in reader.contract.fields}
    return pl.DataFrame(schema=schema)
