"""Parse: a submission's bytes into frames of its records as sent, and rejections of those that are no such records.

The facts are kept as they came: nothing is coerced, missing is not null. Rules on values are `check.py`'s business.
What can't be read as a whole raises Unreadable: at once, or after some frames were yielded.
"""

import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from ingest_platform.domain.contract import Contract, column_of
from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.domain.submission import Encoding, Format, Submission
from ingest_platform.pipeline.columnar import read_arrow, read_parquet
from ingest_platform.pipeline.documents import (
    BATCH_RECORDS,
    DOCUMENT_BYTES_MAX,
    MIB,
    decompressed,
    iter_document,
    iter_lines,
    split_document,
    too_large,
)
from ingest_platform.pipeline.pieces import Piece, Positions, decode_lines, no_columns
from ingest_platform.pipeline.records import BLANKS, RECORD_BYTES_MAX, RecordReader, reader_of
from ingest_platform.pipeline.tabular import read_csv

# Frames large enough to check and stage at full speed, small enough for memory to stay flat: about 30 MB each.
FRAME_RECORDS = 250_000
# The limit of a dropped file, once decompressed.
BYTES_MAX = 4096 * MIB
# What is kept of a record that is larger than any may be.
OVERSIZE_KEPT_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFrame:
    """Records of one or several submissions.

    `frame` has `submission` (u32), `record_index` (i64) and the contract's fields (each under its `column_of`) as sent
    (strings, doubles, booleans), of the records that have the contract's types; `rejections` the others. `raw` gives a
    record's bytes as sent, by submission and index (as a JSON object, if it came as a row). `counts` is the number of
    records of each submission.
    """

    frame: pl.DataFrame
    rejections: list[Rejection]
    raw: Callable[[int, int], bytes]
    first_index: int
    count: int
    counts: Mapping[int, int]


class Form(Protocol):
    """How the records of a submission are written; a `Submission` is one of these."""

    @property
    def format(self) -> Format:
        """The format."""
        ...

    @property
    def encoding(self) -> Encoding:
        """The compression around it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A form by itself."""

    format: Format
    encoding: Encoding = Encoding.IDENTITY


def parse(
    submission: Form,
    ordinal: int,
    contract: Contract,
    envelope_key: str,
    source: BinaryIO | bytes,
    *,
    bytes_max: int = BYTES_MAX,
    frame_records: int = FRAME_RECORDS,
) -> Iterator[ParsedFrame]:
    """Read one submission, a frame at a time; `ordinal` is its number within its load.

    A JSON document may be the family's envelope or a bare array. Raises Unreadable, also when there are no records.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    reader = reader_of(contract)
    plain = decompressed(stream, submission.encoding, bytes_max=bytes_max)
    first = 0
    for group in _grouped(_pieces(reader, submission.format, plain, envelope_key), frame_records):
        parsed = _frame_of(group, ordinal, first)
        first += parsed.count
        yield parsed
    if first == 0:
        raise no_records()


def parse_many(
    submissions: Mapping[int, Submission], contract: Contract, *, envelope_key: str
) -> tuple[ParsedFrame, dict[int, Unreadable]]:
    """Read small JSON and NDJSON bodies together, by their numbers within the load; one that can't be read is apart."""
    reader = reader_of(contract)
    lines: list[bytes] = []
    starts: dict[int, int] = {}
    counts: dict[int, int] = {}
    unreadable: dict[int, Unreadable] = {}
    for ordinal, submission in submissions.items():
        try:
            records = records_of(submission, envelope_key)
        except Unreadable as error:
            unreadable[ordinal] = error
            continue
        starts[ordinal], counts[ordinal] = len(lines), len(records)
        lines += records
    pieces = [decode_lines(reader, lines[at : at + BATCH_RECORDS]) for at in range(0, len(lines), BATCH_RECORDS)]
    merged = _merge(pieces, no_columns(reader))
    ordinals = np.repeat(np.array(list(counts), dtype=np.uint32), list(counts.values()))
    indexes = np.concatenate([np.arange(count, dtype=np.int64) for count in counts.values()] or [np.arange(0)])
    parsed = ParsedFrame(
        frame=_numbered(merged, submissions=ordinals[merged.positions], indexes=indexes[merged.positions]),
        rejections=merged.rejections(ordinals, indexes),
        raw=lambda submission, index: merged.raw(starts[submission] + index),
        first_index=0,
        count=len(lines),
        counts=counts,
    )
    return parsed, unreadable


