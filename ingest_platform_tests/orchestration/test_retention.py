"""Old runs are deleted; the days stay green."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG

from ingest_platform.orchestration.retention import forget_runs

WEEK = timedelta(days=7)


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job
def quick() -> None:
    nothing()


def make_runs(instance: dg.DagsterInstance, days: Sequence[str | None]) -> list[str]:
    """Make a finished run of each day; None is a run of no day."""
    made = [
        instance.create_run_for_job(
            quick, tags={PARTITION_NAME_TAG: day} if day else {}, status=dg.DagsterRunStatus.SUCCESS
        )
        for day in days
    ]
    return [run.run_id for run in made]


def left(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_old_runs_go_and_the_newest_of_each_day_stays(instance: dg.DagsterInstance) -> None:
    made = make_runs(instance, ["2026-05-06", "2026-05-06", "2026-05-07", None])
    done = forget_runs(instance, now=datetime.now(UTC) + 2 * WEEK, age_max=WEEK)
    assert left(instance) == {made[1], made[2]}
    assert (done.deleted, done.left) == (2, 2)


def test_young_runs_stay(instance: dg.DagsterInstance) -> None:
    made = make_runs(instance, [None, None])
    done = forget_runs(instance, now=datetime.now(UTC), age_max=WEEK)
    assert left(instance) == set(made)
    assert done.deleted == 0


def test_under_load_young_runs_go_too_the_oldest_first(instance: dg.DagsterInstance) -> None:
    made = make_runs(instance, ["2026-05-06"] * 6)
    forget_runs(instance, now=datetime.now(UTC), age_max=WEEK, kept_max=2)
    assert left(instance) == set(made[4:])


def test_a_run_that_goes_on_is_never_deleted(instance: dg.DagsterInstance) -> None:
    going = instance.create_run_for_job(quick, status=dg.DagsterRunStatus.STARTED)
    forget_runs(instance, now=datetime.now(UTC) + 2 * WEEK, age_max=WEEK, kept_max=0)
    assert left(instance) == {going.run_id}
