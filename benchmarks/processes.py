"""What processes cost: CPU and memory of a tree of them, by the part of the platform that each belongs to."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

MIB = 1024 * 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Words of a command line, and whose it is. The first that is found counts.
PARTS = (
    ("dagster_webserver", "dagster web"),
    ("dagster._daemon", "dagster daemon"),
    ("dagster api grpc", "dagster code"),
    ("ingest_platform.pipeline.sandboxed", "parser"),
    ("ingest_platform api", "api"),
    ("benchmarks.served", "api"),
    ("ingest_platform worker", "worker"),
    ("ingest_platform up", "ingest up"),
    ("postgres", "postgres"),
)


def part_of(process: psutil.Process) -> str:
    """Name the part that a process belongs to."""
    try:
        command = " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return "ended"
    return next((part for words, part in PARTS if words in command), "other")


def tree(pid: int) -> list[psutil.Process]:
    """List a process and all that it started."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """Add up CPU time by part, children that have ended included."""
    used: dict[str, float] = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        part = part_of(process)
        seconds = times.user + times.system + times.children_user + times.children_system
        used[part] = used.get(part, 0.0) + seconds
    return used


def cpu_between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Tell the CPU time that was used between two looks."""
    return {part: max(0.0, seconds - before.get(part, 0.0)) for part, seconds in after.items()}


def shared_memory_bytes(processes: Sequence[psutil.Process]) -> dict[str, int]:
    """Add up memory by part, each shared page counted once in all (PSS)."""
    held: dict[str, int] = {}
    for process in processes:
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        pss = next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
        part = part_of(process)
        held[part] = held.get(part, 0) + pss
    return held


def resident_bytes(pid: int) -> int:
    """Tell how much memory of a process is resident (RSS)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


class MemoryWatch:
    """Samples the resident memory of some trees from a thread of its own, and keeps each one's peak."""

    SAMPLE_SECONDS = 0.05
    # Looking for children costs more than reading their size.
    FAMILY_SECONDS = 0.5

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = dict(roots)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.idle_bytes = {name: self._sum(tree(pid)) for name, pid in roots.items()}
        self.peak_bytes = dict(self.idle_bytes)

    @staticmethod
    def _sum(processes: Sequence[psutil.Process]) -> int:
        return sum(resident_bytes(process.pid) for process in processes)

    def _watch(self) -> None:
        families: dict[str, list[psutil.Process]] = {}
        looked_at = float("-inf")
        while not self._ended.wait(self.SAMPLE_SECONDS):
            if time.monotonic() - looked_at > self.FAMILY_SECONDS:
                families = {name: tree(pid) for name, pid in self._roots.items()}
                looked_at = time.monotonic()
            for name, family in families.items():
                self.peak_bytes[name] = max(self.peak_bytes[name], self._sum(family))

    def __enter__(self) -> Self:
        """Begin to sample."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End sampling."""
        self._ended.set()
        self._thread.join()


def find_part(pid: int, part: str) -> int:
    """Find the process of a part within a tree."""
    return next(process.pid for process in tree(pid) if part_of(process) == part)
