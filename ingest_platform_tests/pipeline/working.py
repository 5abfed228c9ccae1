"""What the path's tests do over and over: declare data points, submit readings, work them off, look at the rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from ingest_platform.domain.feed import AppendTable, Feed
from ingest_platform.domain.job import Job
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.rejection import Rejection
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.report import RunReport
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import catalog, jobs, outcomes, workspaces
from ingest_platform.storage.jobs import NewJob
from ingest_platform.storage.warehouse import RECORD_COLUMNS, prefix_of, rows_of
from ingest_platform_tests.making import accept, body_of, new_job

POINT = "mdp_01kqzcjrpyf27tge9dnvsqv8t2"
POINT_SOUTH = "mdp_01kqzcjrpyf27tge9dnvsqv8t3"
UNKNOWN_POINT = "mdp_01kqzcjrpyf27tge9dnvsqv8tz"
NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)

Row = Mapping[str, object]


def declare(
    platform: Platform, *, workspace: str = "acme", factor: float = 1.0, retired: bool = False, point: str = POINT
) -> None:
    """Declare two sites with a data point each; `factor` and `retired` are of the first one."""
    with platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name=workspace))
        catalog.put(
            tx,
            [
                catalog.Declared(workspace=workspace, kind="sites", id="north", body={}),
                catalog.Declared(workspace=workspace, kind="sites", id="south", body={}),
                _point(workspace, point, "north", factor=factor, retired=retired),
                _point(workspace, POINT_SOUTH, "south"),
            ],
        )


def _point(workspace: str, point: str, site: str, *, factor: float = 1.0, retired: bool = False) -> catalog.Declared:
    body = {"site": site, "machine": "kiln", "measurement": "temperature", "unit": "°C", "factor": factor}
    return catalog.Declared(
        workspace=workspace, kind="machine_data_point_configs", id=point, body=body, retired=retired
    )


def reading(value: object = 1.0, *, minute: int = 0, point: str = POINT) -> dict[str, object]:
    """Make a reading of a minute after noon."""
    at = NOON + timedelta(minutes=minute)
    return {"timestamp": at.isoformat(), "machine_data_point_config_id": point, "value": value}


def submission(*records: object, workspace: str = "acme", sites: Sequence[str] | None = None) -> NewJob:
    """Make a submission of readings."""
    return replace(new_job(body_of(records), workspace=workspace), sites=sites)


def submit(platform: Platform, *records: object, workspace: str = "acme", sites: Sequence[str] | None = None) -> str:
    """Submit readings; the job's id."""
    (accepted,) = accept(platform.ledger, submission(*records, workspace=workspace, sites=sites))
    return accepted.id


def work(platform: Platform, feed: Feed = FEED, *, day: date | None = None) -> RunReport:
    """Work off whatever waits."""
    return work_until_idle(platform, feed, day=day, run_id="run-1", linger_seconds=0.0)


def job_of(platform: Platform, job_id: str) -> Job:
    """Read a job."""
    with platform.ledger.connection() as connection:
        job = jobs.get_job(connection, workspace=None, job_id=job_id)
    assert job is not None
    return job


def fates_of(platform: Platform, job_id: str) -> list[str]:
    """Read the outcome of every record of a job, in input order."""
    with platform.ledger.connection() as connection:
        codes = outcomes.codes(connection, job_id)
    assert codes is not None
    return [Outcome(code).word for code in codes]


def rejections_of(platform: Platform, job_id: str) -> list[Rejection]:
    """Read all rejections of a job."""
    return list(outcomes.iter_rejections(platform.ledger, job_id))


def rows(platform: Platform, feed: Feed = FEED, *, without: Iterable[str] = ()) -> list[Row]:
    """Read the whole table, hidden columns too, in order of its key; the kernel's columns under their own names."""
    table = feed.table
    platform.warehouse.ensure([table])
    key = ("accepted_seq", "record_index") if isinstance(table, AppendTable) else table.key
    ours = {prefix_of(table) + column.name: column.name for column in RECORD_COLUMNS}
    named = ", ".join(f'"{name}" AS "{own}"' for name, own in ours.items() if name != own)
    chosen = f"* EXCLUDE ({', '.join(ours)}), {named}" if named else "*"
    order = ", ".join(f'"{name}"' for name in ("workspace", *key) if name not in set(without))
    found = platform.warehouse.query(f"SELECT {chosen} FROM {rows_of(table.name)} ORDER BY {order}")
    return found.drop_columns(list(without)).to_pylist()


def values(platform: Platform) -> list[object]:
    """Read the stored values in order of workspace, data point and time."""
    return [row["value"] for row in rows(platform)]


def put_blob(platform: Platform, key: str, content: bytes) -> None:
    """Put content into the store of blobs."""
    with platform.blobs.writer(key) as writer:
        writer.write(content)
        writer.commit()


def move_to(platform: Platform, job_id: str, day: date) -> None:
    """Let a submission have been accepted on another day."""
    with platform.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET day = %s WHERE id = %s", (day, job_id))
        tx.execute("UPDATE submissions SET day = %s WHERE job_id = %s", (day, job_id))
