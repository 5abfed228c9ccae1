"""How many submissions a second are accepted durably, beside the same application without durability and a bare one.

The worker does not run: what is accepted is only accepted. The variants take turns within each round, so that the noise
of the machine falls on all of them.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import results
from benchmarks.installation import (
    CONFIG,
    HOST,
    WORKSPACE,
    clean_environment,
    free_port,
    scratch_dir,
    unlimited_workspace,
)
from benchmarks.processes import cpu_between, cpu_seconds, tree
from benchmarks.served import VARIANTS
from ingest_platform.storage import catalog, embedded, keys, workspaces
from ingest_platform.storage.ledger import Ledger, migrate

PATH = "/v1/machine-data/import-jobs"
GOAL = 0.7
WARM_SECONDS = 0.5
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
# The client's process starts and ends within this.
CLIENT_SECONDS_MAX = 60.0
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One point of the comparison."""

    items: int
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was measured of one variant in one round."""

    variant: str
    case: Case
    per_second: float
    p50_seconds: float
    p99_seconds: float
    api_cpu_us: float
    postgres_cpu_us: float


def body_of(items: int, *, first: int = 0) -> bytes:
    """Make a body with readings of one second after the other."""
    readings = [
        {
            "timestamp": f"{_BEGIN + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}",
            "machine_data_point_config_id": CONFIG,
            "value": 20 + number % 1000 / 7,
        }
        for number in range(first, first + items)
    ]
    return json.dumps({"items": readings}, separators=(",", ":")).encode()


def request_of(body: bytes, token: str) -> bytes:
    """Make the whole request."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def declare(database_url: str) -> str:
    """Declare what the readings refer to; a key to send them with."""
    with Ledger(database_url, application="bench", connections_max=2) as ledger, ledger.transaction() as tx:
        workspaces.put(tx, unlimited_workspace())
        body = {"site": "plant-a", "machine": "kiln-1", "measurement": "temperature", "unit": "°C", "factor": 1.0}
        catalog.put(
            tx,
            [
                catalog.Declared(workspace=WORKSPACE, kind="sites", id="plant-a", body={}),
                catalog.Declared(workspace=WORKSPACE, kind="machine_data_point_configs", id=CONFIG, body=body),
            ],
        )
        return keys.issue(tx, keys.NewKey(workspace=WORKSPACE, scopes=("machine-data:write",))).token


@contextmanager
def served(variant: str, *, port: int, data_dir: Path, database_url: str) -> Generator[subprocess.Popen[bytes]]:
    """Run one of the servers for a while."""
    environment = clean_environment(
        api_port=port, api_host=HOST, data_dir=data_dir, database_url=database_url, log_level="warning"
    )
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.served", variant], env=environment)
    try:
        await_listening(process, port)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a server takes connections."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        assert process.poll() is None, "the server ended at once"
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)
        else:
            return


def send(request: bytes, *, port: int, connections: int, seconds: float, status: str = "202") -> dict[str, object]:
    """Send from a process of its own, and tell what it saw; all answers must have the status."""
    asked = {
        "host": HOST,
        "port": port,
        "connections": connections,
        "seconds": seconds,
        "warm_seconds": WARM_SECONDS,
        "request": request.decode(),
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.client"],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + CLIENT_SECONDS_MAX,
    )
    seen: dict[str, object] = json.loads(done.stdout)
    assert set(seen["statuses"]) == {status}, seen["statuses"]
    return seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The running servers and their database."""

    ports: dict[str, int]
    pids: dict[str, int]
    postgres_pid: int
    token: str

    def measure(self, variant: str, case: Case, *, seconds: float) -> Point:
        """Measure one variant at one point."""
        request = request_of(body_of(case.items), self.token)
        before = self._cpu(variant)
        seen = send(request, port=self.ports[variant], connections=case.connections, seconds=seconds)
        used = cpu_between(before, self._cpu(variant))
        requests = int(str(seen["requests"]))
        return Point(
            variant=variant,
            case=case,
            per_second=float(str(seen["per_second"])),
            p50_seconds=float(str(seen["p50_seconds"])),
            p99_seconds=float(str(seen["p99_seconds"])),
            api_cpu_us=used.get("api", 0.0) / requests * 1e6,
            postgres_cpu_us=used.get("postgres", 0.0) / requests * 1e6,
        )

    def _cpu(self, variant: str) -> dict[str, float]:
        return cpu_seconds([*tree(self.pids[variant]), *tree(self.postgres_pid)])


@contextmanager
def prepared(folder: Path) -> Generator[Bench]:
    """Start a database and all variants on it."""
    data_dir = folder / "data"
    database = embedded.start(data_dir)
    try:
        migrate(database.url)
        token = declare(database.url)
        ports = {variant: free_port() for variant in VARIANTS}
        with ExitStack() as stack:
            servers = {
                variant: stack.enter_context(served(variant, port=port, data_dir=data_dir, database_url=database.url))
                for variant, port in ports.items()
            }
            pids = {variant: server.pid for variant, server in servers.items()}
            yield Bench(ports=ports, pids=pids, postgres_pid=database.pid, token=token)
    finally:
        database.stop()


def run(*, seconds: float, rounds: int, connections: Sequence[int], items: Sequence[int]) -> None:
    """Measure all points, print them and keep them."""
    cases = [Case(items=each, connections=many) for each in items for many in connections]
    with scratch_dir() as folder, prepared(folder) as bench:
        points = [
            bench.measure(variant, case, seconds=seconds)
            for _ in range(rounds)
            for case in cases
            for variant in VARIANTS
        ]
    rows = [_row(variant, case, points) for case in cases for variant in VARIANTS]
    ratios = [_ratio(case, points) for case in cases]
    results.show("Accept: POSTs of import jobs, medians over rounds", rows)
    results.show(f"Accept: durable beside the others (goal {GOAL} of the undurable one at 64 connections)", ratios)
    results.keep("accept", {"seconds": seconds, "rounds": rounds, "points": rows, "ratios": ratios})


def _of(points: Sequence[Point], variant: str, case: Case) -> list[Point]:
    return [point for point in points if point.variant == variant and point.case == case]


def _row(variant: str, case: Case, points: Sequence[Point]) -> results.Row:
    found = _of(points, variant, case)
    return {
        "items": case.items,
        "connections": case.connections,
        "variant": variant,
        "POST/s": results.median([point.per_second for point in found]),
        "p50 ms": results.median([point.p50_seconds for point in found]) * 1000,
        "p99 ms": results.median([point.p99_seconds for point in found]) * 1000,
        "API CPU µs": results.median([point.api_cpu_us for point in found]),
        "PostgreSQL CPU µs": results.median([point.postgres_cpu_us for point in found]),
    }


def _ratio(case: Case, points: Sequence[Point]) -> results.Row:
    """Compare within each round, so that a slow round is slow for all."""
    durable, undurable, bare = (_of(points, each, case) for each in VARIANTS)
    return {
        "items": case.items,
        "connections": case.connections,
        "of undurable": _share(durable, undurable, lambda point: point.per_second),
        "of bare": _share(durable, bare, lambda point: point.per_second),
        "API CPU, undurable / durable": _share(undurable, durable, lambda point: point.api_cpu_us),
    }


def _share(ours: Sequence[Point], theirs: Sequence[Point], figure: Callable[[Point], float]) -> float:
    return results.median([figure(one) / figure(other) for one, other in zip(ours, theirs, strict=True)])
