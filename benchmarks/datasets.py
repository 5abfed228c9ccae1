"""Datasets: how soon a record can be asked about, how many a second are taken, how fast a month is asked, and a file.

The first two are of a running platform over HTTP, the third of the lake alone, the fourth of a dropped file beside a
script on its own (`bare_dataset.py`).
"""

import asyncio
import itertools
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop
from psycopg.conninfo import make_conninfo

from benchmarks import results
from benchmarks.apart import python_with
from benchmarks.client import quantile
from benchmarks.installation import HOST, WORKSPACE, Installation, clean_environment, installed, scratch_dir
from benchmarks.processes import cpu_between, cpu_seconds, tree
from benchmarks.sender import Line
from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.datasets.contract import EXAMPLE_FIELDS
from ingest_platform.feeds.datasets.load import table_of
from ingest_platform.feeds.datasets.query import compile_query
from ingest_platform.feeds.datasets.schema import TYPES
from ingest_platform.storage import embedded, keys
from ingest_platform.storage.embedded import database_url
from ingest_platform.storage.ledger import migrate
from ingest_platform.storage.warehouse import Warehouse, rows_of

VISIBLE_GOAL_SECONDS, MONTH_GOAL_SECONDS, FILE_GOAL, PEER_GOAL = 2.0, 1.0, 0.75, 10
RATE = 100.0
BATCH = 1_000
CONNECTIONS = (1, 16, 64)
MONTH_ROWS = 10_000_000
MONTH_MICROSECONDS = 31 * 24 * 60 * 60 * 1_000_000
FILLED_ROWS = 1_000_000
# It takes 40 us of CPU a row, as many as there may be.
PEER_ROWS = 200_000
MEMORY_BYTES_MAX = 1 << 30
END_SECONDS_MAX = 600.0
POLL_SECONDS = 0.05
_MAY = datetime(2026, 5, 1, tzinfo=UTC)
_COUNTRIES = ("RO", "DE", "FR", "JP", "BR", "US", "KE", "IN")

