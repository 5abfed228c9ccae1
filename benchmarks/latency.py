"""How long a submission takes from its acceptance to its end at a steady rate, and what that leaves behind.

The times are the ledger's own; beside them, what a client sees that waits for the end of its job.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import results
from benchmarks.client import quantile
from benchmarks.installation import Installation, installed, scratch_dir
from benchmarks.processes import cpu_between, cpu_seconds, tree

P50_GOAL_SECONDS, P95_GOAL_SECONDS = 0.3, 1.0
# After the last one was sent, all must have ended by then.
REST_SECONDS_MAX = 60.0
# Imports that are made at the first submission are not what is measured.
WARM_SUBMISSIONS = 20
# The run that was going on ends after its linger; its last events belong to the measurement.
SETTLE_SECONDS = 3.0

_TIMES = """
    SELECT extract(epoch FROM finished_at - accepted_at)::float8, extract(epoch FROM started_at - accepted_at)::float8,
        load_id, run_id, state, attempts
    FROM ingest.jobs WHERE seq > %s
"""
_HISTORY = """
    SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'dagster' AND c.relkind = 'r'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What had happened up to a moment."""

    seq: int
    runs: int
    history_bytes: int
    cpu: Mapping[str, float]


def look(installation: Installation) -> Look:
    """Look at the ledger, Dagster's history and the processes."""
    with installation.ledger() as ledger, ledger.connection() as connection:
        row = connection.execute(
            f"SELECT (SELECT coalesce(max(seq), 0) FROM ingest.jobs), (SELECT count(*) FROM dagster.runs), ({_HISTORY})"
        ).fetchone()
    assert row is not None
    cpu = cpu_seconds(tree(installation.process.pid))
    return Look(seq=int(row[0]), runs=int(row[1]), history_bytes=int(row[2]), cpu=cpu)


def send(installation: Installation, *, rate: float, seconds: float, items: int, first: int) -> dict[str, object]:
    """Send from a process of its own, and tell what it saw."""
    asked = {
        "port": installation.api_port,
        "token": installation.token,
        "rate": rate,
        "seconds": seconds,
        "items": items,
        "first": first,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sender"],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + REST_SECONDS_MAX,
    )
    seen: dict[str, object] = json.loads(done.stdout)
    return seen


def await_end(installation: Installation, *, seq: int) -> int:
    """Wait until whatever was accepted has ended; how many have not after a while."""
    deadline = time.monotonic() + REST_SECONDS_MAX
    with installation.ledger() as ledger, ledger.connection() as connection:
        while True:
            row = connection.execute(
                "SELECT count(*) FROM ingest.jobs WHERE seq > %s AND finished_at IS NULL", (seq,)
            ).fetchone()
            assert row is not None
            if row[0] == 0 or time.monotonic() > deadline:
                return int(row[0])
            time.sleep(0.25)


def measure(
    installation: Installation, *, rate: float, seconds: float, items: int, first: int
) -> tuple[results.Row, results.Row]:
    """Measure one rate: its latencies, and what it cost and left behind."""
    before = look(installation)
    seen = send(installation, rate=rate, seconds=seconds, items=items, first=first)
    open_jobs = await_end(installation, seq=before.seq)
    time.sleep(SETTLE_SECONDS)
    after = look(installation)
    with installation.ledger() as ledger, ledger.connection() as connection:
        jobs = connection.execute(_TIMES, (before.seq,)).fetchall()
    return _latencies(rate, seen, jobs, open_jobs), _costs(rate, before, after, jobs)


def _latencies(
    rate: float, seen: Mapping[str, object], jobs: Sequence[Sequence[object]], open_jobs: int
) -> results.Row:
    ended = [float(str(job[0])) for job in jobs if job[0] is not None]
    begun = [float(str(job[1])) for job in jobs if job[1] is not None]
    return {
        "rate /s": rate,
        "sent": seen["sent"],
        "answers": json.dumps(seen["statuses"]),
        "not ended": open_jobs,
        "p50 s": quantile(ended, 0.5),
        "p95 s": quantile(ended, 0.95),
        "max s": quantile(ended, 1.0),
        "to start p50": quantile(begun, 0.5),
        "client p50 s": seen["finished_p50_seconds"],
        "client p95 s": seen["finished_p95_seconds"],
        "202 p50 ms": float(str(seen["accepted_p50_seconds"])) * 1000,
        "202 p99 ms": float(str(seen["accepted_p99_seconds"])) * 1000,
    }


def _costs(rate: float, before: Look, after: Look, jobs: Sequence[Sequence[object]]) -> results.Row:
    cpu = cpu_between(before.cpu, after.cpu)
    count = max(1, len(jobs))
    return {
        "rate /s": rate,
        "loads": len({job[2] for job in jobs}),
        "runs": after.runs - before.runs,
        "history kB": (after.history_bytes - before.history_bytes) / 1000,
        "CPU ms each": sum(cpu.values()) / count * 1000,
        **{f"{part} ms": cpu.get(part, 0.0) / count * 1000 for part in ("api", "worker", "postgres")},
        "Dagster ms": sum(seconds for part, seconds in cpu.items() if part.startswith("dagster")) / count * 1000,
    }


def run(*, seconds: float, rates: Sequence[float], items: int) -> None:
    """Measure all rates one after the other, print them and keep them."""
    with scratch_dir() as folder, installed(folder) as installation:
        first = 0
        send(installation, rate=10, seconds=WARM_SUBMISSIONS / 10, items=items, first=first)
        await_end(installation, seq=0)
        first += WARM_SUBMISSIONS * items
        latencies: list[results.Row] = []
        costs: list[results.Row] = []
        for rate in rates:
            latency, cost = measure(installation, rate=rate, seconds=seconds, items=items, first=first)
            first += round(rate * seconds) * items
            latencies.append(latency)
            costs.append(cost)
    goal = f"goal: p50 ≤ {P50_GOAL_SECONDS}, p95 ≤ {P95_GOAL_SECONDS}"
    results.show(f"Latency: accept → finished by the ledger, {seconds:.0f} s a rate, {items} items ({goal})", latencies)
    results.show("Latency: what a rate leaves behind, and CPU per submission by process", costs)
    results.keep("latency", {"seconds": seconds, "items": items, "latencies": latencies, "costs": costs})
