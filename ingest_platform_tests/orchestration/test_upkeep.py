"""Upkeep, on real stores."""

import dagster as dg

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.runs import LocalRuns
from ingest_platform.orchestration.upkeep import JOB
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform_tests.pipeline.working import declare, reading, rows, submit, work


def test_upkeep_changes_no_row_and_says_what_it_did(runs: LocalRuns, place: Workplace) -> None:
    declare(place.platform)
    submit(place.platform, reading())
    work(place.platform)
    before = rows(place.platform)
    run = runs.instance.create_run_for_job(runs.job(JOB))
    assert runs.execute_launched(run.run_id)
    assert rows(place.platform, FEED) == before
    told = {
        entry.dagster_event.asset_key.path[1]: entry.asset_materialization.metadata
        for entry in runs.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if entry.dagster_event and entry.dagster_event.asset_key and entry.asset_materialization
    }
    assert set(told) == {"lake", "archive", "leftovers", "request_memory", "run_history"}
    assert told["lake"]["rows flushed"].value
    assert told["run_history"]["runs left"].value == 1
