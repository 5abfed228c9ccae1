"""How results are shown and kept: a table for people, a JSON file for whoever compares. Nothing is measured here."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata

from rich.console import Console
from rich.table import Table

from benchmarks.installation import BENCH_DIR

Row = Mapping[str, object]
# Wide enough for the widest of our tables, wherever they are printed to.
WIDTH = 180
_LIBRARIES = ("duckdb", "polars", "msgspec", "dagster", "uvicorn", "psycopg")


def median(values: Sequence[float]) -> float:
    """Give the middle one of some measurements; the machine's noise is at both ends."""
    return statistics.median(values)


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_shown(cell) for cell in row.values()))
    print(title)
    Console(width=WIDTH, highlight=False).print(table, "")


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def keep(name: str, content: Mapping[str, object]) -> None:
    """Write the results of one benchmark to a file, with the machine that they are of."""
    now = datetime.now(UTC)
    BENCH_DIR.mkdir(parents=True, exist_ok=True)
    path = BENCH_DIR / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    whole = {"benchmark": name, "at": now.isoformat(timespec="seconds"), "machine": _machine(), **content}
    path.write_text(json.dumps(whole, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"kept in {path.relative_to(BENCH_DIR.parents[1])}\n")


def _machine() -> Row:
    return {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{library: metadata.version(library) for library in _LIBRARIES},
    }