def parse_lines(records: Sequence[bytes], ordinal: int, contract: Contract) -> ParsedFrame:
    """Read records that were cut apart already; none of them may be blank."""
    return _frame_of([decode_lines(reader_of(contract), list(records))], ordinal, 0)


def records_of(submission: Submission, envelope_key: str) -> list[bytes]:
    """Cut a small JSON or NDJSON body, which is not compressed, into its records. Raises Unreadable."""
    assert submission.body is not None
    if submission.format is Format.NDJSON:
        lines = (line for part in iter_lines(io.BytesIO(submission.body)) for line in part)
        records = [line for line in lines if line.strip(BLANKS)]
    else:
        assert submission.format is Format.JSON, submission.format
        records = split_document(submission.body, envelope_key)
    if not records:
        raise no_records()
    return records


def no_records() -> Unreadable:
    """Word the end of a submission that has nothing in it."""
    return Unreadable("There are no records.", code="empty")


def _pieces(reader: RecordReader, form: Format, stream: io.BufferedReader, envelope_key: str) -> Iterator[Piece]:
    match form:
        case Format.NDJSON:
            return (decode_lines(reader, lines) for lines in iter_lines(stream))
        case Format.JSON:
            document = stream.read(DOCUMENT_BYTES_MAX + 1)
            if len(document) > DOCUMENT_BYTES_MAX:
                raise too_large(DOCUMENT_BYTES_MAX)
            return (decode_lines(reader, lines) for lines in iter_document(document, envelope_key))
        case Format.CSV:
            return read_csv(reader, stream)
        case Format.PARQUET:
            return read_parquet(reader, stream)
        case Format.ARROW:
            return read_arrow(reader, stream)


def _grouped(pieces: Iterable[Piece], records: int) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    count = 0
    for piece in pieces:
        group.append(piece)
        count += piece.count
        if count >= records:
            yield group
            group, count = [], 0
    if count:
        yield group


def _frame_of(pieces: Sequence[Piece], ordinal: int, first: int) -> ParsedFrame:
    merged = _merge(pieces)
    ordinals = np.full(merged.count, ordinal, dtype=np.uint32)
    indexes = np.arange(first, first + merged.count, dtype=np.int64)
    return ParsedFrame(
        frame=_numbered(merged, submissions=ordinals[merged.positions], indexes=indexes[merged.positions]),
        rejections=merged.rejections(ordinals, indexes),
        raw=lambda _, index: merged.raw(index - first),
        first_index=first,
        count=merged.count,
        counts={ordinal: merged.count},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merged:
    """Pieces as one."""

    columns: pl.DataFrame
    positions: Positions
    bad: list[tuple[int, tuple[Problem, ...]]]
    raw: Callable[[int], bytes]
    count: int

    def rejections(self, ordinals: npt.NDArray[np.uint32], indexes: Positions) -> list[Rejection]:
        """Name the bad records by submission and index, which are given by position."""
        return [
            Rejection(submission=int(ordinals[at]), record_index=int(indexes[at]), problems=problems, raw=self.raw(at))
            for at, problems in self.bad
        ]


def _merge(pieces: Sequence[Piece], empty: pl.DataFrame | None = None) -> _Merged:
    starts = np.cumsum([0, *(piece.count for piece in pieces)]).tolist()
    begun = list(zip(starts, pieces, strict=False))

    def raw(position: int) -> bytes:
        start, piece = begun[bisect_right(starts, position) - 1]
        record = piece.raw(position - start)
        return record if len(record) <= RECORD_BYTES_MAX else record[:OVERSIZE_KEPT_BYTES]

    frames = [piece.columns for piece in pieces]
    return _Merged(
        columns=pl.concat(frames) if empty is None else pl.concat([empty, *frames]),
        positions=np.concatenate([np.zeros(0, dtype=np.int64), *(start + piece.positions for start, piece in begun)]),
        bad=[(start + at, piece.bad[at]) for start, piece in begun for at in sorted(piece.bad)],
        raw=raw,
        count=starts[-1],
    )


def _numbered(merged: _Merged, *, submissions: npt.NDArray[np.uint32], indexes: Positions) -> pl.DataFrame:
    numbers = [
        pl.Series("submission", submissions, dtype=pl.UInt32),
        pl.Series("record_index", indexes, dtype=pl.Int64),
    ]
    return pl.DataFrame([*numbers, *(each.alias(column_of(each.name)) for each in merged.columns.get_columns())])
