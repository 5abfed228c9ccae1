"""The warm worker, its threads and its end."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import PARTITION_NAME_TAG

from ingest_platform.domain.errors import LedgerFault
from ingest_platform.domain.feed import Feed, FeedService
from ingest_platform.domain.job import JobState
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.factory import build_definitions, job_name
from ingest_platform.orchestration.handover import ask, sockets
from ingest_platform.orchestration.origin import JOBS_TAG, MODE_TAG, WORKER_TAG, Executor, Mode
from ingest_platform.orchestration.runs import LocalRuns
from ingest_platform.orchestration.sensors import WORKER_PART
from ingest_platform.orchestration.upkeep import JOB as UPKEEP
from ingest_platform.orchestration.worker import Worker
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import processes
from ingest_platform.storage.jobs import SETTLED
from ingest_platform.storage.ledger import connect
from ingest_platform_tests.making import body_of
from ingest_platform_tests.pipeline.working import declare, job_of, reading, submit

# A loaded machine starts a worker in a few seconds.
PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Running:
    """A worker in threads of this process."""

    runs: LocalRuns
    run_dir: Path
    stop: threading.Event
    ended_well: list[bool]
    thread: threading.Thread

    def end(self) -> bool:
        """Tell it to stop; whether it ended in good order."""
        self.stop.set()
        self.thread.join(timeout=PATIENCE_SECONDS)
        return self.ended_well == [True]


@contextmanager
def working(
    place: Workplace, instance: dg.DagsterInstance, *, linger_seconds: float = 0.0, feed: Feed = FEED
) -> Generator[Running]:
    stop = threading.Event()
    here = replace(
        place, linger_seconds=linger_seconds, stopping=stop.is_set, wake={FEED.name: threading.Event()}, cancelled=set()
    )
    runs = LocalRuns(instance, build_definitions([FEED], lambda: here))
    run_dir, ended_well = place.platform.data_dir / "run", list[bool]()
    worker = Worker(here, [feed], runs, run_dir=run_dir, stop=stop)
    thread = threading.Thread(target=lambda: ended_well.append(worker.run()))
    thread.start()
    running = Running(runs, run_dir, stop, ended_well, thread)
    try:
        yield running
    finally:
        running.end()


def settled(platform: Platform, job_id: str) -> JobState:
    """Wait until a job has ended."""
    with connect(platform.ledger.database_url, application="test") as connection:
        connection.execute(f"LISTEN {SETTLED}")
        if not job_of(platform, job_id).state.terminal:
            for notification in connection.notifies(timeout=PATIENCE_SECONDS):
                if notification.payload == job_id:
                    break
    return job_of(platform, job_id).state


def finished(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    """Wait until a run has ended: Dagster tells nobody, so it is asked."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        if run.is_finished:
            return run
        time.sleep(0.05)
    pytest.fail("the run did not end")


def test_what_is_landed_is_worked_off_by_a_real_run(place: Workplace, instance: dg.DagsterInstance) -> None:
    declare(place.platform)
    with working(place, instance) as running:
        job_id = submit(place.platform, reading())
        assert settled(place.platform, job_id) is JobState.FINISHED
        run_id = job_of(place.platform, job_id).run_id
        assert run_id is not None
        assert finished(instance, run_id).status is dg.DagsterRunStatus.SUCCESS
        assert running.end()


def test_what_waited_before_the_worker_began_is_worked_off(place: Workplace, instance: dg.DagsterInstance) -> None:
    declare(place.platform)
    job_id = submit(place.platform, reading())
    with working(place, instance):
        assert settled(place.platform, job_id) is JobState.FINISHED


def test_a_feeds_service_goes_on_hears_its_channel_and_outlives_a_fault(
    place: Workplace, instance: dg.DagsterInstance
) -> None:
    begun, told, failed = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def serve(platform: Platform, stop: Callable[[], bool], wait: Callable[[float], object]) -> None:
        assert platform is place.platform
        begun.release()
        while not stop():
            wait(PATIENCE_SECONDS)
            told.release()
            if not failed.is_set():
                failed.set()
                raise LedgerFault("away")

    served = replace(FEED, services=(FeedService(name="echo", channel="test_echo", run=serve),))
    with working(place, instance, feed=served) as running:
        assert begun.acquire(timeout=PATIENCE_SECONDS)
        for _ in range(2):
            # What is notified before the worker listens is not heard; it wakes everybody once it does.
            with place.platform.ledger.transaction() as tx:
                tx.execute("SELECT pg_notify('test_echo', '')")
            assert told.acquire(timeout=PATIENCE_SECONDS)
        assert begun.acquire(timeout=PATIENCE_SECONDS)
        assert running.end()


