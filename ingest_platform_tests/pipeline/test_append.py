"""Append: every accepted record is a row, once, whatever was said before."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from ingest_platform.domain.feed import AppendTable, Column
from ingest_platform.domain.outcome import Outcome
from ingest_platform.pipeline.dedupe import repeated_keys
from ingest_platform.pipeline.load import load_records
from ingest_platform.storage import warehouse
from ingest_platform.storage.warehouse import INLINED_ROWS_MAX, PARTED_DAYS_MAX, Warehouse, applied_of, rows_of
from ingest_platform_tests.pipeline.lake_records import job, open_lake, outcomes

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
TABLE = AppendTable(
    name="trips",
    columns=(Column(name="at", type="TIMESTAMPTZ"), Column(name="job_id", type="VARCHAR")),
    constants=((Column(name="project", type="VARCHAR"), "it's local"), (Column(name="number", type="BIGINT"), 13)),
    day_column="at",
    id_column="id",
    id_prefix="rec_",
    accepted_column="ingested_at",
    request_column="trace",
)


@pytest.fixture
def lake(database_url: str, tmp_path: Path) -> Iterator[Warehouse]:
    with open_lake(database_url, tmp_path) as opened:
        yield opened


def trips(*said: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "submission": pl.Series([0] * len(said), dtype=pl.UInt32),
            "record_index": pl.Series(range(len(said)), dtype=pl.Int64),
            "at": pl.Series([NOON] * len(said), dtype=pl.Datetime("us", "UTC")),
            "job_id": said,
        }
    )


def _load(lake: Warehouse, seq: int, *said: str, again: bool = False) -> list[tuple[int, Outcome]]:
    loaded = load_records(
        lake, table=TABLE, load_id="load_x", fence=seq, staged=[job(seq)], frames=[trips(*said)], again=again
    )
    return outcomes(loaded[job(seq).job_id])


def _rows(lake: Warehouse) -> list[dict[str, object]]:
    return lake.query(f"SELECT * FROM {rows_of(TABLE.name)} ORDER BY __accepted_seq, __record_index").to_pylist()


def test_each_record_is_a_row_with_an_id_of_its_own_beside_what_its_job_says(lake: Warehouse) -> None:
    assert _load(lake, 1, "a", "a") == [(0, Outcome.CREATED), (1, Outcome.CREATED)]
    first, second = _rows(lake)
    # What a client calls `job_id` is his, and ours stands beside it.
    assert (first["job_id"], first["__job_id"]) == ("a", job(1).job_id)
    assert (first["project"], first["number"], first["ingested_at"]) == ("it's local", 13, job(1).accepted_at)
    assert first["id"] != second["id"]
    assert str(first["id"]).startswith("rec_")


def test_a_job_that_was_applied_is_not_appended_again(lake: Warehouse) -> None:
    assert _load(lake, 1, "a", "b") == _load(lake, 1, "a", "b")
    assert len(_rows(lake)) == 2


def test_a_job_that_has_not_ended_is_not_forgotten_so_it_is_not_appended_again_however_late(lake: Warehouse) -> None:
    _load(lake, 1, "a")
    _load(lake, 2, "b")
    lake.query(f"UPDATE {applied_of(TABLE.name)} SET applied_at = applied_at - INTERVAL 2 DAYS")
    assert lake.maintain(applied_before=2)["jobs forgotten"] == 1
    assert _load(lake, 2, "b") == [(0, Outcome.CREATED)]
    assert len(_rows(lake)) == 2


def test_a_day_worked_again_leaves_the_rows_as_they_are_and_brings_back_those_that_are_gone(lake: Warehouse) -> None:
    _load(lake, 1, "a", "b")
    _load(lake, 2, "c")
    before = _rows(lake)
    assert _load(lake, 1, "a", "b", again=True) == [(0, Outcome.CREATED), (1, Outcome.CREATED)]
    assert _rows(lake) == before
    with lake.writing(TABLE.name, fence=10) as transaction:
        transaction.execute(f"DELETE FROM {rows_of(TABLE.name)} WHERE __accepted_seq = 1 AND __record_index = 1")
    _load(lake, 1, "a", "b", again=True)
    assert _rows(lake) == before
    assert lake.query(repeated_keys(TABLE)).column(0)[0].as_py() == 0


def test_a_load_without_records_is_remembered_and_appends_nothing(lake: Warehouse) -> None:
    assert _load(lake, 1) == []
    assert _rows(lake) == []


# Files


def _load_days(lake: Warehouse, seq: int, *, days: int, rows: int) -> None:
    frame = trips(*map(str, range(rows))).with_columns(
        at=pl.Series([NOON + timedelta(days=row % days) for row in range(rows)], dtype=pl.Datetime("us", "UTC"))
    )
    load_records(lake, table=TABLE, load_id="load_x", fence=seq, staged=[job(seq)], frames=[frame])


def _files(folder: Path) -> list[str]:
    """List the files of the table's rows by the folder of their day."""
    rows = folder / "lake" / "main" / TABLE.name
    return sorted(file.parent.relative_to(rows).as_posix() for file in rows.rglob("*.parquet"))


