"""A platform of the benchmark's own: on free loopback ports, in a folder that is gone afterwards, ended by its pid."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest_platform.storage import workspaces
from ingest_platform.storage.embedded import database_url
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.workspaces import Workspace

# Beside the platform's own data, because a temporary folder may be in memory, where fsync costs nothing.
BENCH_DIR = Path(__file__).resolve().parents[1] / "data" / "bench"
HOST = "127.0.0.1"
WORKSPACE = "demo"
CONFIG = "mdp_01kqzcjrpyf27tge9dnvsqv8t2"
# No benchmark is to measure the rate limit.
RATE_PER_MINUTE = 1_000_000_000
READY_SECONDS_MAX = 180.0
STOP_SECONDS_MAX = 25.0


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def clean_environment(**settings: object) -> dict[str, str]:
    """Make an environment with these settings and none of whoever runs the benchmark."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INGEST_", "DAGSTER_"))}
    return kept | {f"INGEST_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def scratch_dir() -> Generator[Path]:
    """Make a folder on the disk for a while."""
    BENCH_DIR.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=BENCH_DIR))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True, kw_only=True)
class Installation:
    """A running `ingest up`. `seen` has the seconds from its start to each of its events."""

    data_dir: Path
    api_port: int
    process: subprocess.Popen[bytes]
    seen: dict[str, float] = field(default_factory=dict[str, float])
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def token(self) -> str:
        """The key of the workspace."""
        credentials: Mapping[str, str] = json.loads((self.data_dir / "demo-credentials.json").read_text())
        return credentials["api_key"]

    @contextmanager
    def ledger(self) -> Generator[Ledger]:
        """Look into the platform's own tables."""
        with Ledger(database_url(self.data_dir, None), application="bench", connections_max=2) as ledger:
            yield ledger

    def _listen(self, began: float) -> None:
        assert self.process.stdout is not None
        with (self.data_dir.parent / "up.log").open("ab") as log:
            for line in self.process.stdout:
                log.write(line)
                self._hear(line, time.perf_counter() - began)

    def _hear(self, line: bytes, seconds: float) -> None:
        try:
            event: Mapping[str, str] = json.loads(line)
        except ValueError:
            return
        name = event["event"] if event["event"] != "part ready" else event["part"]
        self.seen.setdefault(name, seconds)
        if name == "ready":
            self.ready.set()

    def await_ready(self) -> None:
        """Wait until all parts are ready."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self.ready.wait(0.2):
            assert self.process.poll() is None, f"`ingest up` ended: see {self.data_dir.parent / 'up.log'}"
            assert time.monotonic() < deadline, f"not ready in {READY_SECONDS_MAX:.0f} s; so far: {self.seen}"

    def stop(self) -> float:
        """End it; the seconds that took."""
        began = time.perf_counter()
        self.process.terminate()
        try:
            self.process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            # Its parts and its database end with it: the kernel has been asked to see to that.
            self.process.kill()
            self.process.wait()
        return time.perf_counter() - began


@contextmanager
def installed(folder: Path, *, ui: bool = True) -> Generator[Installation]:
    """Run `ingest up` for a while, ready to be measured."""
    api_port, ui_port = free_port(), free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ingest_platform", "up", "--json", "--data-dir", str(folder / "data")),
            *("--api-port", str(api_port), "--ui-port", str(ui_port), "--ui" if ui else "--no-ui"),
        ],
        # Not where an ingest.toml may lie.
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    installation = Installation(data_dir=folder / "data", api_port=api_port, process=process)
    listener = threading.Thread(target=installation._listen, args=(began,), daemon=True)  # noqa: SLF001 - its own.
    listener.start()
    try:
        installation.await_ready()
        raise_limits(installation)
        yield installation
    finally:
        installation.stop()
        listener.join(timeout=5)


def raise_limits(installation: Installation) -> None:
    """Let the workspace send as much as it likes."""
    with installation.ledger() as ledger, ledger.transaction() as tx:
        workspaces.put(tx, unlimited_workspace())


def unlimited_workspace() -> Workspace:
    """Describe the workspace that benchmarks send to."""
    rate_limits = dict.fromkeys(("machine_data", "datasets", "stream_events"), RATE_PER_MINUTE)
    return Workspace(name=WORKSPACE, projects=(WORKSPACE,), rate_limits=rate_limits)
