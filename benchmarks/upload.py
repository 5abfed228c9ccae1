"""One large upload: how fast it becomes rows of the warehouse, in how much memory, beside a script on its own."""

import http.client
import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from psycopg.conninfo import make_conninfo

from benchmarks import results
from benchmarks.installation import CONFIG, HOST, Installation, installed, scratch_dir
from benchmarks.processes import MIB, MemoryWatch, cpu_between, cpu_seconds, find_part, tree
from ingest_platform.storage.embedded import database_url

SPEED_GOAL = 0.75
API_MEMORY_GOAL_MB, WORKER_MEMORY_GOAL_MB = 150, 1536
SEND_BYTES = 1 << 20
UPLOAD_SECONDS_MAX = 600.0
SETTLE_SECONDS = 2.0
_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
# What is wrong with a bad line: a number as a string, a timestamp without a zone, a missing value, an unknown point.
_BAD = (
    '{{"timestamp":"{at}","machine_data_point_config_id":"{config}","value":"12.5"}}\n',
    '{{"timestamp":"{bare}","machine_data_point_config_id":"{config}","value":12.5}}\n',
    '{{"timestamp":"{at}","machine_data_point_config_id":"{config}"}}\n',
    '{{"timestamp":"{at}","machine_data_point_config_id":"mdp_00000000000000000000000000","value":12.5}}\n',
)


def write_file(path: Path, *, rows: int, bad_share: float, first: int) -> int:
    """Write readings of one second after the other; the number of good ones."""
    noise = random.Random(first)
    every = round(1 / bad_share) if bad_share else rows + 1
    good = 0
    with path.open("w", encoding="utf-8", buffering=1 << 20) as file:
        for number in range(rows):
            bare = f"{_BEGIN + timedelta(seconds=first + number):%Y-%m-%dT%H:%M:%S}"
            if number % every == every - 1:
                line = _BAD[number // every % len(_BAD)].format(at=f"{bare}Z", bare=bare, config=CONFIG)
            else:
                value = round(noise.gauss(50, 15), 4)
                line = f'{{"timestamp":"{bare}Z","machine_data_point_config_id":"{CONFIG}","value":{value}}}\n'
                good += 1
            file.write(line)
    return good


def upload(installation: Installation, path: Path) -> tuple[str, float]:
    """Send the file as one request; the job's id and the seconds until it was accepted."""
    connection = http.client.HTTPConnection(
        HOST, installation.api_port, timeout=UPLOAD_SECONDS_MAX, blocksize=SEND_BYTES
    )
    headers = {
        "Authorization": f"Bearer {installation.token}",
        "Content-Type": "application/x-ndjson",
        "Content-Length": str(path.stat().st_size),
    }
    began = time.perf_counter()
    with path.open("rb") as file:
        connection.request("POST", "/v1/machine-data/import-jobs", body=file, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    seconds = time.perf_counter() - began
    assert answer.status == 202, (answer.status, body)
    connection.close()
    return json.loads(body)["job_id"], seconds


def await_job(installation: Installation, job_id: str) -> tuple[float, float, int, int]:
    """Wait for a job's end: seconds from its acceptance to its start and to its end, accepted, rejected."""
    deadline = time.monotonic() + UPLOAD_SECONDS_MAX
    with installation.ledger() as ledger, ledger.connection() as connection:
        while True:
            row = connection.execute(
                "SELECT state, extract(epoch FROM started_at - accepted_at)::float8,"
                " extract(epoch FROM finished_at - accepted_at)::float8, accepted, rejected, error_message"
                " FROM ingest.jobs WHERE id = %s",
                (job_id,),
            ).fetchone()
            assert row is not None
            if row[0] in {"finished", "failed"}:
                break
            assert time.monotonic() < deadline, "the job does not end"
            time.sleep(0.1)
    assert row[0] == "finished", row[5]
    return row[1], row[2], row[3], row[4]


def measure_platform(installation: Installation, path: Path, *, rows: int) -> dict[str, float]:
    """Upload one file through the platform."""
    root = installation.process.pid
    roots = {part: find_part(root, part) for part in ("api", "worker")}
    cpu_before, began = cpu_seconds(tree(root)), time.perf_counter()
    with MemoryWatch(roots) as memory:
        job_id, sent_seconds = upload(installation, path)
        started, finished, accepted, rejected = await_job(installation, job_id)
        in_all = time.perf_counter() - began
    assert accepted + rejected == rows, (accepted, rejected)
    cpu = cpu_between(cpu_before, cpu_seconds(tree(root)))
    return {
        "accepted": accepted,
        "upload seconds": sent_seconds,
        "seconds": finished,
        "work seconds": finished - started,
        "seconds in all": in_all,
        "cpu_seconds": sum(cpu.values()),
        "api above idle MB": (memory.peak_bytes["api"] - memory.idle_bytes["api"]) / MIB,
        "worker MB": memory.peak_bytes["worker"] / MIB,
    }


def measure_bare(installation: Installation, path: Path, folder: Path, *, exact: bool) -> dict[str, float]:
    """Load one file with the script."""
    url = make_conninfo(database_url(installation.data_dir, None))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.bare", str(path), "--database-url", url),
            *("--folder", str(folder / "bare"), "--config", CONFIG, *([] if exact else ["--inexact"])),
        ],
        stdout=subprocess.PIPE,
        check=True,
        timeout=UPLOAD_SECONDS_MAX,
    )
    taken: dict[str, float] = json.loads(done.stdout)
    return taken