# `{begin}` and `{end}` number the records, which are spread evenly over May.
_ORDERS = """
    SELECT 'rec_' || range AS id, '{project}' AS project, 0 AS dataset_id,
        TIMESTAMPTZ '2026-05-01 00:00:00+00' + to_microseconds(range * {apart}) AS "timestamp",
        '{{"source":"billing"}}' AS context, {countries}[1 + (hash(range) % {of})::INTEGER] AS country,
        (hash(range, 1) % 100000)::DOUBLE / 100 AS amount, hash(range, 2) % 2 = 0 AS active,
        TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds((range % 8000000)::BIGINT) AS signup_at,
        now() AS ingested_at, 'req_' || range // 1000 AS "__traceId", 'demo' AS "__workspace",
        'ds_job_' || range // 1000 AS "__job_id", range % 1000 AS "__record_index", range // 1000 AS "__accepted_seq",
        now() AS "__accepted_at", CAST("timestamp" AT TIME ZONE 'UTC' AS DATE) AS "__day"
    FROM range({begin}, {end})
"""
_BY_COUNTRY = [{"field": "country"}, {"aggregate": "sum", "field": "amount"}, {"aggregate": "count"}]
_WHOLE = {"from": "2026-05-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}
_QUESTIONS: Mapping[str, Mapping[str, object]] = {
    "a month by country": {"range": _WHOLE, "select": _BY_COUNTRY, "groupBy": ["country"]},
    "a month by country, where active": {
        "range": _WHOLE,
        "select": _BY_COUNTRY,
        "where": [{"field": "active", "op": "eq", "value": True}],
        "groupBy": ["country"],
    },
    "a day by country": {
        "range": {"from": "2026-05-06T00:00:00Z", "to": "2026-05-07T00:00:00Z"},
        "select": _BY_COUNTRY,
        "groupBy": ["country"],
    },
    "the latest 100 of a month": {"range": _WHOLE, "select": [{"field": "timestamp"}, {"field": "country"}]},
}


def record(number: int, *, at: datetime) -> dict[str, object]:
    """Make a record."""
    return {
        "timestamp": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "context": {"source": "billing", "n": number},
        "country": _COUNTRIES[number % len(_COUNTRIES)],
        "amount": number % 1000 / 4,
        "active": number % 2 == 0,
        "signup_at": f"{at:%Y-%m-%dT%H:%M:%S}Z",
    }


def _request(path: str, body: object, token: str) -> bytes:
    content = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset of the running platform, and the tokens to send to it and to ask about it."""

    id: int
    write: str
    ask: str

    @property
    def query_path(self) -> str:
        """Where it is asked."""
        return f"/api/datasets/{WORKSPACE}/{self.id}/query"


def make_dataset(installation: Installation, name: str) -> Dataset:
    """Make a dataset with a schema."""
    with installation.ledger() as ledger, ledger.transaction() as tx:
        made = registry.create(tx, workspace=WORKSPACE, project=WORKSPACE, name=name, description="")
        registry.register_schema(tx, made, EXAMPLE_FIELDS)
        write = keys.NewKey(workspace=WORKSPACE, project=WORKSPACE, scopes=("datasets:write",))
        ask = keys.NewKey(workspace=WORKSPACE, scopes=("datasets:admin",), kind="pat")
        return Dataset(id=made.id, write=keys.issue(tx, write).token, ask=keys.issue(tx, ask).token)


# How soon


async def _send_steadily(port: int, dataset: Dataset, *, seconds: float) -> list[float]:
    """Send one record a request at the rate, whatever the answers do; when each was accepted."""
    idle: list[Line] = []
    accepted: list[float] = []

    async def submit(number: int) -> None:
        line = idle.pop() if idle else await Line.open(port)
        request = _request(f"/datasets/{dataset.id}", record(number, at=datetime.now(UTC)), dataset.write)
        status, body = await line.ask(request)
        assert status == 202, (status, body)
        accepted.append(time.perf_counter())
        idle.append(line)

    began = time.perf_counter()
    tasks: list[asyncio.Task[None]] = []
    for number in range(round(RATE * seconds)):
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        tasks.append(asyncio.create_task(submit(number)))
    await asyncio.gather(*tasks)
    return sorted(accepted)


async def _watch(port: int, dataset: Dataset, *, known: int, wanted: int) -> list[tuple[float, int, float]]:
    """Count the records until all are there: when each answer came, what it said, and the seconds it took."""
    line = await Line.open(port)
    request = _request(
        dataset.query_path, {"range": {"to": "2100-01-01T00:00:00Z", "from": "2020-01-01T00:00:00Z"}}, dataset.ask
    )
    seen: list[tuple[float, int, float]] = []
    deadline = time.perf_counter() + END_SECONDS_MAX
    while not seen or seen[-1][1] < wanted:
        assert time.perf_counter() < deadline, seen[-1]
        began = time.perf_counter()
        status, body = await line.ask(request)
        assert status == 200, (status, body)
        ended = time.perf_counter()
        seen.append((ended, int(json.loads(body)["data"][0]["count"]) - known, ended - began))
        await asyncio.sleep(POLL_SECONDS)
    line.close()
    return seen


async def _visible(port: int, dataset: Dataset, *, seconds: float) -> tuple[list[float], list[float]]:
    """Measure the seconds from each record's acceptance until an answer counted it, and those of the questions."""
    wanted = round(RATE * seconds)
    warm = await _send_steadily(port, dataset, seconds=1)
    await _watch(port, dataset, known=0, wanted=len(warm))
    watching = asyncio.create_task(_watch(port, dataset, known=len(warm), wanted=wanted))
    accepted = await _send_steadily(port, dataset, seconds=seconds)
    seen = await watching
    # The answer that counts so many has seen the ones accepted first, give or take those of one commit.
    answers = iter(seen)
    at, count, _ = next(answers)
    waits: list[float] = []
    for place, when in enumerate(accepted, start=1):
        while count < place:
            at, count, _ = next(answers)
        waits.append(max(0.0, at - when))
    return waits, [took for _, _, took in seen]


def measure_visible(installation: Installation, *, seconds: float) -> results.Row:
    """Measure how soon a record can be asked about."""
    dataset = make_dataset(installation, "visible")
    waits, asked = uvloop.run(_visible(installation.api_port, dataset, seconds=seconds))
    return {
        "records": len(waits),
        "p50 s": quantile(waits, 0.5),
        "p95 s": quantile(waits, 0.95),
        "max s": quantile(waits, 1.0),
        "questions": len(asked),
        "question p50 ms": quantile(asked, 0.5) * 1000,
        "question p95 ms": quantile(asked, 0.95) * 1000,
    }


# How many


def measure_batches(installation: Installation, *, connections: int, seconds: float) -> results.Row:
    """Send batches of a thousand records in a closed loop."""
    dataset = make_dataset(installation, f"batches {connections}")
    records = [record(number, at=_MAY + timedelta(seconds=number)) for number in range(BATCH)]
    asked = {
        "host": HOST,
        "port": installation.api_port,
        "connections": connections,
        "seconds": seconds,
        "warm_seconds": 0.5,
        "request": _request(f"/datasets/{dataset.id}/batch", records, dataset.write).decode(),
    }
    root = installation.process.pid
    before = cpu_seconds(tree(root))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.client"],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + END_SECONDS_MAX,
    )
    used = cpu_between(before, cpu_seconds(tree(root)))
    seen = json.loads(done.stdout)
    statuses: Mapping[str, int] = seen["statuses"]
    # A machine that has other work may not promise durability in time.
    assert set(statuses) <= {"202", "503"}, statuses
    per_second = float(str(seen["per_second"])) * statuses.get("202", 0) / sum(statuses.values())
    return {
        "connections": connections,
        "POST/s": per_second,
        "records/s": per_second * BATCH,
        "answers": json.dumps(statuses),
        "p50 ms": float(str(seen["p50_seconds"])) * 1000,
        "p99 ms": float(str(seen["p99_seconds"])) * 1000,
        "API CPU ms each": used.get("api", 0.0) / int(str(seen["requests"])) * 1000,
    }


