"""The same file without a platform: a script that parses, validates and inserts, in one process, one step at a time.

`exact` keeps the facts: msgspec decodes each line to the record's type, timestamps go by the grammar (pattern, then
`%+`), references are looked up, bad lines go to a file. It does not dedupe, does not look for repeated keys or deep
nesting, has no limits and no answer per record. `inexact` is what most scripts do: Polars reads the lines.
"""

import argparse
import gc
import importlib.util
import json
import operator
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import duckdb
import msgspec
import numpy as np
import polars as pl
import psycopg
from psycopg import sql

from ingest_platform.domain.timestamps import PATTERN

CHUNK_BYTES = 512 * 1024
FRAME_ROWS = 250_000
_TABLE = "timestamp TIMESTAMPTZ, machine_data_point_config_id VARCHAR, raw_value DOUBLE, value DOUBLE, row BIGINT"
_COLUMNS = "timestamp, machine_data_point_config_id, raw_value, value, row"


class Reading(msgspec.Struct, gc=False):
    """A line of the file."""

    timestamp: str
    machine_data_point_config_id: str
    value: float


_decode = msgspec.json.Decoder(Reading).decode
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def open_lake(database_url: str, *, schema: str, folder: Path) -> duckdb.DuckDBPyConnection:
    """Attach a lake of its own with its catalog in PostgreSQL."""
    engine = duckdb.connect()
    for name in ("ducklake", "postgres_scanner"):
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        assert spec is not None
        assert spec.origin is not None
        found = next(Path(spec.origin).parent.rglob(f"{name}.duckdb_extension"))
        engine.execute(f"LOAD '{found}'")
    folder.mkdir(parents=True, exist_ok=True)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    engine.execute(f"ATTACH 'ducklake:postgres:{database_url}' AS lake (DATA_PATH '{folder}/', META_SCHEMA '{schema}')")
    engine.execute("SET TimeZone = 'UTC'")
    engine.execute(f"CREATE TABLE IF NOT EXISTS lake.readings ({_TABLE})")
    return engine


def decoded(lines: list[bytes], first: int, rejects: BinaryIO) -> pl.DataFrame:
    """Read some lines; bad ones go to the file of rejects."""
    records: list[Reading] = []
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
    rows = np.delete(np.arange(first, first + len(lines)), bad)
    fields = {name: operator.attrgetter(name) for name in Reading.__struct_fields__}
    columns = [pl.Series(name, list(map(get, records))) for name, get in fields.items()]
    return pl.DataFrame([*columns, pl.Series("row", rows)])


def in_utf8(lines: list[bytes]) -> list[bytes]:
    """Empty the lines that are no UTF-8: the decoder does not look into what it skips."""
    try:
        b"".join(lines).decode()
    except UnicodeDecodeError:
        return [line if is_utf8(line) else b"" for line in lines]
    return lines


def is_utf8(line: bytes) -> bool:
    """Tell whether bytes are UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def reject(rejects: BinaryIO, row: int, message: str, raw: bytes | str) -> None:
    """Write down a bad line."""
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    rejects.write(msgspec.json.encode({"row": row, "message": message, "raw": text}) + b"\n")


def exact_frames(path: Path, rejects: BinaryIO) -> Iterator[pl.DataFrame]:
    """Read the file exactly, in frames of some size."""
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


def inexact_frames(path: Path) -> Iterator[pl.DataFrame]:
    """Let Polars read the file: wrong types become null or are turned into what was wanted."""
    schema = {"timestamp": pl.String, "machine_data_point_config_id": pl.String, "value": pl.Float64}
    yield pl.read_ndjson(path, schema=schema, ignore_errors=True).with_row_index("row")


def validated(frame: pl.DataFrame, known: pl.DataFrame, rejects: BinaryIO) -> pl.DataFrame:
    """Check all rules and look up the configurations; bad rows go to the file of rejects."""
    text = pl.col("timestamp")
    shaped = pl.when(text.str.contains(PATTERN)).then(text)
    read = shaped.str.to_datetime("%+", strict=False, time_unit="us", time_zone="UTC", cache=False)
    typed = frame.with_columns(instant=read).join(
        known, on="machine_data_point_config_id", how="left", maintain_order="left"
    )
    resolved = typed.with_columns(raw_value=pl.col("value"), value=pl.col("value") * pl.col("factor"))
    good = pl.col("instant").is_not_null() & pl.col("value").is_finite().fill_null(value=False)
    for row in resolved.filter(~good).iter_rows(named=True):
        reject(rejects, row["row"], "invalid", f"{row['timestamp']} {row['raw_value']}")
    return resolved.filter(good).drop("timestamp").rename({"instant": "timestamp"})


def load(engine: duckdb.DuckDBPyConnection, path: Path, rejects_path: Path, *, exact: bool) -> dict[str, float]:
    """Carry the file into the lake in one transaction; what it took."""
    known = pl.DataFrame({"machine_data_point_config_id": [arguments().config], "factor": [1.0]})
    accepted = 0
    began, cpu_began = time.perf_counter(), time.process_time()
    with rejects_path.open("wb") as rejects:
        engine.execute("BEGIN")
        for frame in exact_frames(path, rejects) if exact else inexact_frames(path):
            good = validated(frame, known, rejects)
            engine.register("good", good)
            engine.execute(f"INSERT INTO lake.readings ({_COLUMNS}) SELECT {_COLUMNS} FROM good")
            engine.unregister("good")
            accepted += good.height
        engine.execute("COMMIT")
    return {
        "accepted": accepted,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the lake's files and the rejects go")
    parser.add_argument("--config", required=True, help="the one configuration that readings may refer to")
    parser.add_argument("--inexact", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Load one file and print what it took as JSON."""
    asked = arguments()
    gc.disable()
    schema = "bare_inexact" if asked.inexact else "bare_exact"
    engine = open_lake(asked.database_url, schema=schema, folder=asked.folder / schema)
    taken = load(engine, asked.path, asked.folder / f"{schema}.rejects.ndjson", exact=not asked.inexact)
    engine.close()
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
