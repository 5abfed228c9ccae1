"""What feeds do from time to time: an asset, a job and a schedule of each; and what feeds work out, in every run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from ingest_platform.domain.feed import Feed, FeedAspect, FeedTask, Look
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.factory import FILE_DOOR, HTTP_DOOR, build_definitions, feed_asset, job_name
from ingest_platform.orchestration.origin import FEED_TAG, MODE_TAG
from ingest_platform.orchestration.runs import LocalRuns
from ingest_platform.orchestration.tasks import task_job_name
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.pipeline.working import declare, reading, submit


def never() -> Workplace:
    """Fail if anything is opened."""
    raise AssertionError


def look(platform: Platform, job_ids: Sequence[str] | None) -> Look:
    """Find something wrong as soon as everything is asked for."""
    asked = "everything" if job_ids is None else f"{len(job_ids)} jobs"
    rows = [{"folder": platform.data_dir.name, "of": asked}]
    return Look(figures={"looked at": asked, "kilns": 2, "hottest": rows}, passed={"sane": job_ids is not None})


def tidy_up(_: Platform) -> Mapping[str, object]:
    return {"swept": 7, "share": 0.123456, "done": True, "nothing": []}


KILNS = FeedAspect(name="kilns", title="What kilns do.", checks={"sane": "No kiln is mad."}, look=look)
SWEEP = FeedTask(name="sweep", title="Ashes removed", cron="*/7 * * * *", run=tidy_up)
MEND = FeedTask(name="mend", title="Kilns mended", cron="0 4 * * *", run=tidy_up, heavy=True, aspect=KILNS)
BUSY = replace(FEED, aspects=(KILNS,), tasks=(SWEEP, MEND))


@pytest.fixture
def busy(instance: dg.DagsterInstance, place: Workplace) -> LocalRuns:
    """Make runs of a feed that has tasks."""
    return LocalRuns(instance, build_definitions([BUSY], lambda: place))


def events_of(runs: LocalRuns, run_id: str) -> list[dg.DagsterEvent]:
    return [entry.dagster_event for entry in runs.instance.all_logs(run_id) if entry.dagster_event]


def told(events: Sequence[dg.DagsterEvent]) -> dict[str, Mapping[str, dg.MetadataValue]]:
    """List what was told of each asset."""
    made = [event.step_materialization_data.materialization for event in events if event.is_step_materialization]
    return {each.asset_key.path[-1]: each.metadata for each in made}


def checked(events: Sequence[dg.DagsterEvent]) -> dict[str, bool]:
    found = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    return {each.check_name: each.passed for each in found}


def parents(feed: Feed, name: str) -> set[str]:
    graph = build_definitions([feed], never).get_repository_def().asset_graph
    return {key.to_user_string() for key in graph.get(dg.AssetKey([feed.name, name])).parent_keys}


def test_what_a_feed_works_out_stands_behind_its_table_and_its_tasks_behind_that() -> None:
    assert parents(BUSY, "kilns") == {"machine_data/readings"}
    assert parents(BUSY, "sweep") == parents(BUSY, "mend") == {"machine_data/kilns"}
    assert parents(replace(BUSY, aspects=()), "sweep") == {"machine_data/readings"}


def test_no_task_is_done_by_the_job_that_works_the_feed_off() -> None:
    job = build_definitions([BUSY], never).resolve_job_def(job_name(BUSY))
    assert job.asset_layer.selected_asset_keys == {spec.key for spec in feed_asset(BUSY, never).specs}
    assert not job.asset_layer.selected_asset_keys & {HTTP_DOOR, FILE_DOOR}


@pytest.mark.parametrize(("task", "mode"), [(SWEEP, "light"), (MEND, "heavy")])
def test_each_task_has_a_schedule_and_a_job_of_its_own(task: FeedTask, mode: str) -> None:
    definitions = build_definitions([BUSY], never)
    name = task_job_name(BUSY, task)
    schedule = definitions.resolve_schedule_def(name)
    assert (schedule.cron_schedule, schedule.execution_timezone) == (task.cron, "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert definitions.resolve_job_def(name).run_tags.items() >= {MODE_TAG: mode, FEED_TAG: BUSY.name}.items()


def test_a_task_tells_its_figures(busy: LocalRuns) -> None:
    run = busy.instance.create_run_for_job(busy.job(task_job_name(BUSY, SWEEP)))
    assert busy.execute_launched(run.run_id)
    found = told(events_of(busy, run.run_id))
    assert {name: value.value for name, value in found["sweep"].items()} == {
        "swept": 7,
        "share": 0.1235,
        "done": True,
        "nothing": "none",
    }


def test_after_a_task_everything_of_its_aspect_is_checked(busy: LocalRuns) -> None:
    run = busy.instance.create_run_for_job(busy.job(task_job_name(BUSY, MEND)))
    assert busy.execute_launched(run.run_id)
    events = events_of(busy, run.run_id)
    assert told(events)["mend"]["looked at"].value == "everything"
    assert told(events)["mend"]["swept"].value == 7
    assert checked(events) == {"sane": False}


def test_a_live_run_looks_at_what_it_touched_and_says_so_on_both_pages(busy: LocalRuns, place: Workplace) -> None:
    declare(place.platform)
    submit(place.platform, reading())
    busy.execute_live(BUSY, datetime.now(UTC).date())
    (run,) = busy.instance.get_runs()
    events = events_of(busy, run.run_id)
    found = told(events)
    assert found["kilns"]["looked at"].value == "1 jobs"
    assert checked(events)["sane"]
    rows = found["kilns"]["hottest"]
    assert isinstance(rows, dg.TableMetadataValue)
    assert rows == found["readings"]["hottest"]
    assert found["readings"]["created"].value == 1
