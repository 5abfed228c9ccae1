"""Records, jobs and a table for tests of the way into the warehouse; they belong to no feed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from ingest_platform.domain.feed import Column, KeyedTable
from ingest_platform.domain.outcome import Outcome
from ingest_platform.pipeline.load import LoadedJob, StagedJob
from ingest_platform.storage.warehouse import Warehouse

MIB = 1024 * 1024
EPOCH = datetime(2026, 5, 1, tzinfo=UTC)
# The name and one column would be syntax if they were not quoted.
TABLE = KeyedTable(
    name='gauge "one"',
    columns=(
        Column(name="gauge", type="VARCHAR"),
        Column(name="at", type="TIMESTAMPTZ"),
        Column(name='select "x"', type="DOUBLE"),
        Column(name="scaled", type="DOUBLE"),
    ),
    key=("gauge", "at"),
    range_column="at",
    compared=('select "x"',),
)
Record = tuple[int, int, str, int, float]


def open_lake(database_url: str, folder: Path) -> Warehouse:
    """Open a warehouse of the test's own."""
    return Warehouse(
        database_url,
        lake_path=str(folder / "lake"),
        memory_bytes_max=512 * MIB,
        threads=2,
        spill_path=str(folder / "spill"),
        silent_seconds_max=0.5,
    )


def job(seq: int, *, submission: int = 0, workspace: str = "acme") -> StagedJob:
    """Make the job that was accepted as the seq-th."""
    return StagedJob(
        submission=submission,
        job_id=f"job_{seq}",
        workspace=workspace,
        accepted_seq=seq,
        accepted_at=EPOCH + timedelta(minutes=seq),
    )


def frame(records: Sequence[Record]) -> pl.DataFrame:
    """Make a frame of (submission, record index, gauge, minute, value)."""
    submissions, indexes, gauges, minutes, values = zip(*records, strict=True) if records else ((), (), (), (), ())
    return pl.DataFrame(
        {
            "submission": pl.Series(submissions, dtype=pl.UInt32),
            "record_index": pl.Series(indexes, dtype=pl.Int64),
            "gauge": pl.Series(gauges, dtype=pl.String),
            "at": pl.Series([EPOCH + timedelta(minutes=minute) for minute in minutes], dtype=pl.Datetime("us", "UTC")),
            'select "x"': pl.Series(values, dtype=pl.Float64),
            "scaled": pl.Series([value * 10 for value in values], dtype=pl.Float64),
        }
    )


def rows_of_lake(lake: Warehouse, *, workspace: str = "acme") -> list[dict[str, Any]]:
    """Read everything that the table holds for a workspace, in order of its key."""
    lake.ensure([TABLE])
    return lake.query(
        'SELECT * FROM lake.main."gauge ""one""" WHERE workspace = ? ORDER BY gauge, "at"', [workspace]
    ).to_pylist()


def seen(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the place in the order of acceptance, which nobody is shown."""
    return [{name: value for name, value in row.items() if not name.startswith("accepted_")} for row in rows]


def outcomes(loaded: LoadedJob) -> list[tuple[int, Outcome]]:
    """List (record index, outcome) of a job."""
    return [
        (index, Outcome(code))
        for index, code in zip(loaded.record_index.tolist(), loaded.outcome.tolist(), strict=True)
    ]
