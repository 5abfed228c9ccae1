"""What is masked is in no store behind the mask: real processes, events full of canaries, and a search everywhere.

Before anything is worked, the same search finds each of them: so it would find them afterwards.
"""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import polars as pl
import psycopg
import pytest

from ingest_platform.storage import catalog, keys, workspaces
from ingest_platform.storage.ledger import Ledger, connect
from ingest_platform_tests.feeds.stream_events.canaries import (
    KEPT,
    MASKS,
    Canaries,
    compressed,
    files_below,
    rows_of_all_tables,
)
from ingest_platform_tests.receiving import Receiver, receiving

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 90.0
STREAM, FLAT = "vault", "flat"
SCOPES = ("streams:write", "jobs:read")
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
# So many events are more than a row of the inbox takes.
LARGE_EVENTS = 120
# So many are a file of the lake, and not rows of its catalog.
MANY_EVENTS = 600
# Of files that can't be read at all nothing was worked, and whoever dropped them wants to see what they are.
UNREADABLE = ("broken.parquet", "broken.json")


def declared(receiver: Receiver) -> list[catalog.Declared]:
    """Declare two streams with every mask, and three destinations."""
    body = {
        "name": "vault",
        "parse": [
            {"field": "event.message", "as": "logfmt"},
            {"field": "event.inner", "as": "json", "on_error": "reject"},
        ],
        "enrich": [{"set": {"metadata.region": "eu-west-1"}}],
        "mask": MASKS,
        "routes": {
            "match": "all",
            "rules": [
                {"name": "errors", "when": 'event.level == "ERROR"', "to": ["archive", "lines", "hook"]},
                {"name": "mails", "when": 'event.user contains "redacted"', "sample": 0.5, "to": ["archive"]},
            ],
            "otherwise": "drop",
        },
    }
    destinations: Mapping[str, Mapping[str, object]] = {
        "archive": {"type": "files", "path": "exports/archive/", "partition": ["source", "date"], "batch_seconds": 1},
        "lines": {"type": "files", "path": "exports/lines/", "format": "ndjson.zst", "batch_seconds": 1},
        "hook": {"type": "http", "url": receiver.url, "batch_seconds": 1},
    }
    return [
        *(catalog.Declared(workspace="acme", kind="destinations", id=name, body=d) for name, d in destinations.items()),
        catalog.Declared(workspace="acme", kind="streams", id=STREAM, body={**body, "envelope": "strict"}),
        catalog.Declared(workspace="acme", kind="streams", id=FLAT, body={**body, "envelope": "auto"}),
    ]


