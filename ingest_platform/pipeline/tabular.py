"""CSV (RFC 4180, UTF-8, a header row) as pieces of records; a cell has the type that the contract gives its column.

A number and an object are written as in JSON, a boolean `true` or `false`, an empty cell is a missing field. Whatever
the columns let doubt is laid out as a JSON object and judged like one, so that every format has one verdict. A row of
the wrong width or with a broken quote is that record's `invalid_format`; a quote that never ends makes the document
unreadable.
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ingest_platform.domain.contract import Field, Kind
from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.pipeline.pieces import Bad, Piece, object_as_json, object_text, whole_column
from ingest_platform.pipeline.records import RecordReader
from ingest_platform.pipeline.rules import integer_doubt, problem

ROWS_PER_PIECE = 16_384
# The header of a table that somebody means; wider ones only cost memory.
COLUMNS_MAX = 1_000
JSON_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_json_number = re.compile(JSON_NUMBER).fullmatch


class _Lines:
    """The lines of a text, remembering those of the present row, whether they are UTF-8, and whether it has ended."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.row: list[str] = []
        self.is_utf8 = True
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            if not line.isascii() and not _encodable(line):
                self.is_utf8 = False
            self.row.append(line)
            yield line
        self.ended = True

    def begin_row(self) -> None:
        """Forget the lines of the last row."""
        self.row.clear()
        self.is_utf8 = True

    def sent(self) -> bytes:
        """Give the bytes of the row as sent."""
        return "".join(self.row).encode(errors="surrogateescape").rstrip(b"\r\n")


@dataclass(slots=True)
class _Rows:
    """Rows gathered for a piece: cells by position, and the ones that are no rows of the table."""

    cells: list[list[str]] = field(default_factory=list[list[str]])
    positions: list[int] = field(default_factory=list[int])
    broken: dict[int, tuple[Problem, bytes]] = field(default_factory=dict[int, tuple[Problem, bytes]])
    count: int = 0

    def refuse(self, fault: Problem, lines: _Lines) -> None:
        """Take the present row as one that is none of the table."""
        self.broken[self.count] = (fault, lines.sent())
        self.count += 1


def read_csv(reader: RecordReader, stream: io.BufferedReader) -> Iterator[Piece]:
    """Read a CSV document piece by piece. Raises Unreadable."""
    # Bytes that are no UTF-8 become lone surrogates, so that they harm their own row only.
    lines = _Lines(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=""))
    rows = csv.reader(lines, strict=True)
    header = _header(rows, lines)
    while True:
        gathered = _gather(rows, lines, width=len(header))
        if gathered.count == 0:
            return
        yield _piece(reader, header, gathered)


def _header(rows: Iterator[list[str]], lines: _Lines) -> list[str]:
    try:
        header = next((row for row in rows if row), list[str]())
    except csv.Error as error:
        raise Unreadable("The header row can't be read.", code="invalid_csv") from error
    if not lines.is_utf8:
        raise Unreadable("The header row is not UTF-8.", code="invalid_csv")
    lines.begin_row()
    if len(header) > COLUMNS_MAX:
        raise Unreadable(f"There are more than {COLUMNS_MAX} columns.", code="too_large")
    if len(set(header)) != len(header):
        raise Unreadable("Two columns have the same name.", code="duplicate_key")
    return header


def _gather(rows: Iterator[list[str]], lines: _Lines, *, width: int) -> _Rows:
    gathered = _Rows()
    while gathered.count < ROWS_PER_PIECE and not lines.ended:
        try:
            _take(gathered, rows, lines, width=width)
        except csv.Error as error:
            if lines.ended:
                raise Unreadable("The document ends within a quoted cell.", code="invalid_csv") from error
            # The reader begins anew with the next line.
            gathered.refuse(_BROKEN_ROW, lines)
            lines.begin_row()
    return gathered


def _take(gathered: _Rows, rows: Iterator[list[str]], lines: _Lines, *, width: int) -> None:
    for cells in itertools.islice(rows, ROWS_PER_PIECE - gathered.count):
        if not lines.is_utf8:
            gathered.refuse(_NOT_UTF8, lines)
        elif len(cells) == width:
            gathered.positions.append(gathered.count)
            gathered.cells.append(cells)
            gathered.count += 1
        elif cells:
            message = f"The row has {len(cells)} cells, but the header has {width}."
            gathered.refuse(problem(Code.INVALID_FORMAT, None, message), lines)
        lines.begin_row()