def run(*, rows: int, rounds: int, bad_share: float) -> None:
    """Load a new file in each round, by the platform and by both scripts; print and keep what it took."""
    with scratch_dir() as folder, installed(folder, ui=False) as installation:
        taken: dict[str, list[dict[str, float]]] = {"platform": [], "bare exact": [], "bare inexact": []}
        for number in range(rounds):
            path = folder / "readings.ndjson"
            good = write_file(path, rows=rows, bad_share=bad_share, first=number * rows)
            time.sleep(SETTLE_SECONDS)
            taken["bare exact"].append(measure_bare(installation, path, folder, exact=True))
            taken["platform"].append(measure_platform(installation, path, rows=rows))
            taken["bare inexact"].append(measure_bare(installation, path, folder, exact=False))
            assert taken["bare exact"][-1]["accepted"] == taken["platform"][-1]["accepted"] == good
    _report(taken, rows=rows, bad_share=bad_share)


def _report(taken: dict[str, list[dict[str, float]]], *, rows: int, bad_share: float) -> None:
    table = [_row(name, found, rows=rows) for name, found in taken.items()]
    pairs = list(zip(taken["platform"], taken["bare exact"], strict=True))
    platform = taken["platform"]
    figures: list[results.Row] = [
        {"figure": name, "value": value, "goal": goal}
        for name, value, goal in (
            ("speed beside the exact script, accept → finished", _speed(pairs, "seconds"), f"≥ {SPEED_GOAL}"),
            ("the same, work only (started → finished)", _speed(pairs, "work seconds"), "-"),
            ("the same, upload included", _speed(pairs, "seconds in all"), "-"),
            ("seconds of the upload", _median(platform, "upload seconds"), "-"),
            ("API peak above idle, MB", _median(platform, "api above idle MB"), f"≤ {API_MEMORY_GOAL_MB}"),
            ("worker and its children, peak MB", _median(platform, "worker MB"), f"≤ {WORKER_MEMORY_GOAL_MB}"),
        )
    ]
    results.show(f"Upload: {rows:,} items as one NDJSON file, {bad_share:.1%} bad; medians over rounds", table)
    results.show("Upload: figures", figures)
    results.keep("upload", {"rows": rows, "bad_share": bad_share, "taken": taken, "figures": figures})


def _median(found: list[dict[str, float]], name: str) -> float:
    return results.median([each[name] for each in found])


def _speed(pairs: list[tuple[dict[str, float], dict[str, float]]], name: str) -> float:
    return results.median([bare["seconds"] / ours[name] for ours, bare in pairs])


def _row(name: str, found: list[dict[str, float]], *, rows: int) -> results.Row:
    return {
        "by": name,
        "accepted": int(_median(found, "accepted")),
        "seconds": _median(found, "seconds"),
        "rows/s": rows / _median(found, "seconds"),
        "CPU seconds": _median(found, "cpu_seconds"),
    }
