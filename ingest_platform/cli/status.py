"""`ingest status`: what waits, how old it is, what was done in the last minute, the disk, the live processes."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from ingest_platform.cli.command import Output, command, opened_ledger
from ingest_platform.domain.feed import Standing
from ingest_platform.feeds import discover
from ingest_platform.settings import Settings, ValueKind, show_value
from ingest_platform.storage import activity, jobs
from ingest_platform.storage.activity import LiveProcess

# Somebody should look: this is longer than recovery from anything takes.
OLDEST_SECONDS_MAX = 60.0
_THOUSAND = 1000
_PARTS = ("postgres", "lake", "blobs", "landing", "archive", "quarantine", "run")


@command(epilog="Example:  ingest status --json")
def status(output: Output, settings: Settings) -> int:
    """Show what is waiting, how old, at what rate, on how much disk. Exits with 1 if something is wrong."""
    with opened_ledger(settings) as ledger, ledger.connection() as tx:
        feeds = [
            (feed.folder, jobs.waiting(tx, feed.name), activity.recent_activity(tx, feed=feed.name))
            for feed in discover()
        ]
        processes = activity.live_processes(tx)
        standings = [feed.standing(tx) for feed in discover() if feed.standing is not None]
    rows = [
        {
            "family": folder,
            "waiting": waiting.submissions,
            "oldest_age_seconds": waiting.oldest_age_seconds,
            "last_minute": recent,
        }
        for folder, waiting, recent in feeds
    ]
    disk = _disk(settings.data_dir)
    oldest = max([0.0, *(waiting.oldest_age_seconds or 0.0 for _, waiting, _ in feeds)])
    problems = _problems(settings, processes, oldest=oldest, free=disk["free"])
    problems += [problem for each in standings for problem in each.problems]
    own = {each.title: each.rows for each in standings}
    output.give({"families": rows, **own, "processes": processes, "disk": disk, "problems": problems})
    columns = ("family", "waiting", "oldest", "accepted/min", "ended/min", "records/min", "rejected/min", "median")
    shown = [
        (
            *(folder, waiting.submissions, _age(waiting.oldest_age_seconds)),
            *(recent.submissions_accepted, recent.jobs_ended, recent.records, recent.records_rejected),
            _age(recent.seconds_median),
        )
        for folder, waiting, recent in feeds
    ]
    output.table(columns, shown, empty="There are no feeds.")
    for each in standings:
        _tell_standing(output, each)
    _tell_rest(output, settings, processes, disk)
    for problem in problems:
        output.say(problem, style="red")
    return 1 if problems else 0


def _tell_standing(output: Output, standing: Standing) -> None:
    if standing.rows and not output.as_json:
        output.say("")
        columns = [name.replace("_", " ") for name in standing.rows[0]]
        shown = [tuple("-" if value is None else value for value in row.values()) for row in standing.rows]
        output.table(columns, shown, empty="")


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _problems(settings: Settings, processes: Sequence[LiveProcess], *, oldest: float, free: int) -> list[str]:
    found: list[str] = []
    if not any(each.part == "worker" for each in processes):
        found.append("No worker is alive: what is accepted waits. Start one with `ingest up` or `ingest worker`.")
    if oldest > OLDEST_SECONDS_MAX:
        found.append(f"The oldest submission has waited for {oldest:.0f} s; `ingest jobs list --state accepted`.")
    if free < settings.disk_free_bytes_min:
        least = show_value(settings.disk_free_bytes_min, ValueKind.SIZE)
        found.append(f"Less than {least} of disk are free: nothing is accepted until there is more (503).")
    return found


def _disk(data_dir: Path) -> dict[str, int]:
    used = {part: _size(data_dir / part) for part in _PARTS}
    return {"free": shutil.disk_usage(data_dir).free, **{part: size for part, size in used.items() if size}}


def _size(folder: Path) -> int:
    """Add up a folder; what vanishes meanwhile or may not be read counts as nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(path, name).lstat().st_size
    return total


def _tell_rest(output: Output, settings: Settings, processes: Sequence[LiveProcess], disk: dict[str, int]) -> None:
    if output.as_json:
        return
    output.say("")
    named = ", ".join(f"{each.part} {each.pid}@{each.host}" for each in processes) or "none"
    output.console.print(Text.assemble(("processes  ", "bold"), named))
    sizes = "  ".join(f"{part} {_human(size)}" for part, size in disk.items() if part != "free")
    free = f"{_human(disk['free'])} free; {sizes}  in {settings.data_dir}"
    output.console.print(Text.assemble(("disk       ", "bold"), free))


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < _THOUSAND:
            return f"{size:.3g} {unit}"
        size /= _THOUSAND
    return f"{size:.1f} TB"
