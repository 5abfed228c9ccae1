"""Where runs go: to the warm worker if there is one and they are short, else to a process of their own."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.launcher.base import LaunchRunContext, WorkerStatus

from ingest_platform.orchestration.handover import Message, Switchboard
from ingest_platform.orchestration.launcher import WarmRunLauncher
from ingest_platform.orchestration.origin import MODE_TAG, WORKER_TAG, Executor, Mode


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job
def quick() -> None:
    nothing()


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> WarmRunLauncher:
    """Take the launcher that dagster.yaml names."""
    found = instance.run_launcher
    assert isinstance(found, WarmRunLauncher)
    return found


@contextmanager
def worker(folder: Path, *, answer: str) -> Generator[list[Message]]:
    """Stand in for a worker that answers every question alike; what it was asked."""
    asked = list[Message]()

    def note(message: Message) -> Message:
        asked.append(message)
        return {"answer": answer}

    board = Switchboard(folder / "run", note)
    board.start()
    try:
        yield asked
    finally:
        board.close()


def make_run(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    return instance.create_run_for_job(quick, tags=tags)


def launch(launcher: WarmRunLauncher, run: dg.DagsterRun) -> None:
    launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))


def test_a_live_run_is_handed_to_the_worker(
    launcher: WarmRunLauncher, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run = make_run(instance, **{MODE_TAG: Mode.LIVE.value})
    with worker(tmp_path, answer="yes") as asked:
        launch(launcher, run)
    assert asked == [{"ask": "run", "run_id": run.run_id}]


@pytest.mark.parametrize(("mode", "answer"), [(Mode.HEAVY, "yes"), (Mode.LIVE, "no")])
def test_what_no_worker_takes_goes_the_stock_way(
    launcher: WarmRunLauncher, instance: dg.DagsterInstance, tmp_path: Path, mode: Mode, answer: str
) -> None:
    run = make_run(instance, **{MODE_TAG: mode.value})
    # The stock launcher asks for the workspace first of all, which this test has none of.
    with worker(tmp_path, answer=answer), pytest.raises(DagsterInvariantViolationError, match="workspace"):
        launch(launcher, run)


def test_a_socket_that_a_killed_worker_left_is_passed_over(
    launcher: WarmRunLauncher, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run = make_run(instance, **{MODE_TAG: Mode.LIVE.value})
    with worker(tmp_path, answer="yes") as asked:
        (tmp_path / "run" / "worker-0.sock").touch()
        launch(launcher, run)
    assert len(asked) == 1


def test_the_health_of_a_run_is_that_of_its_process(launcher: WarmRunLauncher, instance: dg.DagsterInstance) -> None:
    here = Executor.here()
    statuses = [
        launcher.check_run_worker_health(make_run(instance, **{WORKER_TAG: str(executor)})).status
        for executor in (here, replace(here, started=1), replace(here, host="elsewhere", started=1))
    ]
    assert statuses == [WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND, WorkerStatus.RUNNING]


def test_a_run_of_which_nothing_is_known_counts_as_alive(
    launcher: WarmRunLauncher, instance: dg.DagsterInstance
) -> None:
    assert launcher.check_run_worker_health(make_run(instance)).status is WorkerStatus.RUNNING


def test_terminating_a_live_run_asks_its_worker(
    launcher: WarmRunLauncher, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run = make_run(instance, **{MODE_TAG: Mode.LIVE.value, WORKER_TAG: str(Executor.here())})
    with worker(tmp_path, answer="yes") as asked:
        assert launcher.terminate(run.run_id)
    assert asked == [{"ask": "terminate", "run_id": run.run_id}]
    canceling = instance.get_run_by_id(run.run_id)
    assert canceling is not None
    assert canceling.status is dg.DagsterRunStatus.CANCELING
