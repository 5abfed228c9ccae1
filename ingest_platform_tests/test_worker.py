"""The worker as a process: it says when it is ready, works, and ends in good order on SIGTERM."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest_platform.domain.job import JobState
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.orchestration.test_worker import settled
from ingest_platform_tests.pipeline.working import declare, reading, submit

# Promise 17 gives a part 15 s; `ingest up` counts on 10.
END_SECONDS_MAX = 10
RUN = "import sys; from ingest_platform.settings import load_settings; from ingest_platform.worker import main; "
COMMAND = [sys.executable, "-c", RUN + "sys.exit(main(load_settings()))"]


@contextmanager
def worker(platform: Platform) -> Generator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "INGEST_DATABASE_URL": platform.ledger.database_url,
        "INGEST_DATA_DIR": str(platform.data_dir),
    }
    with subprocess.Popen(
        COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = next((line for line in process.stdout if "worker ready" in line), "")
            assert said, "the worker did not become ready"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_works_and_ends_in_good_order(platform: Platform, number: signal.Signals) -> None:
    declare(platform)
    with worker(platform) as process:
        assert settled(platform, submit(platform, reading())) is JobState.FINISHED
        process.send_signal(number)
        assert process.wait(timeout=END_SECONDS_MAX) == 0


def test_what_a_killed_worker_left_is_worked_off_by_the_next(platform: Platform, tmp_path: Path) -> None:
    declare(platform)
    with worker(platform):
        pass
    assert list((tmp_path / "run").glob("worker-*.sock"))
    job_id = submit(platform, reading())
    with worker(platform):
        assert settled(platform, job_id) is JobState.FINISHED
