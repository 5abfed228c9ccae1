"""Real Dagster runs, made and executed in this process. When one is made is the worker's business."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_run_iterator
from dagster._core.storage.dagster_run import DagsterRun, RunsFilter
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG, PARTITION_NAME_TAG, USER_TAG
from dagster._core.utils import make_new_run_id

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.feed import Feed
from ingest_platform.orchestration.factory import job_name
from ingest_platform.orchestration.origin import FEED_TAG, MODE_TAG, WORKER_TAG, Executor, Mode, job_origin
from ingest_platform.orchestration.partitions import key_of

# A live run takes loads for a minute; its last one may be a file of gigabytes.
LIVE_SECONDS_MAX = 3600
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class LocalRuns:
    """Runs of this process: makes live ones, executes those that the launcher hands over."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
        self.instance = instance
        self.executor = Executor.here()
        self._repository = definitions.get_repository_def()
        self._active: set[str] = set()
        self._lock = threading.Lock()
        _configure_logging_once(instance)

    @property
    def active(self) -> frozenset[str]:
        """The ids of the runs that this process executes now."""
        with self._lock:
            return frozenset(self._active)

    def job(self, name: str) -> dg.JobDefinition:
        """Look up a job that is known to exist."""
        return self._repository.get_job(name)

    def execute_live(self, feed: Feed, day: date) -> bool:
        """Make a run that works a feed's day off, and execute it to its end; tell whether it succeeded."""
        job = self.job(job_name(feed))
        run_id = make_new_run_id()
        with self._as_active(run_id):
            run = self.instance.create_run_for_job(
                job_def=job,
                run_id=run_id,
                execution_plan=create_execution_plan(InMemoryJob(job)),
                tags={
                    MODE_TAG: Mode.LIVE.value,
                    FEED_TAG: feed.name,
                    USER_TAG: "worker",
                    PARTITION_NAME_TAG: key_of(day),
                    WORKER_TAG: str(self.executor),
                    MAX_RUNTIME_SECONDS_TAG: str(LIVE_SECONDS_MAX),
                },
                remote_job_origin=job_origin(job.name),
            )
            reach("worker.run_created")
            return self._execute(run)

    def knows(self, run_id: str) -> bool:
        """Tell whether the run exists and its job is one of ours."""
        run = self.instance.get_run_by_id(run_id)
        return run is not None and self._repository.has_job(run.job_name)

    def execute_launched(self, run_id: str) -> bool:
        """Execute a run that the launcher handed over, to its end; tell whether it succeeded."""
        with self._as_active(run_id):
            self.instance.add_run_tags(run_id, {WORKER_TAG: str(self.executor)})
            run = self.instance.get_run_by_id(run_id)
            return run is not None and self._execute(run)

    @contextmanager
    def _as_active(self, run_id: str) -> Generator[None]:
        with self._lock:
            self._active.add(run_id)
        try:
            yield
        finally:
            with self._lock:
                self._active.discard(run_id)

    def _execute(self, run: DagsterRun) -> bool:
        succeeded = False
        for event in execute_run_iterator(InMemoryJob(self.job(run.job_name)), run, self.instance):
            succeeded = event.event_type is dg.DagsterEventType.RUN_SUCCESS
        return succeeded

    def reconcile(self) -> list[str]:
        """Report runs as failed that nobody executes any more; return their ids.

        Their process died without a word, or it is this one and the database was away when the run ended. What they
        had claimed comes back by its lease; nothing else hangs on them.
        """
        found: list[str] = []
        for run in self.instance.get_runs(filters=RunsFilter(statuses=_UNFINISHED)):
            executor = Executor.read(run.tags.get(WORKER_TAG, ""))
            if executor is None or run.run_id in self.active:
                continue
            if executor.dead or executor == self.executor:
                self.instance.report_run_failed(run, f"The process {executor} ended or lost the run.")
                found.append(run.run_id)
        return found


def _configure_logging_once(instance: dg.DagsterInstance) -> None:
    """Keep runs from configuring all of Python's logging anew, each when it begins.

    Dagster does so even where no handlers are declared: it closes every handler while it holds the lock of `logging`,
    and for that waits for a handler in which another run of this process waits for that lock. Both stand still for
    ever, and with them whoever logs. What is declared in dagster.yaml is made once, before the first run.
    """
    declared = instance.get_python_log_dagster_handler_config()
    handlers = list(instance.get_yaml_python_handlers()) if declared else []
    vars(instance)["get_yaml_python_handlers"] = lambda: handlers
