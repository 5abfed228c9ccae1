"""A whole platform under one data directory: the real processes, killed, paused and started again by its user.

It is the supervisor here, in the place of `ingest up`, so that a test decides what dies when.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import httpx
import psutil
import psycopg

from ingest_platform.domain.errors import Fault
from ingest_platform.feeds.datasets import FEED as DATASETS
from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.datasets.shapes import shape_of
from ingest_platform.feeds.issues.load import TABLE as ISSUES
from ingest_platform.feeds.machine_data.load import TABLE as READINGS
from ingest_platform.feeds.stream_events import FEED as STREAM_EVENTS
from ingest_platform.storage import catalog, embedded, keys, quotas, workspaces
from ingest_platform.storage.ledger import Ledger, migrate
from ingest_platform.storage.warehouse import Warehouse, records_of, rows_of
from ingest_platform_tests.crash.datasets import FIELDS, Row
from ingest_platform_tests.crash.journal import FACTOR, MARKED, OVERLAPPING
from ingest_platform_tests.crash.streams import DECLARED, DESTINATIONS, STREAM

ROOT = Path(__file__).parents[2]
# The least that the settings allow: a trial waits for it.
LEASE_SECONDS = 2
READY_SECONDS_MAX = 30.0
# Often enough to lose no time, seldom enough to leave the cores to what is watched.
POLL_SECONDS = 0.08
NEVER = "never"
# The trials alone make this load; beyond it, others do.
LOAD_PER_CORE = 3.0
PATIENCE_MAX = 4.0
SCOPES = (
    *("machine-data:write", "machine-data:read", "jobs:read", "ingest:write", "issues:read", "patterns:read"),
    *("datasets:write", "streams:write"),
)
PROJECT = "shop"


class NotInTime(AssertionError):
    """Something did not happen within its time."""


def patience(seconds: float) -> float:
    """Stretch a time limit where the machine is busy with other things: limits are meant for one that is not."""
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * min(max(1.0, busy / LOAD_PER_CORE), PATIENCE_MAX)


def await_true(happened: Callable[[], bool], *, seconds_max: float, what: str) -> None:
    """Look until something has happened."""
    deadline = time.monotonic() + patience(seconds_max)
    while not happened():
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {seconds_max:g} s: {what}")
        time.sleep(POLL_SECONDS)


class Part:
    """One process: started, armed, killed, started again."""

    def __init__(self, name: str, command: Sequence[str], *, environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._log = folder / f"{name}.log"
        self._log_begin = 0
        # A planted defect stays until it is taken out, however often the part dies.
        self.mutant = "-"

    def start(self, *, crashpoint: str | None = None) -> None:
        """Start it so that it can be armed; with a `crashpoint`, as a user would, armed by the environment."""
        self.kill()
        ours, theirs = socket.socketpair()
        armed = ("-m", "ingest_platform_tests.crash.armed", self.mutant, str(self._folder / "fsyncs"))
        plain = ("-m", "ingest_platform")
        extra = {} if crashpoint is None else {"INGEST_CRASHPOINT": crashpoint}
        module = armed if crashpoint is None else plain
        if self._command[0] == "-m":
            module = ()
        with theirs, self._log.open("ab") as log:
            self._log_begin = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, *module, *self._command],
                cwd=ROOT,
                env={**self._environment, **extra},
                stdin=theirs,
                stdout=log,
                stderr=log,
            )
        self._channel = ours

    def arm(self, spec: str) -> None:
        """Arm a point in the running process."""
        assert self._channel is not None
        self._channel.settimeout(READY_SECONDS_MAX)
        self._channel.sendall(f"{spec}\n".encode())
        # It may reach the point at once: then there is no answer, and none is needed.
        with suppress(ConnectionError):
            self._channel.recv(16)

    def await_ready(self) -> None:
        """Wait until a worker says that it is one; an API is asked by its port."""
        if "worker" in self._command:
            await_true(self._has_said_ready, seconds_max=READY_SECONDS_MAX, what=f"{self.name} is ready")

    def _has_said_ready(self) -> bool:
        with self._log.open("rb") as log:
            log.seek(self._log_begin)
            return b"worker ready" in log.read()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def alive(self) -> bool:
        """Whether it runs or is paused."""
        return self._process is not None and self._process.poll() is None

    @property
    def paused(self) -> bool:
        """Whether it is stopped by a signal."""
        return self.alive and self._process is not None and _status(self._process.pid) == psutil.STATUS_STOPPED

    def kill(self) -> None:
        """End it as the kernel does when memory is short, and with it whatever it started."""
        if self._process is not None:
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(self._process.pid).children(recursive=True)
                for each in [self._process, *children]:
                    with suppress(psutil.NoSuchProcess):
                        each.send_signal(signal.SIGKILL)
            self._process.wait()
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _status(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Lake:
    """What the lake itself has of a workspace: keys with two rows; records that are kept, and their different places.

    `repeated_keys` are data points with more than one value at one instant, `rows` those of the workspace's dataset.
    `quota_used` is what the ledger has counted of them.
    """

    repeated_keys: int
    repeated_issues: int
    kept_records: tuple[int, int]
    rows: Sequence[Row] = ()
    quota_used: int = 0
    # Bodies of events that the inbox still has.
    bodies_kept: int = 0


class Installation:
    """PostgreSQL, an API or more, two workers, and the Dagster daemon when it is wanted."""

    def __init__(self, data_dir: Path, *, apis: int = 1) -> None:
        self.data_dir = data_dir
        self.server = embedded.start(data_dir)
        migrate(self.server.url)
        self.ports = [_free_port() for _ in range(apis)]
        self.port = self.ports[0]
        self._folder = data_dir / "run" / "logs"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("INGEST_")},
            "INGEST_DATA_DIR": str(data_dir),
            "INGEST_DATABASE_URL": self.server.url,
            "INGEST_LEASE_SECONDS": str(LEASE_SECONDS),
            "INGEST_LOG_FORMAT": "json",
            "DAGSTER_HOME": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

        def part(name: str, *command: str, port: int = self.port) -> Part:
            here = {**environment, "INGEST_API_PORT": str(port)}
            return Part(name, command, environment=here, folder=self._folder)

        self.apis = [part(f"api-{number}", "api", port=port) for number, port in enumerate(self.ports, start=1)]
        self.api = self.apis[0]
        self.workers = [part("worker-1", "worker"), part("worker-2", "worker")]
        self.daemon = part("daemon", "-m", "dagster._daemon", "run", "-w", str(ROOT / "workspace.yaml"))
        self.warehouse = Warehouse(
            self.server.url, lake_path=str(data_dir / "lake"), memory_bytes_max=256 * 1024 * 1024, threads=1
        )
        self.wanted: set[Part] = {*self.apis, *self.workers}
        self.raise_dead()

    def raise_dead(self) -> list[str]:
        """Do what a supervisor does: start again what has died; returns its names."""
        dead = [part.name for part in self.wanted if not part.alive]
        if not self.server.alive():
            self.server.wait(seconds_max=1)
            self.server = embedded.start(self.data_dir)
            dead.append("postgres")
        for part in self.wanted:
            if not part.alive:
                part.start()
        return dead

    def await_ready(self) -> None:
        """Wait until every API answers that it can accept."""

        def ready() -> bool:
            self.raise_dead()
            with suppress(httpx.HTTPError):
                answers = [httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2) for port in self.ports]
                return all(answer.status_code == 200 for answer in answers)
            return False

        await_true(ready, seconds_max=READY_SECONDS_MAX, what="the API is ready")

    @contextmanager
    def mutated(self, parts: Sequence[Part], mutant: str) -> Iterator[None]:
        """Run parts with a defect for a with block."""
        for part in parts:
            part.mutant = mutant
            part.start()
        try:
            yield
        finally:
            for part in parts:
                part.mutant = "-"
                part.start()

    @contextmanager
    def committing_lazily(self) -> Iterator[None]:
        """Let the database answer before a commit is on the disk, for a with block."""
        self._alter("ALTER DATABASE ingest SET synchronous_commit = off", "ALTER SYSTEM SET wal_writer_delay = '10s'")
        try:
            yield
        finally:
            self._alter("ALTER DATABASE ingest RESET synchronous_commit", "ALTER SYSTEM RESET wal_writer_delay")

    def _alter(self, *statements: LiteralString) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = on")
            for statement in (*statements, "SELECT pg_reload_conf()"):
                connection.execute(statement)
        # Whoever is connected keeps what was set when it came.
        for part in (*self.apis, *self.workers):
            part.start()

    def kill_postgres(self, *, first_only: bool = False) -> None:
        """Kill the server: all of its processes at once, or the first one, which the others must notice."""
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.server.pid)
            family = [first] if first_only else [first, *first.children(recursive=True)]
            # Stopped before they are killed, so that none of them can react to the end of another.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for each in family:
                    with suppress(psutil.NoSuchProcess):
                        each.send_signal(number)

    def lose_power(self) -> None:
        """Kill everything, and lose what was written to blobs but not made durable, as a power loss may."""
        self.kill_postgres()
        for part in (*self.apis, *self.workers):
            part.kill()
        notes = self._folder / "fsyncs"
        lines = set(notes.read_text(encoding="utf-8").splitlines()) if notes.exists() else set[str]()
        blobs = self.data_dir / "blobs"
        for path in sorted(blobs.rglob("*"), reverse=True):
            status = path.stat()
            if f"name {path}" not in lines:
                path.rmdir() if path.is_dir() and not list(path.iterdir()) else path.unlink()
            elif path.is_file() and f"file {status.st_ino} {status.st_size}" not in lines:
                os.truncate(path, 0)

    def make_workspace(self, name: str) -> str:
        """Declare a workspace with its data points; returns a key's token."""
        configs = [
            catalog.Declared(
                workspace=name,
                kind="machine_data_point_configs",
                id=config,
                body={"site": "plant", "machine": "kiln", "measurement": config[-1], "unit": "", "factor": FACTOR},
            )
            for config in (*OVERLAPPING, MARKED)
        ]
        site = catalog.Declared(workspace=name, kind="sites", id="plant", body={})
        with Ledger(self.server.url, application="crash-test") as ledger, ledger.transaction() as tx:
            tx.execute("SET LOCAL synchronous_commit = on")
            workspaces.put(
                tx,
                workspaces.Workspace(
                    name=name,
                    projects=(PROJECT,),
                    rate_limits=dict.fromkeys(("machine_data", "issues", "datasets"), 1_000_000),
                ),
            )
            catalog.put(tx, [site, *configs])
            return keys.issue(tx, keys.NewKey(workspace=name, project=PROJECT, scopes=SCOPES)).token

    def make_dataset(self, workspace: str) -> str:
        """Make the default dataset of a workspace's project; returns its id."""
        with Ledger(self.server.url, application="crash-test") as ledger, ledger.transaction() as tx:
            tx.execute("SET LOCAL synchronous_commit = on")
            made = registry.default_or_new(tx, workspace=workspace, project=PROJECT)
            registry.register_schema(tx, made, FIELDS)
            return str(made.id)

    def make_stream(self, workspace: str) -> None:
        """Declare a stream with its destinations."""
        entries = [("destinations", name, body) for name, body in DESTINATIONS.items()]
        entries.append(("streams", STREAM, DECLARED))
        with Ledger(self.server.url, application="crash-test") as ledger, ledger.transaction() as tx:
            tx.execute("SET LOCAL synchronous_commit = on")
            catalog.put(
                tx, [catalog.Declared(workspace=workspace, kind=kind, id=id_, body=body) for kind, id_, body in entries]
            )

    def look_into_lake(self, workspace: str) -> Lake:
        """Look for what no answer of the API shows."""
        for last in (False, True):
            try:
                return self._look(workspace)
            except Fault:
                # Its connections may have died with the server.
                self.warehouse.close()
                if last:
                    raise
        raise AssertionError

    def _look(self, workspace: str) -> Lake:
        self.warehouse.ensure([READINGS, ISSUES])

        def told(query: str) -> list[int]:
            return [column[0].as_py() for column in self.warehouse.query(query, [workspace]).columns]

        def repeated(table: str, key: str) -> str:
            rows = f"SELECT 1 FROM {rows_of(table)} WHERE workspace = ? GROUP BY {key} HAVING count(*) > 1"
            return f"SELECT count(*) FROM ({rows})"

        kept = f"SELECT count(*), count(DISTINCT (job_id, record_index)) FROM {records_of(ISSUES)} WHERE workspace = ?"
        records, places = told(kept)
        rows, used = self._look_at_dataset(workspace)
        return Lake(
            repeated_keys=told(repeated(READINGS.name, "machine_data_point_config_id, timestamp"))[0],
            repeated_issues=told(repeated(ISSUES.name, "source_key, external_id"))[0],
            kept_records=(records, places),
            rows=rows,
            quota_used=used,
            bodies_kept=self._bodies_kept(workspace),
        )

    def _bodies_kept(self, workspace: str) -> int:
        """Count the submissions of events of which the bytes are still there."""
        with Ledger(self.server.url, application="crash-test") as ledger, ledger.connection() as tx:
            ((count,),) = tx.execute(
                "SELECT count(*) FROM jobs JOIN submissions ON submissions.job_id = jobs.id"
                " WHERE workspace = %s AND feed = %s AND body IS DISTINCT FROM ''",
                (workspace, STREAM_EVENTS.name),
            ).fetchall()
        return count

    def _look_at_dataset(self, workspace: str) -> tuple[list[Row], int]:
        with Ledger(self.server.url, application="crash-test") as ledger, ledger.connection() as tx:
            dataset = registry.default_of(tx, workspace=workspace, project=PROJECT)
            used = quotas.usage(tx, workspace=workspace, feed=DATASETS.name).used
        shape = None if dataset is None else shape_of(dataset)
        if shape is None:
            return [], used
        self.warehouse.ensure([shape.table])
        found = self.warehouse.query(
            f"SELECT __job_id, __record_index, amount, country FROM {rows_of(shape.table.name)}"
        ).to_pydict()
        return list(zip(*found.values(), strict=True)), used

    def close(self) -> None:
        """End all."""
        for part in (*self.apis, *self.workers, self.daemon):
            part.kill()
        self.warehouse.close()
        self.server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
