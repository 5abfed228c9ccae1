"""`ingest up` as an operator meets it: real processes on free ports, killed and ended in every way."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ingest_platform.storage import embedded

# Generous: the machine that runs the tests does other things as well.
READY_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 15.0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Make a folder that no other test session closes to PostgreSQL's account, as pytest does with its own."""
    folder = Path(tempfile.mkdtemp(prefix="ingest-up-"))
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """A running `ingest up` and what it has said."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self.data_dir = data_dir
        self.api = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "ingest_platform", "up", "--json", "--data-dir", str(data_dir)]
        self.process = subprocess.Popen(
            [*command, "--api-port", str(port), "--ui-port", str(free_port()), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("INGEST_")},
            text=True,
        )
        self.events: list[dict[str, object]] = []
        self._ended = False
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self.events.append(json.loads(line) if line.startswith("{") else {"event": line})
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def hear(self, event: str, *, after: int = 0, **about: object) -> dict[str, object]:
        """Wait for an event, the first one after some others."""

        def found() -> dict[str, object] | None:
            wanted = {"event": event, **about}
            return next((one for one in self.events[after:] if wanted.items() <= one.items()), None)

        with self._heard:
            self._heard.wait_for(lambda: found() or self._ended, timeout=READY_SECONDS_MAX)
        answer = found()
        assert answer is not None, (event, about, self.events)
        return answer

    def pid_of(self, part: str) -> int:
        """Find the process of a part."""
        words = {"code": "grpc", "web": "dagster_webserver", "daemon": "dagster._daemon"}.get(part, part)
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child.pid for child in children if words in child.cmdline())

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and wait; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(timeout=STOP_SECONDS_MAX + 15)
        self._reader.join(timeout=5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextlib.contextmanager
def running(data_dir: Path, *flags: str) -> Iterator[Up]:
    up = Up(data_dir, *flags)
    family = [psutil.Process(up.process.pid)]
    try:
        yield up
    finally:
        if up.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += family[0].children(recursive=True)
            up.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                up.process.wait(timeout=STOP_SECONDS_MAX)
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        up.wait()


def _eventually(happened: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.05)
    return happened()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except OSError:
        return 0


@pytest.mark.long
def test_everything_comes_up_heals_and_ends_in_time(data_dir: Path) -> None:
    with running(data_dir) as up:
        ready = up.hear("ready")
        assert {one["part"] for one in up.events if one["event"] == "part ready"} == {
            *("postgres", "api", "worker", "code", "web", "daemon")
        }
        assert _status(f"{up.api}/readyz") == 200
        assert _status(f"{ready['ui']}/server_info") == 200
        credentials = Path(str(ready["credentials"]))
        assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
        keys = json.loads(credentials.read_text())
        assert keys["api_key"].startswith("ing_live_")
        assert keys["pat"].startswith("pat_")

        second = Up(up.data_dir)
        assert second.wait() == 1
        assert "already runs" in json.dumps(second.events)

        for part in ("worker", "api"):
            heard = len(up.events)
            os.kill(up.pid_of(part), signal.SIGKILL)
            up.hear("part ended", after=heard, part=part)
            up.hear("part ready", after=heard, part=part)
        heard = len(up.events)
        postmaster = int((up.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        up.hear("part ready", after=heard, part="postgres")
        assert _eventually(lambda: _status(f"{up.api}/readyz") == 200)

        family = psutil.Process(up.process.pid).children(recursive=True)
        assert len(family) >= 6
        started = time.monotonic()
        assert up.end() == 0
        assert time.monotonic() - started <= STOP_SECONDS_MAX
        assert _eventually(lambda: not any(one.is_running() for one in family))
        assert not embedded.running(up.data_dir)
        assert json.loads(credentials.read_text()) == keys


@pytest.mark.long
def test_a_killed_supervisor_leaves_nothing_and_a_new_one_starts_at_once(data_dir: Path) -> None:
    with running(data_dir, "--no-ui") as up:
        up.hear("ready")
        keys = (data_dir / "demo-credentials.json").read_text()
        family = psutil.Process(up.process.pid).children(recursive=True)
        up.end(signal.SIGKILL)
    assert _eventually(lambda: not any(one.is_running() for one in family))
    with running(data_dir, "--no-ui") as up:
        up.hear("ready")
        assert (data_dir / "demo-credentials.json").read_text() == keys
        assert up.end(signal.SIGINT) == 0
        stopped = up.hear("stopped")["seconds"]
        assert isinstance(stopped, float)
        assert stopped <= STOP_SECONDS_MAX
