"""Rejected records as files: raw, with their reasons, ready to be mended and sent again."""

import csv
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice

import msgspec

from ingest_platform.api.services import Services
from ingest_platform.domain.rejection import Rejection
from ingest_platform.pipeline.rejected import rejected_line
from ingest_platform.storage import outcomes

NDJSON = "application/x-ndjson"
CSV = "text/csv; charset=utf-8"
# What a spreadsheet takes for the beginning of a formula, also in its wide forms and behind blanks.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_BREAKS = ("\t", "\r", "\n")
# One piece of the download; its raw records are at most a few megabytes.
_LINES_PER_PIECE = 500
_CSV_OWN = ("record_index", "codes", "reasons", "raw")
_decode = msgspec.json.decode
_encode = msgspec.json.encode


def formula_safe(text: str) -> str:
    """Keep a spreadsheet from taking a cell for a formula.

    >>> formula_safe("=cmd|' /C calc'!A0")
    "'=cmd|' /C calc'!A0"
    """
    return f"'{text}" if text.startswith(_BREAKS) or text.lstrip().startswith(_FORMULA) else text


_NOTHING = object()


def _as_value(raw: bytes) -> object:
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _NOTHING


def csv_row(rejection: Rejection, fields: Sequence[str]) -> list[str]:
    """Write one rejection as cells: the contract's fields, then where and why it was rejected, and the whole of it."""
    value = _as_value(rejection.raw)
    record = value if isinstance(value, dict) else {}
    cells = [_cell(record[name]) if name in record else "" for name in fields]
    codes = " ".join(problem.code for problem in rejection.problems)
    reasons = " ".join(problem.message for problem in rejection.problems)
    raw = rejection.raw.decode("utf-8", "replace")
    return [*cells, *(formula_safe(cell) for cell in (str(rejection.record_index), codes, reasons, raw))]


def _cell(value: object) -> str:
    if isinstance(value, str):
        return formula_safe(value)
    # A number may begin with a sign and is no formula; with an apostrophe it could not be sent again.
    return _encode(value).decode()


def rejected_ndjson(services: Services, job_id: str) -> AsyncIterator[bytes]:
    """Stream all rejections of a job as NDJSON."""
    lines = (rejected_line(each) for each in outcomes.iter_rejections(services.ledger, job_id))
    return _pieces(services, lines)


def rejected_csv(services: Services, job_id: str, fields: Sequence[str]) -> AsyncIterator[bytes]:
    """Stream all rejections of a job as CSV."""

    def lines() -> Iterator[bytes]:
        yield _csv_line([*fields, *_CSV_OWN])
        for each in outcomes.iter_rejections(services.ledger, job_id):
            yield _csv_line(csv_row(each, fields))

    return _pieces(services, lines())


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace")


async def _pieces(services: Services, lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await services.run(lambda: b"".join(islice(lines, _LINES_PER_PIECE))):
        yield piece
