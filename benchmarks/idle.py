"""What the platform costs when nothing happens, and how long it takes to start and to end."""

import time
from pathlib import Path

from benchmarks import results
from benchmarks.installation import Installation, installed, scratch_dir
from benchmarks.processes import MIB, cpu_between, cpu_seconds, shared_memory_bytes, tree

CORE_SHARE_GOAL = 0.05
READY_SECONDS_GOAL = 10.0


def run(*, settle_seconds: float, seconds: float) -> None:
    """Start twice (on a new folder and on the same one again), then idle."""
    with scratch_dir() as folder:
        starts = [_start(folder, "first")]
        with installed(folder) as installation:
            starts.append(_times(installation, "again"))
            time.sleep(settle_seconds)
            idle = _idle(installation, seconds)
    results.show(f"Start: seconds from `ingest up` (goal: ready in {READY_SECONDS_GOAL:.0f}, API first)", starts)
    results.show(f"Idle: by process (goal: at most {CORE_SHARE_GOAL:.0%} of a core in all)", idle)
    results.keep("idle", {"seconds": seconds, "starts": starts, "idle": idle})


def _start(folder: Path, name: str) -> results.Row:
    with installed(folder) as installation:
        row = dict(_times(installation, name))
        row["stopped in"] = installation.stop()
    return row


def _times(installation: Installation, name: str) -> results.Row:
    seen = installation.seen
    parts = {part: seen[part] for part in ("postgres", "api", "worker", "code", "web", "daemon")}
    # What it would take at least on so many cores with nothing else to do.
    cpu = sum(cpu_seconds(tree(installation.process.pid)).values())
    return {"start": name, **parts, "ready": seen["ready"], "CPU seconds": cpu, "stopped in": float("nan")}


def _idle(installation: Installation, seconds: float) -> list[results.Row]:
    pid = installation.process.pid
    before, began = cpu_seconds(tree(pid)), time.perf_counter()
    time.sleep(seconds)
    used, lasted = cpu_between(before, cpu_seconds(tree(pid))), time.perf_counter() - began
    memory = shared_memory_bytes(tree(pid))
    rows: list[results.Row] = [
        {"process": part, "CPU % of a core": used[part] / lasted * 100, "memory MB (PSS)": memory.get(part, 0) / MIB}
        for part in sorted(used, key=lambda part: -used[part])
    ]
    total: results.Row = {
        "process": "in all",
        "CPU % of a core": sum(used.values()) / lasted * 100,
        "memory MB (PSS)": sum(memory.values()) / MIB,
    }
    return [*rows, total]
