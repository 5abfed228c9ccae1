"""A file of a dataset's records by dlt into a DuckDB file, in a Python of its own: what it stored, and what it took.

Its schema is declared and frozen: a row with another column, or with a value that it can't make the column's type, is
discarded. What else it lets pass (a number in a string, a null) is counted by whoever reads the answer. The context is
kept as JSON and not unnested, and its files between the steps are Parquet: both make it faster.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import dlt
import duckdb
import orjson

LINES = 10_000
COLUMNS = {
    "timestamp": {"data_type": "timestamp"},
    "context": {"data_type": "json"},
    "country": {"data_type": "text"},
    "amount": {"data_type": "double"},
    "active": {"data_type": "bool"},
    "signup_at": {"data_type": "timestamp"},
}
FROZEN = {"tables": "evolve", "columns": "discard_row", "data_type": "discard_row"}


@dlt.resource(name="orders", columns=COLUMNS, schema_contract=FROZEN, write_disposition="append", max_table_nesting=0)
def orders(path: str, most: int | None = None) -> Iterator[list[object]]:
    """Read the lines of the file, many at a time; only so many if that is told."""
    with Path(path).open("rb") as file:
        lines = islice(file, most)
        while chunk := [orjson.loads(line) for _, line in zip(range(LINES), lines, strict=False)]:
            yield chunk


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Load one file and print what it took as JSON."""
    path, folder = sys.argv[1], Path(sys.argv[2])
    store = folder / "dlt.duckdb"
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.duckdb(str(store)), dataset_name="bench", pipelines_dir=str(folder)
    )
    # A table that is new takes whatever columns come: it is there before.
    pipeline.run(orders(path, 1), loader_file_format="parquet")
    began, before = time.perf_counter(), _cpu_seconds()
    pipeline.run(orders(path), loader_file_format="parquet")
    seconds = time.perf_counter() - began
    cpu_seconds = _cpu_seconds() - before
    with duckdb.connect(str(store), read_only=True) as engine:
        stored = engine.execute("SELECT count(*), count(*) FILTER (country IS NULL) FROM bench.orders").fetchone()
    assert stored is not None
    taken = {
        "stored": stored[0] - 1,
        "nulls": stored[1],
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
