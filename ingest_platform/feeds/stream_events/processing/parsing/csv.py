"""Rows of CSV in texts: one row each, its cells named by the declared columns; the values are texts.

As in files (contract, section 6) an empty cell is missing. A row with more or fewer cells than columns is none of these
columns: nobody knows which cell is whose.
"""

import csv
from collections.abc import Iterator, Sequence

from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted


def lift(texts: Sequence[str], *, columns: Sequence[str], separator: str) -> Iterator[Lifted]:
    """Read texts as rows; None for what is no row of the columns."""
    return (_named(_cells(text, separator), columns) for text in texts)


def _cells(text: str, separator: str) -> list[str]:
    if '"' not in text and "\n" not in text and "\r" not in text:
        return text.split(separator)
    try:
        rows = list(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


def _named(cells: Sequence[str], columns: Sequence[str]) -> Lifted:
    if len(cells) != len(columns):
        return None
    named = zip(columns, cells, strict=True)
    return named if all(cells) else {column: cell for column, cell in named if cell}
