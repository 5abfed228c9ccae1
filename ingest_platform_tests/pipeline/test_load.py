"""Load: each job's rows all or none, once, with an outcome for every record; whatever happens to the worker."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import psycopg
import pytest

from ingest_platform.domain.errors import LeaseLost, WarehouseFault
from ingest_platform.domain.outcome import Outcome
from ingest_platform.pipeline.given import Withdrawn
from ingest_platform.pipeline.load import LoadedJob, StagedJob, load_records, recall
from ingest_platform.storage.warehouse import Warehouse
from ingest_platform_tests.pipeline.lake_records import TABLE, frame, job, open_lake, outcomes, rows_of_lake, seen

CREATED, UPDATED, UNCHANGED, SUPERSEDED = Outcome.CREATED, Outcome.UPDATED, Outcome.UNCHANGED, Outcome.SUPERSEDED

# A worker of its own process: it loads two gauges as job 1 and says how that ended.
WORKER = """
import sys
from pathlib import Path
from ingest_platform.domain import crashpoint
from ingest_platform.domain.errors import Fault
from ingest_platform.pipeline.load import load_records
from ingest_platform_tests.pipeline.lake_records import TABLE, frame, job, open_lake
url, folder, point, rows = sys.argv[1:]
with open_lake(url, Path(folder)) as lake:
    lake.ensure([TABLE])
    crashpoint.arm(point)
    records = [(0, index, "g", index, 1.0) for index in range(int(rows))]
    try:
        load_records(lake, table=TABLE, load_id="load_1", fence=1, staged=[job(1)], frames=[frame(records)])
    except Fault as fault:
        print(type(fault).__name__)
    else:
        print("loaded")
