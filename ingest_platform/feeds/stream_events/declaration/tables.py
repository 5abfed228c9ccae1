"""Lookup tables: read from a CSV file beside the declaration, and kept in the catalog as columns and rows."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import cast

from ingest_platform.feeds.stream_events.declaration.pipeline import Table
from ingest_platform.feeds.stream_events.declaration.place import Place

# A table lies in the catalog, and in the memory of every worker and of the processes that try its events.
FILE_BYTES_MAX = 1024 * 1024
ROWS_MAX = 100_000
COLUMNS_MAX = 100


class WrongTable(Exception):
    """A file that is no lookup table, or not to be read; the message says what is allowed."""


def load_table(name: str, folder: FilePath) -> dict[str, object]:
    """Read a CSV file with a header, as the catalog keeps it. Raises WrongTable.

    `name` is relative to the folder of the declaration and must lie in it: what is applied may come from others than
    those who own the machine.
    """
    try:
        path = (folder / name).resolve()
        if FilePath(name).is_absolute() or not path.is_relative_to(folder.resolve()):
            raise WrongTable("must lie in the folder of this file or below it; give its path from there")
        if not path.is_file():
            raise WrongTable(f"there is no file {name!r} beside this one")
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise WrongTable(f"can't be read: {error}") from error
    if len(data) > FILE_BYTES_MAX:
        raise WrongTable(f"has more than {FILE_BYTES_MAX:,} bytes")
    columns, *rows = _lines(data)
    return {"file": name, "columns": columns, "rows": rows}


def _lines(data: bytes) -> list[list[str]]:
    try:
        text = data.decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except UnicodeDecodeError as error:
        raise WrongTable(f"must be UTF-8: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise WrongTable(f"is no CSV: {error}") from error
    if not lines:
        raise WrongTable("is empty; its first line must name the columns")
    return lines


def read_table(place: Place) -> Table | None:
    """Read a table as the catalog keeps it: `columns`, and `rows` of as many texts."""
    if isinstance(place.value, str):
        place.wrong("names a file, which is read where the declaration is applied; give columns and rows here")
        return None
    found = place.fields("file", "columns", "rows", required=("columns", "rows"))
    if not {"columns", "rows"} <= set(found):
        return None
    columns, rows = found["columns"].value, found["rows"].value
    if not isinstance(columns, list) or not isinstance(rows, list):
        place.wrong("must have a list of columns and a list of rows")
        return None
    why = _why_wrong(cast("list[object]", columns), cast("list[object]", rows))
    if why is not None:
        place.wrong(why)
        return None
    lines = cast("list[list[str]]", rows)
    return Table(columns=tuple(cast("list[str]", columns)), rows=tuple(tuple(line) for line in lines))


def _why_wrong(columns: Sequence[object], rows: Sequence[object]) -> str | None:
    if not 1 <= len(columns) <= COLUMNS_MAX:
        return f"has {len(columns)} columns; 1 to {COLUMNS_MAX} are allowed"
    if not all(isinstance(name, str) and name.strip() for name in columns) or len(set(columns)) < len(columns):
        return "each column must have a name, a different one"
    if len(rows) > ROWS_MAX:
        return f"has {len(rows):,} rows; at most {ROWS_MAX:,} are allowed"
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or not all(isinstance(cell, str) for cell in cast("list[object]", row)):
            return f"row {number} must be a list of texts"
        if len(cast("list[str]", row)) != len(columns):
            return f"row {number} has {len(cast('list[str]', row))} values; there are {len(columns)} columns"
    return None


def with_tables(body: Mapping[str, object], folder: FilePath) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """Put the tables of files into a stream's declaration; the second are places and what is wrong there.

    What has not the form of a declaration is left as it is; reading it will tell.
    """
    steps, wrong = body.get("enrich"), list[tuple[str, str]]()
    if not isinstance(steps, list):
        return dict(body), wrong
    filled: list[object] = []
    for number, step in enumerate(cast("list[object]", steps)):
        lookup = cast("Mapping[str, object]", step).get("lookup") if isinstance(step, Mapping) else None
        name = cast("Mapping[str, object]", lookup).get("table") if isinstance(lookup, Mapping) else None
        if not isinstance(name, str):
            filled.append(step)
            continue
        whole = cast("Mapping[str, object]", step)
        try:
            table = load_table(name, folder)
        except WrongTable as error:
            wrong.append((f"enrich[{number}].lookup.table", str(error)))
            filled.append(step)
        else:
            filled.append({**whole, "lookup": {**cast("Mapping[str, object]", lookup), "table": table}})
    return {**body, "enrich": filled}, wrong
