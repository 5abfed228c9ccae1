"""Where a run is executed: in the warm worker or in a process of its own. What runs do is not known here."""

from pathlib import Path

from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.dagster_run import DagsterRun
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import ConfigurableClassData, deserialize_value

from ingest_platform.orchestration.handover import Message, ask, sockets
from ingest_platform.orchestration.origin import WORKER_TAG, Executor, warm


class WarmRunLauncher(DefaultRunLauncher):
    """Hands live and light runs to a warm worker (0.1 s), everything else to a new process (4 to 13 s of CPU).

    Without a worker every run gets a process of its own, as with Dagster's stock launcher.
    """

    def __init__(self, run_dir: Path, *, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data=inst_data)
        self._run_dir = run_dir

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run, wherever it belongs."""
        run = context.dagster_run
        if warm(run.tags) and self._ask_any({"ask": "run", "run_id": run.run_id}):
            return
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Ask whoever executes the run to end it."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if WORKER_TAG in run.tags and warm(run.tags):
            self._instance.report_run_canceling(run)
            return self._ask_any({"ask": "terminate", "run_id": run_id})
        return super().terminate(run_id)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Say that the daemon may ask for the health of a run's process."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Tell whether the process that executes the run lives.

        Unlike stock Dagster this finds a run whose whole stack was killed. Whatever can't be known counts as alive.
        """
        executor = Executor.read(run.tags.get(WORKER_TAG, ""))
        if executor is None:
            return self._ask_code_server(run)
        if executor.dead:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"The process {executor} is gone.")
        return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(executor))

    def _ask_code_server(self, run: DagsterRun) -> CheckRunHealthResult:
        client = self._get_grpc_client_for_termination(run.run_id)
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "Nobody is known to ask.")
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The code server that started the run is gone.")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The code server does not know the run.")

    def _ask_any(self, message: Message) -> bool:
        """Ask the workers of this machine one after another until one says yes."""
        for path in sockets(self._run_dir):
            try:
                if ask(path, message).get("answer") == "yes":
                    return True
            except (OSError, ValueError):
                # A worker that was killed leaves its socket behind.
                continue
        return False