# A month


def measure_month(*, rows: int, rounds: int) -> list[results.Row]:
    """Ask a lake with so many records in a month; the first answer of each question warms up and is not counted."""
    with scratch_dir() as folder:
        server = embedded.start(folder / "data")
        try:
            migrate(server.url)
            with Warehouse(
                server.url,
                lake_path=str(folder / "lake"),
                memory_bytes_max=MEMORY_BYTES_MAX,
                spill_path=str(folder / "s"),
            ) as warehouse:
                return _ask_month(warehouse, rows=rows, rounds=rounds)
        finally:
            server.stop()


def _ask_month(warehouse: Warehouse, *, rows: int, rounds: int) -> list[results.Row]:
    table = table_of(dataset_id=1, project=WORKSPACE, fields=EXAMPLE_FIELDS)
    warehouse.ensure([table])
    began = time.perf_counter()
    with closing(warehouse.session()) as session:
        for begin in range(0, rows, FILLED_ROWS):
            made = _ORDERS.format(
                begin=begin,
                end=min(rows, begin + FILLED_ROWS),
                apart=MONTH_MICROSECONDS // rows,
                project=WORKSPACE,
                countries=list(_COUNTRIES),
                of=len(_COUNTRIES),
            )
            session.execute(f"INSERT INTO {rows_of(table.name)} BY NAME ({made})")
    print(f"{rows:,} records stored in {time.perf_counter() - began:.0f} s")
    fields = {name: TYPES[kind] for name, kind in EXAMPLE_FIELDS.items()}
    found: list[results.Row] = []
    for name, question in _QUESTIONS.items():
        query = compile_query(
            json.dumps(question).encode(), fields=fields, table=rows_of(table.name), now=datetime.now(UTC)
        )
        taken: list[tuple[float, float]] = []
        for _ in range(rounds + 1):
            begun, cpu_begun = time.perf_counter(), time.process_time()
            with closing(warehouse.session()) as session:
                answer = session.ask(query.statement, query.values, seconds_max=60, bytes_max=1 << 24)
            taken.append((time.perf_counter() - begun, time.process_time() - cpu_begun))
        found.append(
            {
                "question": name,
                "rows": answer.num_rows,
                "ms first": taken[0][0] * 1000,
                "ms least": min(seconds for seconds, _ in taken[1:]) * 1000,
                "ms median": results.median([seconds for seconds, _ in taken[1:]]) * 1000,
                "CPU ms least": min(cpu for _, cpu in taken[1:]) * 1000,
            }
        )
    return found