def test_a_run_goes_on_while_work_comes(place: Workplace, instance: dg.DagsterInstance) -> None:
    declare(place.platform)
    with working(place, instance, linger_seconds=5.0) as running:
        ids = []
        for minute in range(3):
            ids.append(submit(place.platform, reading(minute=minute)))
            settled(place.platform, ids[-1])
        (run_id,) = {job_of(place.platform, job_id).run_id for job_id in ids}
        assert run_id is not None
        # The end of the worker ends the lingering as well.
        assert running.end()
        assert finished(instance, run_id).tags[JOBS_TAG] == "3"


def test_a_dropped_file_is_taken_worked_and_filed(place: Workplace, instance: dg.DagsterInstance) -> None:
    declare(place.platform)
    drop = place.landing / "acme" / FEED.folder
    drop.mkdir(parents=True)
    archive = place.platform.data_dir / "archive"
    with working(place, instance):
        (drop / "readings.json").write_bytes(body_of([reading()]))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not list(archive.rglob("readings.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(list(archive.rglob("readings.json"))) == 1


def test_a_run_of_the_launcher_is_executed_here(place: Workplace, instance: dg.DagsterInstance) -> None:
    with working(place, instance) as running:
        upkeep = instance.create_run_for_job(running.runs.job(UPKEEP), tags={MODE_TAG: Mode.LIGHT.value})
        (path,) = waited_for(running.run_dir)
        assert ask(path, {"ask": "run", "run_id": upkeep.run_id}) == {"answer": "yes"}
        assert finished(instance, upkeep.run_id).status is dg.DagsterRunStatus.SUCCESS


@pytest.mark.parametrize("message", [{"ask": "run", "run_id": "unknown"}, {"ask": "terminate", "run_id": "x"}, {}])
def test_what_the_worker_can_not_do_it_declines(
    place: Workplace, instance: dg.DagsterInstance, message: dict[str, str]
) -> None:
    with working(place, instance) as running:
        (path,) = waited_for(running.run_dir)
        assert ask(path, message) == {"answer": "no"}


def test_a_lingering_run_can_be_terminated(place: Workplace, instance: dg.DagsterInstance) -> None:
    declare(place.platform)
    with working(place, instance, linger_seconds=PATIENCE_SECONDS) as running:
        job_id = submit(place.platform, reading())
        assert settled(place.platform, job_id) is JobState.FINISHED
        run_id = job_of(place.platform, job_id).run_id
        assert run_id is not None
        (path,) = sockets(running.run_dir)
        assert ask(path, {"ask": "terminate", "run_id": run_id}) == {"answer": "yes"}
        assert finished(instance, run_id).status in {dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE}
    assert job_of(place.platform, job_id).state is JobState.FINISHED


def test_a_worker_is_alive_for_as_long_as_it_runs(place: Workplace, instance: dg.DagsterInstance) -> None:
    with working(place, instance) as running:
        waited_for(running.run_dir)
        assert alive(place) == 1
        assert running.end()
    assert sockets(running.run_dir) == []


def test_a_run_that_a_dead_worker_left_is_reported_at_start(place: Workplace, instance: dg.DagsterInstance) -> None:
    definitions = build_definitions([FEED], lambda: place)
    job = definitions.resolve_job_def(job_name(FEED))
    tags = {WORKER_TAG: str(replace(Executor.here(), started=1)), PARTITION_NAME_TAG: "2026-05-06"}
    lost = instance.create_run_for_job(job, tags=tags)
    with working(place, instance):
        assert finished(instance, lost.run_id).status is dg.DagsterRunStatus.FAILURE


def waited_for(run_dir: Path) -> list[Path]:
    """Wait until the worker can be asked, which is when it is ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for path in sockets(run_dir):
            try:
                ask(path, {})
            except OSError:
                continue
            return [path]
        time.sleep(0.05)
    pytest.fail("no worker became ready")


def alive(place: Workplace) -> int:
    """Count the workers that are alive, as the sensors do."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with place.platform.ledger.connection() as tx:
            if count := processes.alive(tx, part=WORKER_PART):
                return count
        time.sleep(0.05)
    return 0