THREE_DAYS = [f"__day=2026-05-{day:02d}" for day in (6, 7, 8)]


def test_upkeep_leaves_a_file_for_each_day_and_changes_no_row(lake: Warehouse, tmp_path: Path) -> None:
    for seq in range(1, 5):
        _load_days(lake, seq, days=3, rows=INLINED_ROWS_MAX * 2)
    _load_days(lake, 5, days=3, rows=9)
    before = _rows(lake)
    assert _files(tmp_path) == sorted(THREE_DAYS * 4)
    done = lake.maintain(snapshot_age=timedelta(0))
    assert done["rows flushed"] >= 9
    assert _files(tmp_path) == THREE_DAYS
    assert _rows(lake) == before
    assert lake.maintain(snapshot_age=timedelta(0))["files merged"] == 0


def test_a_load_of_very_many_days_is_no_file_for_each_and_the_next_ones_are_parted_again(
    lake: Warehouse, tmp_path: Path
) -> None:
    _load_days(lake, 1, days=PARTED_DAYS_MAX + 1, rows=2 * PARTED_DAYS_MAX)
    assert _files(tmp_path) == ["."]
    _load_days(lake, 2, days=3, rows=INLINED_ROWS_MAX * 2)
    assert _files(tmp_path) == [".", *THREE_DAYS]
    before = _rows(lake)
    lake.maintain(snapshot_age=timedelta(0))
    assert _rows(lake) == before
    on_a_day = f'SELECT count(*) FROM {rows_of(TABLE.name)} WHERE "at" >= ? AND "at" < ?'
    found = lake.query(on_a_day, [NOON, NOON + timedelta(days=1)]).column(0)[0].as_py()
    assert found == sum(NOON <= row["at"] < NOON + timedelta(days=1) for row in before)  # type: ignore[operator]


def test_a_table_that_a_dead_process_left_unparted_is_parted_again(
    lake: Warehouse, database_url: str, tmp_path: Path
) -> None:
    def die() -> None:
        lake.ensure([TABLE])
        with lake.unparted(TABLE):
            raise InterruptedError

    for _ in range(2):
        with pytest.raises(InterruptedError):
            die()
    with open_lake(database_url, tmp_path) as next_one:
        _load_days(next_one, 1, days=3, rows=INLINED_ROWS_MAX * 2)
    assert _files(tmp_path) == THREE_DAYS


def test_inlined_rows_of_very_many_days_stay_inlined_and_hold_nothing_up(
    lake: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load_days(lake, 1, days=3, rows=9)
    before = _rows(lake)
    monkeypatch.setattr(warehouse, "FLUSHED_DAYS_MAX", 2)
    lake.maintain(snapshot_age=timedelta(0))
    assert lake.inlined_rows()[TABLE.name] == 9
    monkeypatch.setattr(warehouse, "FLUSHED_DAYS_MAX", 3)
    lake.maintain(snapshot_age=timedelta(0))
    assert lake.inlined_rows()[TABLE.name] == 0
    assert _rows(lake) == before


def test_a_table_of_before_the_day_had_a_column_gets_one_and_takes_records(
    lake: Warehouse, database_url: str, tmp_path: Path
) -> None:
    _load(lake, 1, "a", "b")
    rows = rows_of(TABLE.name)
    with closing(lake.session()) as session:
        session.execute(f'ALTER TABLE {rows} SET PARTITIONED BY (year("at"), month("at"), day("at"))')
        session.execute(f"ALTER TABLE {rows} DROP COLUMN __day")
    with open_lake(database_url, tmp_path) as later:
        _load(later, 2, "c")
        assert [(row["job_id"], row["__day"]) for row in _rows(later)] == [
            ("a", NOON.date()),
            ("b", NOON.date()),
            ("c", NOON.date()),
        ]
        assert later._day_column(TABLE.name) == "__day"