# A file


def write_file(path: Path, *, rows: int, first: int) -> int:
    """Write records of May, one in a hundred bad in four ways; the number of good ones."""
    dice = random.Random(first)
    good = 0
    with path.open("w", encoding="utf-8", buffering=1 << 20) as file:
        for number in range(first, first + rows):
            made = record(number, at=_MAY + timedelta(seconds=dice.randrange(31 * 86_400)))
            if number % 100 == 99:
                name, value = dice.choice(
                    [("amount", "12.5"), ("country", None), ("signup_at", "2026-05-01"), ("extra", 1)]
                )
                made[name] = value
            else:
                good += 1
            file.write(json.dumps(made, separators=(",", ":")) + "\n")
    return good


def measure_file(installation: Installation, path: Path, dataset: Dataset) -> dict[str, float]:
    """Drop a file and wait for the end of its job."""
    folder = installation.data_dir / "landing" / WORKSPACE / "datasets" / str(dataset.id)
    folder.mkdir(parents=True, exist_ok=True)
    before = cpu_seconds(tree(installation.process.pid))
    began = time.perf_counter()
    path.rename(folder / path.name)
    deadline = time.monotonic() + END_SECONDS_MAX
    with installation.ledger() as ledger, ledger.connection() as connection:
        while True:
            row = connection.execute(
                "SELECT state, extract(epoch FROM finished_at - accepted_at)::float8,"
                " extract(epoch FROM finished_at - started_at)::float8, accepted, error_message"
                " FROM ingest.jobs WHERE target = %s AND origin = 'file' ORDER BY seq DESC LIMIT 1",
                (str(dataset.id),),
            ).fetchone()
            if row is not None and row[0] in {"finished", "failed"}:
                break
            assert time.monotonic() < deadline, "the job does not end"
            time.sleep(0.1)
    assert row[0] == "finished", row[4]
    cpu = cpu_between(before, cpu_seconds(tree(installation.process.pid)))
    return {
        "accepted": row[3],
        "seconds": row[1],
        "work seconds": row[2],
        "seconds in all": time.perf_counter() - began,
        "cpu_seconds": sum(cpu.values()),
    }


def measure_bare(installation: Installation, path: Path, folder: Path) -> dict[str, float]:
    """Load one file with the script."""
    folder.mkdir(exist_ok=True)
    url = make_conninfo(database_url(installation.data_dir, None))
    done = subprocess.run(
        [*(sys.executable, "-m", "benchmarks.bare_dataset", str(path), "--database-url", url), "--folder", str(folder)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=END_SECONDS_MAX,
    )
    taken: dict[str, float] = json.loads(done.stdout)
    return taken


def measure_peer(python: Path, path: Path, folder: Path, *, rows: int) -> dict[str, float]:
    """Load the first lines of one file with dlt into a DuckDB file, and count what it let pass."""
    folder.mkdir()
    part = folder / path.name
    with path.open("rb") as source, part.open("wb") as target:
        target.writelines(itertools.islice(source, rows))
    # It keeps its state and its files between the steps there, and tells nobody of what it does.
    environment = clean_environment() | {"DLT_DATA_DIR": str(folder), "RUNTIME__DLTHUB_TELEMETRY": "false"}
    command = [python, Path(__file__).parent / "dlt_dataset.py", part, folder]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, cwd=folder, env=environment, timeout=END_SECONDS_MAX
    )
    taken: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return taken


