"""A file of a dataset's records without a platform: a script that parses, validates and inserts, one step at a time.

It keeps the facts as `bare.py` does for readings: msgspec decodes each line to the record's type (no other fields, none
missing, none null), timestamps go by the grammar, bad lines go to a file, the rows to a lake table of the declared
types. It does not look for repeated keys, deep nesting or integers that no double holds, has no limits and no outcomes.
"""

import argparse
import gc
import json
import operator
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import polars as pl

from benchmarks.bare import CHUNK_BYTES, FRAME_ROWS, in_utf8, open_lake, reject
from ingest_platform.domain.timestamps import PATTERN

_TABLE = (
    "timestamp TIMESTAMPTZ, context VARCHAR, country VARCHAR, amount DOUBLE, active BOOLEAN, signup_at TIMESTAMPTZ,"
    " row BIGINT"
)
_COLUMNS = "timestamp, context, country, amount, active, signup_at, row"
_INSTANTS = ("timestamp", "signup_at")
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.encode


class Order(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A line of the file."""

    timestamp: str
    context: dict[str, msgspec.Raw]
    country: str
    amount: float
    active: bool
    signup_at: str


_decode = msgspec.json.Decoder(Order).decode


def decoded(lines: list[bytes], first: int, rejects: BinaryIO) -> pl.DataFrame:
    """Read some lines; bad ones go to the file of rejects."""
    records: list[Order] = []
    bad: list[int] = []
    rest = iter(in_utf8(lines))
    while True:
        try:
            records.extend(map(_decode, rest))
            break
        except _ERRORS as error:
            at = len(records) + len(bad)
            bad.append(at)
            reject(rejects, first + at, str(error), lines[at])
    names = [name for name in Order.__struct_fields__ if name != "context"]
    columns = [pl.Series(name, list(map(operator.attrgetter(name), records))) for name in names]
    context = pl.Series("context", [_encode(record.context).decode() for record in records])
    return pl.DataFrame([*columns, context, pl.Series("row", np.delete(np.arange(first, first + len(lines)), bad))])


def frames(path: Path, rejects: BinaryIO) -> Iterator[pl.DataFrame]:
    """Read the file in frames of some size."""
    gathered: list[pl.DataFrame] = []
    first = height = 0
    with path.open("rb", buffering=1 << 20) as file:
        while lines := file.readlines(CHUNK_BYTES):
            gathered.append(decoded(lines, first, rejects))
            first += len(lines)
            height += gathered[-1].height
            if height >= FRAME_ROWS:
                yield pl.concat(gathered)
                gathered, height = [], 0
    if gathered:
        yield pl.concat(gathered)


def validated(frame: pl.DataFrame, rejects: BinaryIO) -> pl.DataFrame:
    """Read the timestamps; rows with a bad one go to the file of rejects."""
    shaped = (pl.when(pl.col(name).str.contains(PATTERN)).then(pl.col(name)).alias(name) for name in _INSTANTS)
    typed = frame.with_columns(*shaped).with_columns(
        pl.col(name).str.to_datetime("%+", strict=False, time_unit="us", time_zone="UTC", cache=False)
        for name in _INSTANTS
    )
    good = pl.all_horizontal(pl.col(name).is_not_null() for name in _INSTANTS) & pl.col("amount").is_finite()
    for row in frame.filter(~typed.select(good.alias("good"))["good"]).iter_rows(named=True):
        reject(rejects, row["row"], "invalid", f"{row['timestamp']} {row['signup_at']}")
    return typed.filter(good)


def main() -> None:
    """Load one file in one transaction and print what it took as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the lake's files and the rejects go")
    asked = parser.parse_args()
    gc.disable()
    engine = open_lake(asked.database_url, schema="bare_dataset", folder=asked.folder / "lake")
    engine.execute(f"CREATE TABLE IF NOT EXISTS lake.orders ({_TABLE})")
    engine.execute("ALTER TABLE lake.orders SET PARTITIONED BY (year(timestamp), month(timestamp), day(timestamp))")
    accepted = 0
    began, cpu_began = time.perf_counter(), time.process_time()
    with (asked.folder / "rejects.ndjson").open("wb") as rejects:
        engine.execute("BEGIN")
        for frame in frames(asked.path, rejects):
            good = validated(frame, rejects)
            engine.register("good", good)
            engine.execute(f"INSERT INTO lake.orders ({_COLUMNS}) SELECT {_COLUMNS} FROM good")
            engine.unregister("good")
            accepted += good.height
        engine.execute("COMMIT")
    taken = {
        "accepted": accepted,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
    }
    engine.close()
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
