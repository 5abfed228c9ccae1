"""Deliveries to webhooks from the warm worker, at once, and by the clock where there is none."""

from dataclasses import replace

import dagster as dg
import pytest

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.factory import build_definitions
from ingest_platform.orchestration.runs import LocalRuns
from ingest_platform.orchestration.webhooks import JOB
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.storage import webhooks
from ingest_platform_tests.orchestration.test_worker import working
from ingest_platform_tests.pipeline.working import declare, reading, submit, work
from ingest_platform_tests.receiving import LOOPBACK, receiving


@pytest.fixture
def reaching(place: Workplace) -> Workplace:
    """Make a workplace that may call loopback."""
    return replace(place, platform=replace(place.platform, outbound=LOOPBACK))


def _subscribe(place: Workplace, url: str) -> None:
    declare(place.platform)
    with place.platform.ledger.transaction() as tx:
        webhooks.create(
            tx, workspace="acme", url=url, events=["job.finished"], description="", secret="whsec_" + "0" * 32
        )


def test_the_worker_tells_of_a_finished_job_at_once(reaching: Workplace, instance: dg.DagsterInstance) -> None:
    with receiving() as receiver, working(reaching, instance) as worker:
        _subscribe(reaching, receiver.url)
        job_id = submit(reaching.platform, reading())
        (got,) = receiver.wait()
        assert job_id.encode() in got.body
        assert worker.end()


def test_the_schedule_sends_what_is_due_without_a_worker(reaching: Workplace, instance: dg.DagsterInstance) -> None:
    runs = LocalRuns(instance, build_definitions([FEED], lambda: reaching))
    with receiving() as receiver:
        _subscribe(reaching, receiver.url)
        submit(reaching.platform, reading())
        work(reaching.platform)
        run = instance.create_run_for_job(runs.job(JOB))
        assert runs.execute_launched(run.run_id)
        assert len(receiver.got) == 1
    (told,) = (
        entry.asset_materialization.metadata
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if entry.asset_materialization
    )
    assert (told["delivered"].value, told["waiting"].value) == (1, 0)