def _beside_peer(
    python: Path, path: Path, folder: Path, ours: Mapping[str, float], *, rows: int, good: int
) -> results.Row:
    part = min(rows, PEER_ROWS)
    peer = measure_peer(python, path, folder, rows=part)
    mine, its = rows / ours["seconds"], part / peer["seconds"]
    return {
        "rows": part,
        "dlt rows/s": its,
        "platform rows/s": mine,
        "times": mine / its,
        "times by CPU": (peer["cpu_seconds"] / part) / (ours["cpu_seconds"] / rows),
        "bad rows": round(part * (1 - good / rows)),
        "bad rows that dlt stored": round(peer["stored"] - part * good / rows),
    }


def _measure_files(
    installation: Installation, folder: Path, *, rows: int, rounds: int
) -> tuple[list[results.Row], list[results.Row]]:
    found: list[results.Row] = []
    peers: list[results.Row] = []
    python = python_with("dlt")
    for number in range(rounds):
        path, dataset = folder / f"orders-{number}.ndjson", make_dataset(installation, f"file {number}")
        good = write_file(path, rows=rows, first=number * rows)
        bare = measure_bare(installation, path, folder / "bare")
        kept = folder / f"kept-{number}.ndjson"
        # Not a link: a file with a second name is not taken.
        shutil.copyfile(path, kept)
        ours = measure_file(installation, path, dataset)
        if python is not None:
            peers.append(_beside_peer(python, kept, folder / f"dlt-{number}", ours, rows=rows, good=good))
        assert ours["accepted"] == bare["accepted"] == good, (ours, bare, good)
        found.append(
            {
                "rows": rows,
                "accepted": good,
                "platform rows/s": rows / ours["seconds"],
                "script rows/s": rows / bare["seconds"],
                "of the script": bare["seconds"] / ours["seconds"],
                "work only": bare["seconds"] / ours["work seconds"],
                "by CPU": bare["cpu_seconds"] / ours["cpu_seconds"],
                "seconds in all": ours["seconds in all"],
            }
        )
    return found, peers


def run(
    *, seconds: float, rounds: int, rows: int, stored: int = MONTH_ROWS, connections: Sequence[int] = CONNECTIONS
) -> None:
    """Measure all, print and keep."""
    month = measure_month(rows=stored, rounds=rounds)
    results.show(f"Datasets: questions on {stored:,} records (goal: a month ≤ {MONTH_GOAL_SECONDS:.0f} s)", month)
    with scratch_dir() as folder, installed(folder, ui=False) as installation:
        visible = measure_visible(installation, seconds=seconds)
        batches = [measure_batches(installation, connections=each, seconds=min(seconds, 5)) for each in connections]
        files, peers = _measure_files(installation, folder, rows=rows, rounds=rounds)
    title = f"Datasets: accepted → counted by a query, {RATE:.0f} records/s (goal ≤ {VISIBLE_GOAL_SECONDS:.0f} s)"
    results.show(title, [visible])
    results.show(f"Datasets: batches of {BATCH:,}, the worker at work beside them", batches)
    results.show(f"Datasets: a dropped file beside the script (goal ≥ {FILE_GOAL})", files)
    if peers:
        results.show(f"Datasets: the same beside dlt with a frozen schema (goal ≥ {PEER_GOAL} times)", peers)
    results.keep("datasets", {"month": month, "visible": visible, "batches": batches, "files": files, "peers": peers})
