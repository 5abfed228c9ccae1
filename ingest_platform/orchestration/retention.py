"""Deletion of Dagster's old runs, which Dagster itself keeps for ever (65 kB each)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES, RunRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG

from ingest_platform.orchestration.history import forget_checks

# Two feeds' runs of a day under full load: 65 kB each, so at most 200 MB of history.
RUNS_KEPT_MAX = 3000
# Records come with their tags and snapshots' ids: 2 MB a page.
PAGE = 200
# A deletion takes 17 ms; the rest is for the next time, a quarter of an hour later.
DELETED_MAX = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What one clean-up found and deleted."""

    deleted: int
    left: int
    oldest: datetime | None


def forget_runs(
    instance: dg.DagsterInstance, *, now: datetime, age_max: timedelta, kept_max: int = RUNS_KEPT_MAX
) -> Forgotten:
    """Delete finished runs that are too old or too many, oldest first; the newest of each job and day stays.

    That one keeps the day green in the UI. There is at most one a day and feed.
    """
    total = instance.get_runs_count()
    doomed = _doomed(instance, before=now - age_max, surplus=max(0, total - kept_max))
    for run_id in doomed:
        instance.delete_run(run_id)
    if doomed:
        forget_checks(instance, doomed)
    oldest = next(_oldest_first(instance), None)
    return Forgotten(
        deleted=len(doomed), left=total - len(doomed), oldest=None if oldest is None else oldest.create_timestamp
    )


def _doomed(instance: dg.DagsterInstance, *, before: datetime, surplus: int) -> list[str]:
    found: list[str] = []
    newest: dict[tuple[str, str], str] = {}
    for place, record in enumerate(_oldest_first(instance)):
        if (place >= surplus and record.create_timestamp > before) or len(found) >= DELETED_MAX:
            break
        if not _stays(instance, record, newest):
            found.append(record.dagster_run.run_id)
    return found


def _oldest_first(instance: dg.DagsterInstance) -> Iterator[RunRecord]:
    filters = dg.RunsFilter(statuses=list(FINISHED_STATUSES))
    cursor: str | None = None
    while page := instance.get_run_records(filters=filters, limit=PAGE, ascending=True, cursor=cursor):
        yield from page
        cursor = page[-1].dagster_run.run_id


def _stays(instance: dg.DagsterInstance, record: RunRecord, newest: dict[tuple[str, str], str]) -> bool:
    run = record.dagster_run
    day = run.tags.get(PARTITION_NAME_TAG)
    if day is None:
        return False
    if (run.job_name, day) not in newest:
        filters = dg.RunsFilter(
            job_name=run.job_name, tags={PARTITION_NAME_TAG: day}, statuses=[dg.DagsterRunStatus.SUCCESS]
        )
        found = instance.get_run_records(filters=filters, limit=1)
        newest[run.job_name, day] = found[0].dagster_run.run_id if found else ""
    return newest[run.job_name, day] == run.run_id