"""


@pytest.fixture
def lake(database_url: str, tmp_path: Path) -> Iterator[Warehouse]:
    with open_lake(database_url, tmp_path) as opened:
        yield opened


def load(lake: Warehouse, records: pl.DataFrame | Path, *jobs: StagedJob, again: bool = False) -> dict[str, LoadedJob]:
    return load_records(
        lake, table=TABLE, load_id="load_x", fence=jobs[-1].accepted_seq, staged=jobs, frames=[records], again=again
    )


def test_new_records_are_created_with_the_job_and_place_that_they_come_from(lake: Warehouse) -> None:
    loaded = load(lake, frame([(0, 0, "g", 1, 2.5), (0, 2, "g", 2, 3.5)]), job(7))
    assert outcomes(loaded["job_7"]) == [(0, CREATED), (2, CREATED)]
    first = rows_of_lake(lake)[0]
    assert first == {
        "gauge": "g",
        "at": datetime(2026, 5, 1, 0, 1, tzinfo=UTC),
        'select "x"': 2.5,
        "scaled": 25.0,
        "workspace": "acme",
        "job_id": "job_7",
        "record_index": 0,
        "accepted_seq": 7,
        "accepted_index": 0,
        "accepted_at": datetime(2026, 5, 1, 0, 7, tzinfo=UTC),
    }


def test_many_jobs_of_several_workspaces_are_one_load(lake: Warehouse) -> None:
    jobs = [job(seq, submission=seq - 1, workspace="acme" if seq % 2 else "other") for seq in range(1, 301)]
    frames = [frame([(each.submission, 3, "g", 1, float(each.accepted_seq))]) for each in jobs]
    loaded = load_records(lake, table=TABLE, load_id="load_x", fence=1, staged=jobs, frames=frames)
    assert {name: outcomes(each)[0][1] for name, each in loaded.items() if outcomes(each)[0][1] is CREATED} == {
        "job_299": CREATED,
        "job_300": CREATED,
    }
    assert [row["scaled"] for row in rows_of_lake(lake)] == [2990.0]
    assert [row["scaled"] for row in rows_of_lake(lake, workspace="other")] == [3000.0]


def test_a_job_without_accepted_records_is_loaded_too(lake: Warehouse) -> None:
    loaded = load(lake, frame([(1, 0, "g", 1, 1.0)]), job(1), job(2, submission=1))
    assert outcomes(loaded["job_1"]) == []
    assert outcomes(loaded["job_2"]) == [(0, CREATED)]
    assert outcomes(load(lake, frame([]), job(3))["job_3"]) == []


def test_a_job_that_was_loaded_gives_the_same_outcomes_and_changes_nothing(lake: Warehouse) -> None:
    records = frame([(0, 5, "g", 1, 1.0), (0, 9, "g", 1, 2.0), (0, 11, "g", 2, 2.0)])
    first = load(lake, records, job(1))
    load(lake, frame([(0, 0, "g", 1, 7.0)]), job(2))
    before = rows_of_lake(lake)
    second = load(lake, records, job(1))
    assert outcomes(second["job_1"]) == outcomes(first["job_1"]) == [(5, SUPERSEDED), (9, CREATED), (11, CREATED)]
    assert rows_of_lake(lake) == before


def test_of_a_load_only_the_jobs_that_were_not_loaded_are_merged(lake: Warehouse) -> None:
    load(lake, frame([(0, 0, "g", 1, 1.0)]), job(1))
    both = frame([(0, 0, "g", 1, 1.0), (1, 0, "g", 2, 2.0), (1, 1, "g", 2, 3.0)])
    loaded = load(lake, both, job(1), job(2, submission=1))
    assert outcomes(loaded["job_1"]) == [(0, CREATED)]
    assert outcomes(loaded["job_2"]) == [(0, SUPERSEDED), (1, CREATED)]


def test_a_second_job_with_the_same_records_changes_nothing_that_can_be_seen(lake: Warehouse) -> None:
    records = frame([(0, 0, "g", 1, 1.0), (0, 1, "g", 2, 2.0)])
    load(lake, records, job(1))
    before = rows_of_lake(lake)
    assert outcomes(load(lake, records, job(2))["job_2"]) == [(0, UNCHANGED), (1, UNCHANGED)]
    after = rows_of_lake(lake)
    assert seen(after) == seen(before)
    assert [row["accepted_at"] for row in after] == [row["accepted_at"] for row in before]


def test_a_backfill_leaves_the_table_as_it_was_and_remembers_nothing(lake: Warehouse) -> None:
    days = {1: [(0, 0, "g", 1, 1.0)], 2: [(0, 0, "g", 1, 1.0), (0, 1, "g", 2, 5.0)], 3: [(0, 0, "g", 2, 6.0)]}
    for seq, records in days.items():
        load(lake, frame(records), job(seq))
    before = rows_of_lake(lake)
    again = {seq: load(lake, frame(records), job(seq), again=True)[f"job_{seq}"] for seq, records in days.items()}
    assert rows_of_lake(lake) == before
    assert outcomes(again[1]) == [(0, SUPERSEDED)]
    assert outcomes(again[2]) == [(0, UNCHANGED), (1, SUPERSEDED)]
    assert outcomes(again[3]) == [(0, UNCHANGED)]
    assert lake.query('SELECT count(*) FROM lake.applied."gauge ""one"""').column(0)[0].as_py() == 3


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_staged_files_are_loaded_like_frames(lake: Warehouse, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"frame.{suffix}"
    records = frame([(0, index, f"g{index % 7}", index, index / 2) for index in range(2_000)])
    records.write_parquet(path) if suffix == "parquet" else records.write_ipc(path)
    loaded = load(lake, path, job(1))
    assert loaded["job_1"].record_index.tolist() == list(range(2_000))
    assert set(loaded["job_1"].outcome.tolist()) == {CREATED}
    assert len(rows_of_lake(lake)) == 2_000


def test_what_is_withdrawn_leaves_nothing_behind_and_may_come_again(lake: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "frame.arrow"
    frame([(1, 7, "g", 7, 7.0)]).write_ipc(path)
    before, broken, behind = (frame([(number, 0, "g", number, 1.0)]) for number in range(3))
    jobs = [job(number + 1, submission=number) for number in range(3)]
    given = [before, broken, path, Withdrawn(1), behind]
    loaded = load_records(lake, table=TABLE, load_id="load_1", fence=1, staged=jobs, frames=given)
    assert [outcomes(each) for each in loaded.values()] == [[(0, CREATED)], [], [(0, CREATED)]]
    assert [row["job_id"] for row in rows_of_lake(lake)] == ["job_1", "job_3"]
    given = [before, Withdrawn(0), frame([(0, 3, "g", 3, 3.0)])]
    again = load_records(lake, table=TABLE, load_id="load_2", fence=2, staged=[job(4)], frames=given)
    assert outcomes(again["job_4"]) == [(3, CREATED)]


def test_frames_are_staged_as_they_come_and_before_the_tables_turn(lake: Warehouse) -> None:
    def frames() -> Iterator[pl.DataFrame]:
        yield frame([(0, 0, "g", 1, 1.0)])
        # Somebody else's load is not held up by one that is still read.
        assert outcomes(load(lake, frame([(0, 0, "g", 2, 2.0)]), job(1))["job_1"]) == [(0, CREATED)]
        yield frame([(0, 1, "g", 2, 3.0)])

    loaded = load_records(lake, table=TABLE, load_id="load_2", fence=2, staged=[job(2)], frames=frames())
    assert outcomes(loaded["job_2"]) == [(0, CREATED), (1, UPDATED)]


def test_reading_that_fails_in_the_middle_changes_nothing(lake: Warehouse) -> None:
    def frames() -> Iterator[pl.DataFrame]:
        yield frame([(0, 0, "g", 1, 1.0)])
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        load_records(lake, table=TABLE, load_id="load_1", fence=1, staged=[job(1)], frames=frames())
    assert rows_of_lake(lake) == []
    assert outcomes(load(lake, frame([]), job(1))["job_1"]) == []


def test_a_staged_file_that_was_forged_is_a_fault(lake: Warehouse, tmp_path: Path) -> None:
    """Whoever takes the parser over may write offsets that point outside of the file."""
    path = tmp_path / "frame.arrow"
    frame([(0, 0, "k" * 40, 1, 1.0)]).write_ipc(path)
    content = path.read_bytes()
    # A long string is laid out as its length, its first four bytes, the number of a buffer and an offset into it.
    place = content.index((40).to_bytes(4, "little") + b"kkkk")
    path.write_bytes(content[: place + 12] + (1 << 30).to_bytes(4, "little") + content[place + 16 :])
    with pytest.raises(WarehouseFault):
        load(lake, path, job(1))


def test_a_staged_file_that_is_cut_off_is_a_fault(lake: Warehouse, tmp_path: Path) -> None:
    for name in ("frame.parquet", "frame.arrow", "absent.parquet"):
        path = tmp_path / name
        if not name.startswith("absent"):
            path.write_bytes(b"PAR1")
        with pytest.raises(WarehouseFault):
            load(lake, path, job(1))


@pytest.mark.parametrize(
    ("name", "value"),
    [("scaled", math.inf), ("scaled", math.nan), ("gauge", None), ("submission", 9), ("record_index", -1)],
)
def test_the_staging_table_refuses_what_should_have_been_rejected(lake: Warehouse, name: str, value: object) -> None:
    good = frame([(0, 0, "g", 1, 1.0), (0, 1, "g", 2, 1.0)])
    bad = good.with_columns(pl.Series(name, [good[name][0], value], dtype=good.schema[name]))
    with pytest.raises(WarehouseFault):
        load(lake, bad, job(1))
    assert rows_of_lake(lake) == []


def test_a_job_of_no_workspace_is_refused(lake: Warehouse) -> None:
    with pytest.raises(WarehouseFault):
        load(lake, frame([(0, 0, "g", 1, 1.0)]), job(1, workspace=""))


def test_jobs_are_forgotten_when_they_are_old_and_their_rows_stay(lake: Warehouse) -> None:
    records = frame([(0, 0, "g", 1, 1.0)])
    load(lake, records, job(1))
    before = rows_of_lake(lake)
    assert lake.maintain()["jobs forgotten"] == 0
    lake.query('UPDATE lake.applied."gauge ""one""" SET applied_at = applied_at - INTERVAL 2 DAYS')
    assert lake.maintain()["jobs forgotten"] == 1
    # Nobody remembers the job, and still it changes nothing: its place in the order of acceptance is the row's.
    assert outcomes(load(lake, records, job(1))["job_1"]) == [(0, UNCHANGED)]
    assert rows_of_lake(lake) == before


def _worker(database_url: str, folder: Path, *, point: str, rows: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, database_url, str(folder), point, str(rows)], stdout=subprocess.PIPE, text=True
    )


def _wait_until_stopped(worker: subprocess.Popen[str]) -> None:
    for _ in range(600):
        assert worker.poll() is None
        if Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T":
            return
        time.sleep(0.05)
    raise AssertionError("the worker did not reach its point")


def test_a_job_that_was_given_up_is_recalled_with_its_outcomes_if_it_was_loaded(lake: Warehouse) -> None:
    load(lake, frame([(0, 0, "g", 1, 1.0)]), job(1))
    recalled = recall(lake, table=TABLE, fence=2, staged=[job(1), job(2, submission=1)])
    assert {name: outcomes(each) for name, each in recalled.items()} == {"job_1": [(0, CREATED)]}


def test_work_that_was_taken_away_is_not_loaded(lake: Warehouse) -> None:
    records = [frame([(0, 0, "g", 1, 1.0)])]
    with pytest.raises(LeaseLost):
        load_records(lake, table=TABLE, load_id="l", fence=1, staged=[job(1)], frames=records, still_ours=lambda: False)
    assert rows_of_lake(lake) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see that a process was stopped")
def test_a_worker_that_was_stopped_cannot_commit_a_job_that_was_recalled(
    lake: Warehouse, database_url: str, tmp_path: Path
) -> None:
    worker = _worker(database_url, tmp_path, point="pause:load.before_commit", rows=2)
    _wait_until_stopped(worker)
    assert recall(lake, table=TABLE, fence=2, staged=[job(1)]) == {}
    worker.send_signal(signal.SIGCONT)
    assert worker.communicate(timeout=60)[0].split()[-1] == LeaseLost.__name__
    assert rows_of_lake(lake) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see that a process was stopped")
@pytest.mark.parametrize("rows", [2, 2_000], ids=["inlined", "in a file"])
@pytest.mark.parametrize("point", ["load.staged", "load.merged", "load.before_commit", "load.after_commit"])
def test_a_worker_that_was_stopped_and_wakes_changes_nothing(
    lake: Warehouse, database_url: str, tmp_path: Path, point: str, rows: int
) -> None:
    worker = _worker(database_url, tmp_path, point=f"pause:{point}", rows=rows)
    _wait_until_stopped(worker)
    records = frame([(0, index, "g", index, 1.0) for index in range(rows)])
    loaded = load_records(lake, table=TABLE, load_id="load_2", fence=2, staged=[job(1)], frames=[records])
    before = rows_of_lake(lake)
    worker.send_signal(signal.SIGCONT)
    # The last line, because DuckDB draws a progress bar for programs that are no file.
    said = worker.communicate(timeout=60)[0].split()[-1]
    # One that had nothing but staged, or had committed, finds the job loaded; the others have lost their turn.
    assert said == (LeaseLost.__name__ if point in {"load.merged", "load.before_commit"} else "loaded")
    assert set(loaded["job_1"].outcome.tolist()) == {CREATED}
    assert rows_of_lake(lake) == before
    assert len(before) == rows


@pytest.mark.parametrize("point", ["load.staged", "load.merged", "load.before_commit", "load.after_commit"])
def test_a_worker_that_was_killed_leaves_all_of_a_job_or_nothing(
    lake: Warehouse, database_url: str, tmp_path: Path, point: str
) -> None:
    worker = _worker(database_url, tmp_path, point=point, rows=2_000)
    assert worker.wait(timeout=60) == -signal.SIGKILL
    assert worker.stdout is not None
    worker.stdout.close()
    assert len(rows_of_lake(lake)) == (2_000 if point == "load.after_commit" else 0)
    records = frame([(0, index, "g", index, 1.0) for index in range(2_000)])
    loaded = load(lake, records, job(1))
    assert set(loaded["job_1"].outcome.tolist()) == {CREATED}
    assert len(rows_of_lake(lake)) == 2_000


def test_a_load_after_the_connections_were_ended_succeeds(lake: Warehouse, database_url: str) -> None:
    load(lake, frame([(0, 0, "g", 1, 1.0)]), job(1))
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ingest-lake-%'"
        )
    load(lake, frame([(0, 0, "g", 2, 1.0)]), job(2))
    assert len(rows_of_lake(lake)) == 2