@dataclass(slots=True)
class Place:
    """An installation of processes: where its files are, how it is talked to, what it said."""

    data_dir: Path
    database_url: str
    client: httpx.Client
    environment: Mapping[str, str]
    told: list[bytes] = field(default_factory=list[bytes])

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """Ask for something, and keep what was answered."""
        response = self.client.request(method, path, **options)  # type: ignore[arg-type]
        self.told += [str(response.headers).encode(), response.content]
        assert response.status_code < 500, response.text
        return response

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"

    @contextmanager
    def process(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command of ours until it ends in good order."""
        self.logs.mkdir(exist_ok=True)
        with (self.logs / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "ingest_platform", name]
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE_SECONDS) == 0
        finally:
            process.kill()
            process.wait()


@contextmanager
def installed(database_url: str, data_dir: Path, receiver: Receiver) -> Iterator[Place]:
    """Run an API, with streams declared and without a worker."""
    with Ledger(database_url, application="test") as ledger, ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme"))
        catalog.put(tx, declared(receiver))
        token = keys.issue(tx, keys.NewKey(workspace="acme", scopes=SCOPES)).token
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    temporary = data_dir / "tmp"
    temporary.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("INGEST_")},
        "INGEST_DATABASE_URL": database_url,
        "INGEST_DATA_DIR": str(data_dir),
        "INGEST_API_PORT": str(port),
        "INGEST_LOG_LEVEL": "debug",
        "INGEST_WEBHOOK_HTTP": "true",
        "INGEST_WEBHOOK_NETWORKS": "127.0.0.1",
        "DAGSTER_HOME": str(ROOT),
        # So that what is left there is found, too.
        "TMPDIR": str(temporary),
    }
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_SECONDS
    )
    place = Place(data_dir, database_url, client, environment)
    with client, place.process("api"):
        await_true(lambda: _ready(client), "the API is ready")
        yield place


def _ready(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/readyz").status_code == 200
    return False


def await_true(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


# What is sent


def send_all(place: Place, canaries: Canaries) -> None:
    """Send canaries by every way that a request has, each request twice under one key."""

    def post(name: str, content: bytes, *, status: int = 200, stream: str = STREAM, **headers: str) -> None:
        key = name.replace(" ", "-")
        keyed = {"X-Stream-Id": stream, "Content-Type": "application/json", "Idempotency-Key": key, **headers}
        for _ in range(2):
            response = place.ask("POST", "/v1/streams/ingest", content=content, headers=keyed)
            assert response.status_code == status, response.text

    for number in range(3):
        # Small enough to get into the statistics that PostgreSQL keeps of a column.
        post(f"small {number}", json.dumps(canaries.small("small")).encode())
    escaped = json.dumps(canaries.event("single") | {"odd": canaries.email("escaped")})
    post("single", escaped.replace("@", "\\u0040").encode())
    events = [json.dumps(canaries.event("array")).encode(), json.dumps(canaries.dropped("array")).encode()]
    post("array", array_of([*events, *canaries.bad("array")]))
    lines = [json.dumps(canaries.event("lines")).encode(), *canaries.bad("lines")]
    lines.append(b'{"timestamp": "' + canaries.email("lines, no JSON").encode())
    post("lines", compressed(b"\n".join(lines)), **LINES, **{"Content-Encoding": "gzip"})
    large = [json.dumps(canaries.event(f"large {number}")).encode() for number in range(LARGE_EVENTS)]
    post("large", array_of([*large, *canaries.bad("large")]))
    flat = canaries.event("flat") | {"service": "web", "event": "of a kind", "password": canaries.text("flat, top")}
    post("flat", array_of([json.dumps(flat).encode(), *canaries.bad("flat")]), stream=FLAT)
    post("bad alone", next(canaries.bad("refused")), status=400)
    post("all bad", array_of(list(canaries.bad("refused"))), status=400)
    post("no JSON", b'{"a": "' + canaries.email("refused").encode(), status=400)
    dry = json.dumps(canaries.event("refused")).encode()
    response = place.ask(
        "POST", "/v1/streams/ingest?dry_run=true", content=dry, headers={**JSON, "X-Stream-Id": STREAM}
    )
    assert response.json()["dry_run"]


def array_of(events: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(events) + b"]"


def drop_all(place: Place, canaries: Canaries) -> None:
    """Drop canaries as files of every kind."""
    folder = place.data_dir / "landing" / "acme" / "streams" / STREAM
    folder.mkdir(parents=True)

    def drop(name: str, content: bytes) -> None:
        (folder / f".{name}").write_bytes(content)
        (folder / f".{name}").rename(folder / name)
        canaries.note_taken(content)

    lines = [json.dumps(canaries.event("file")).encode(), *canaries.bad("file"), canaries.email("file").encode()]
    lines += [json.dumps(canaries.small("file")).encode() for _ in range(MANY_EVENTS)]
    drop("events.ndjson", b"\n".join(lines))
    drop("again.ndjson", b"\n".join(lines))
    drop("events.json", array_of([json.dumps(canaries.event("document")).encode(), *canaries.bad("document")]))
    cells = [_cells(canaries.event(where, **more)) for where, more in TABLES]
    cells.append(_cells(canaries.unparsable("table")) | {"metadata": f"no JSON {canaries.email('table, metadata')}"})
    columns = list(dict.fromkeys(name for each in cells for name in each))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([[each.get(name, "") for name in columns] for each in cells])
    writer.writerow([canaries.email("csv, too many cells")] * (len(columns) + 1))
    drop("events.csv", text.getvalue().encode())
    cells = [_cells(canaries.event(f"parquet, {where}", **more)) for where, more in TABLES]
    content = io.BytesIO()
    pl.DataFrame(cells, schema=dict.fromkeys(columns, pl.String())).write_parquet(content)
    drop("events.parquet", content.getvalue())
    drop("broken.parquet", b"PAR1 " + canaries.text("broken").encode())
    drop("broken.json", b'[{"timestamp": "' + canaries.text("broken").encode())


TABLES: Sequence[tuple[str, Mapping[str, object]]] = [
    ("table", {}),
    ("table, timestamp", {"timestamp": "yesterday"}),
    ("table, event", {"event": "no object"}),
    ("table, source", {"source": " "}),
]


def _cells(event: Mapping[str, object]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in event.items()}


# What is looked at


def ended(place: Place) -> bool:
    """Tell whether all jobs have ended, all files are filed, and everything is delivered."""
    with connect(place.database_url, application="test") as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM jobs WHERE state NOT IN ('finished', 'failed')),"
            " (SELECT count(*) FROM jobs WHERE file_name IS NOT NULL) < 7, (SELECT count(*) FROM taken_files),"
            " (SELECT count(*) FROM forgotten_blobs), (SELECT count(*) FROM stream_parcels),"
            " (SELECT count(*) FROM stream_deliveries WHERE pending > 0)"
        ).fetchone()
    assert row is not None
    return not any(row)


def look_at_everything(place: Place) -> None:
    """Ask for all that the API shows of jobs, records and streams."""
    jobs = place.ask("GET", "/v1/jobs?limit=100").json()["data"]
    assert len(jobs) == 15
    for job in jobs:
        place.ask("GET", f"/v1/jobs/{job['id']}")
        records = place.ask("GET", f"/v1/jobs/{job['id']}/records?limit=1000").json()["data"]
        for name in ("rejected.ndjson", "rejected.csv"):
            place.ask("GET", f"/v1/jobs/{job['id']}/{name}")
        for record in records[:12]:
            place.ask("GET", f"/v1/records/{job['id']}-{record['index']}")
    for path in ("/v1/streams", "/metrics", *(f"/v1/streams/{id_}" for id_ in (STREAM, FLAT))):
        place.ask("GET", path)
    for id_ in (STREAM, FLAT):
        place.ask("GET", f"/v1/streams/{id_}/dead-letters")
        assert place.ask("GET", f"/v1/streams/{id_}/stats").json()["balanced"]


@contextmanager
def tailing(place: Place) -> Iterator[list[bytes]]:
    """Follow a stream."""
    got: list[bytes] = []
    begun = threading.Event()

    def follow() -> None:
        with suppress(httpx.TransportError), place.client.stream("GET", f"/v1/streams/{STREAM}/tail") as response:
            for piece in response.iter_bytes():
                begun.set()
                got.append(piece)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    assert begun.wait(PATIENCE_SECONDS)
    yield got


def stored(place: Place) -> Iterator[tuple[str, bytes]]:
    """Read everything that is stored: files, and rows of the database."""
    yield from files_below(place.data_dir)
    yield from rows_of_all_tables(place.database_url)


def leaks(canaries: Canaries, haystacks: Iterator[tuple[str, bytes]]) -> set[tuple[str, str]]:
    """Tell what is found where."""
    return {(place, canaries.values[value]) for place, content in haystacks for value in canaries.found_in(content)}


@pytest.mark.long
def test_what_is_masked_is_nowhere_once_it_is_processed(database_url: str, tmp_path: Path) -> None:
    canaries = Canaries()
    with receiving() as receiver, installed(database_url, tmp_path, receiver) as place:
        send_all(place, canaries)
        drop_all(place, canaries)
        with psycopg.connect(database_url, autocommit=True) as connection:
            # As the server does by itself some time.
            connection.execute("ANALYZE")
        before = set[str]().union(*(canaries.found_in(content) for _, content in stored(place)))
        assert {canaries.values[each] for each in canaries.taken - before} == set()
        with tailing(place) as tail, place.process("worker") as worker:
            await_true(lambda: ended(place) or worker.poll() is not None, "all is worked, filed and delivered")
            look_at_everything(place)
        run = place.data_dir / "run"
        assert [path for name in ("staging", "spill") for path in (run / name).rglob("*") if path.is_file()] == []
        sent = [("receiver", each.body) for each in receiver.got]
        told = [("answers", each) for each in place.told] + [("tail", each) for each in tail]
    everything = [*stored(place), *sent, *told]
    for where in ("receiver", "answers", "tail", ".event_logs"):
        assert any(name.endswith(where) for name, _ in everything), where
    kept = {name for name, content in everything if KEPT.encode() in content}
    assert {"receiver", "answers", "tail"} <= kept
    assert {name.partition("/")[0] for name in kept} >= {"lake", "exports"}
    found = leaks(canaries, iter(everything))
    assert {each for each in found if not each[0].endswith(UNREADABLE)} == set()
    assert {Path(name).name for name, _ in found} == set(UNREADABLE)