_BROKEN_ROW = problem(Code.INVALID_FORMAT, None, "The row is not valid CSV: something stands beside a quoted cell.")
_NOT_UTF8 = problem(Code.INVALID_JSON, None, "The row is not UTF-8.")


def _encodable(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _piece(reader: RecordReader, header: Sequence[str], rows: _Rows) -> Piece:
    texts = dict(zip(header, zip(*rows.cells, strict=True), strict=True)) if rows.cells else {}
    sent = pl.DataFrame(
        {each.name: texts.get(each.name, [""] * len(rows.cells)) for each in reader.contract.fields},
        schema={each.name: pl.String() for each in reader.contract.fields},
    )
    cells = sent.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)) for name in sent.columns)
    columns = cells.select(_typed(each) for each in reader.contract.fields)
    doubted = _doubted(reader, header, cells, columns)
    positions = np.array(rows.positions, dtype=np.int64)
    layout = _Layout(reader=reader, header=header)
    bad: Bad = {at: (fault,) for at, (fault, _) in rows.broken.items()}
    for place in np.flatnonzero(doubted).tolist():
        if found := reader.problems(layout.as_json(rows.cells[place])):
            bad[int(positions[place])] = found
    good = ~np.isin(positions, list(bad))
    if reader.contract.whole is not None:
        columns = columns.with_columns(whole_column(reader, [layout.as_json(cells).decode() for cells in rows.cells]))

    def raw(position: int) -> bytes:
        if position in rows.broken:
            return rows.broken[position][1]
        return layout.as_json(rows.cells[int(np.searchsorted(positions, position))])

    return Piece(
        columns=columns.filter(pl.Series(good, dtype=pl.Boolean)),
        positions=positions[good],
        bad=bad,
        count=rows.count,
        raw=raw,
    )


def _typed(each: Field) -> pl.Expr:
    cell = pl.col(each.name)
    match each.kind:
        case Kind.NUMBER:
            return cell.cast(pl.Float64, strict=False)
        case Kind.BOOLEAN:
            return pl.when(cell.is_in(["true", "false"])).then(cell == "true")
        case Kind.OBJECT:
            return object_text(cell)
        case Kind.STRING | Kind.TIMESTAMP:
            return cell


def _doubted(
    reader: RecordReader, header: Sequence[str], cells: pl.DataFrame, columns: pl.DataFrame
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Find rows that may have problems of types; their JSON decides."""
    extra = not reader.contract.extra_allowed and bool(set(header) - set(cells.columns))
    doubts = [pl.lit(value=extra)]
    for each in reader.contract.fields:
        typed, sent = columns[each.name], pl.col(each.name)
        if each.required:
            doubts.append(sent.is_null())
        if each.kind is Kind.NUMBER:
            plain = sent.str.contains(JSON_NUMBER) & typed.is_finite() & (typed.abs() < integer_doubt(each))
            doubts.append(sent.is_not_null() & ~plain.fill_null(value=False))
        elif each.kind is Kind.BOOLEAN:
            doubts.append(sent.is_not_null() & typed.is_null())
        elif each.kind is Kind.OBJECT:
            doubts.append(sent.is_not_null())
    verdict = cells.select(pl.any_horizontal(doubts).alias("doubted"))["doubted"].to_numpy()
    return np.broadcast_to(verdict, (cells.height,))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Rows of one header as JSON objects."""

    reader: RecordReader
    header: Sequence[str]

    def as_json(self, cells: Sequence[str]) -> bytes:
        """Lay out a row; empty cells are left out."""
        kinds = {each.name: each.kind for each in self.reader.contract.fields}
        members = (
            f"{json.dumps(name, ensure_ascii=False)}:{_cell_as_json(kinds.get(name), cell)}"
            for name, cell in zip(self.header, cells, strict=True)
            if cell
        )
        return ("{" + ",".join(members) + "}").encode()


def _cell_as_json(kind: Kind | None, cell: str) -> str:
    if kind is Kind.OBJECT:
        return object_as_json(cell)
    as_it_is = (kind is Kind.NUMBER and _json_number(cell)) or (kind is Kind.BOOLEAN and cell in {"true", "false"})
    return cell if as_it_is else json.dumps(cell, ensure_ascii=False)
