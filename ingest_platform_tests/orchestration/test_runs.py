"""Real runs, made and executed in this process."""

from dataclasses import replace
from datetime import UTC, date, datetime

import dagster as dg
import pytest
from dagster._core.storage.tags import PARTITION_NAME_TAG

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.factory import job_name
from ingest_platform.orchestration.origin import FEED_TAG, JOBS_TAG, MODE_TAG, WORKER_TAG, Executor, Mode
from ingest_platform.orchestration.runs import LocalRuns
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform_tests.pipeline.working import declare, job_of, reading, submit


def today() -> date:
    return datetime.now(UTC).date()


def test_a_live_run_works_off_what_waits_and_says_so(runs: LocalRuns, place: Workplace) -> None:
    declare(place.platform)
    job_id = submit(place.platform, reading(), {"timestamp": "yesterday"})
    assert runs.execute_live(FEED, job_of(place.platform, job_id).accepted_at.date())
    (run,) = runs.instance.get_runs()
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags.items() >= {FEED_TAG: FEED.name, MODE_TAG: "live", JOBS_TAG: "1"}.items()
    assert job_of(place.platform, job_id).run_id == run.run_id


def test_every_station_and_every_check_of_a_run_is_reported(runs: LocalRuns, place: Workplace) -> None:
    declare(place.platform)
    submit(place.platform, reading())
    runs.execute_live(FEED, today())
    (run,) = runs.instance.get_runs()
    events = [entry.dagster_event for entry in runs.instance.all_logs(run.run_id) if entry.dagster_event]
    materialized = {event.asset_key.path[1] for event in events if event.is_step_materialization and event.asset_key}
    assert materialized == {"landed", "checked", "readings", "outcomes", "rejections"}
    results = {
        event.asset_check_evaluation_data.check_name: event.asset_check_evaluation_data.passed
        for event in events
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    }
    assert results == {"counts_balance": True, "no_duplicate_keys": True, "nothing_overdue": True}


def test_a_run_is_linked_to_its_job_in_the_code_location(runs: LocalRuns) -> None:
    runs.execute_live(FEED, today())
    (run,) = runs.instance.get_runs()
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.repository_origin.get_label() == "__repository__@ingest_platform"
    assert run.remote_job_origin.job_name == job_name(FEED)
    assert run.job_snapshot_id is not None
    assert runs.instance.has_job_snapshot(run.job_snapshot_id)


def test_a_run_of_a_day_works_it_again_and_changes_nothing(runs: LocalRuns, place: Workplace) -> None:
    declare(place.platform)
    job_id = submit(place.platform, reading(), reading(2.0, minute=1))
    runs.execute_live(FEED, today())
    before = job_of(place.platform, job_id)
    launched = runs.instance.create_run_for_job(
        runs.job(job_name(FEED)), tags={PARTITION_NAME_TAG: before.accepted_at.date().isoformat()}
    )
    assert runs.execute_launched(launched.run_id)
    assert job_of(place.platform, job_id) == before
    again = runs.instance.get_run_by_id(launched.run_id)
    assert again is not None
    assert again.tags[JOBS_TAG] == "1"


def test_a_run_whose_process_died_is_reported_as_failed(runs: LocalRuns) -> None:
    dead = replace(Executor.here(), started=1)
    lost = runs.instance.create_run_for_job(
        runs.job(job_name(FEED)), tags={WORKER_TAG: str(dead), PARTITION_NAME_TAG: today().isoformat()}
    )
    elsewhere = runs.instance.create_run_for_job(
        runs.job(job_name(FEED)),
        tags={WORKER_TAG: str(replace(dead, host="elsewhere")), PARTITION_NAME_TAG: today().isoformat()},
    )
    assert runs.reconcile() == [lost.run_id]
    statuses = {run.run_id: run.status for run in runs.instance.get_runs()}
    assert statuses[lost.run_id] is dg.DagsterRunStatus.FAILURE
    assert statuses[elsewhere.run_id] is dg.DagsterRunStatus.NOT_STARTED


def test_a_run_that_this_process_lost_is_reported_as_failed(runs: LocalRuns) -> None:
    lost = runs.instance.create_run_for_job(
        runs.job(job_name(FEED)), tags={WORKER_TAG: str(Executor.here()), PARTITION_NAME_TAG: today().isoformat()}
    )
    assert runs.reconcile() == [lost.run_id]


def test_a_run_that_was_cancelled_takes_nothing_and_ends_as_cancelled(runs: LocalRuns, place: Workplace) -> None:
    declare(place.platform)
    job_id = submit(place.platform, reading())
    launched = runs.instance.create_run_for_job(
        runs.job(job_name(FEED)), tags={PARTITION_NAME_TAG: today().isoformat(), MODE_TAG: Mode.LIVE.value}
    )
    place.cancelled.add(launched.run_id)
    assert not runs.execute_launched(launched.run_id)
    assert not job_of(place.platform, job_id).state.terminal
    ended = runs.instance.get_run_by_id(launched.run_id)
    assert ended is not None
    assert ended.is_finished


def test_only_runs_of_known_jobs_are_taken_over(runs: LocalRuns) -> None:
    assert not runs.knows("no-such-run")


def test_a_run_leaves_the_logging_of_its_process_alone(runs: LocalRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuring it anew closes the handlers of the runs beside it, and two runs wait for each other for ever."""
    configured: list[object] = []
    monkeypatch.setattr("logging.config.dictConfig", configured.append)
    assert runs.execute_live(FEED, today())
    assert configured == []
