"""Upkeep, on real stores."""

import dagster as dg
import pytest

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.runs import LocalRuns
from ingest_platform.orchestration.upkeep import JOB
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.work import work_load
from ingest_platform.storage.warehouse import applied_of
from ingest_platform_tests.making import claim, run_out
from ingest_platform_tests.pipeline.working import declare, job_of, reading, rows, submit, work


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


def test_a_job_that_was_loaded_and_never_settled_is_not_forgotten_however_old_it_is(
    runs: LocalRuns, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = place.platform
    declare(platform)
    job_id = submit(platform, reading())
    load = claim(platform.ledger)
    assert load is not None

    class Died(BaseException):
        """The worker is gone."""

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr("ingest_platform.pipeline.work.settle", die)
        with pytest.raises(Died):
            work_load(platform, FEED, load, run_id=None)
    # For two days nobody works, and upkeep goes on.
    platform.warehouse.query(f"UPDATE {applied_of(FEED.table.name)} SET applied_at = applied_at - INTERVAL 2 DAYS")
    assert runs.execute_launched(runs.instance.create_run_for_job(runs.job(JOB)).run_id)
    run_out(platform.ledger, load)
    work(platform)
    # As when it was loaded: the first time that this was said.
    assert job_of(platform, job_id).created == 1
