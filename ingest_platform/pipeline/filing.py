"""What becomes of a dropped file after its job has ended: it lies in archive or quarantine, with the answer beside it.

    archive/<workspace>/<folder>/<day>/<job id>/<name>, <name>.outcome.json, <name>.rejected.ndjson
    quarantine/<workspace>/<folder>/<day>/<job id>/<name>, <name>.reason.json

A folder a job, so that two files of one name never meet, and all of it appears by one rename. Bytes are linked, not
copied, where the file system allows: the blob that backfills read and the archived file are the same blocks, and
deleting one leaves the other.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from itertools import islice
from pathlib import Path

import structlog

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import Unavailable
from ingest_platform.domain.job import Job, JobState
from ingest_platform.domain.rejection import reasons
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.pipeline.claims import LANDING, Place, claim_folder, held_file, remove_folders
from ingest_platform.pipeline.files import Stores
from ingest_platform.pipeline.rejected import rejected_line
from ingest_platform.storage import durable, files, jobs, outcomes
from ingest_platform.storage.files import TakenFile

log = structlog.get_logger(__name__)

ARCHIVE = "archive"
QUARANTINE = "quarantine"
# One call files no more, so that a worker gets back to its loads.
FILED_MAX = 1_000
# Nearly always a link; of another file system, gigabytes are copied.
FILING_SECONDS_MAX = 600.0
# Enough to see what is wrong; all of them are in the .rejected.ndjson beside it.
FIRST_ERRORS_MAX = 100
# File systems take 255 bytes; the longest ending that is put behind the name has 16.
NAME_BYTES_MAX = 255 - len(".rejected.ndjson")
_COUNTS = ("received", "accepted", "rejected", "created", "updated", "unchanged", "stale", "superseded", "duplicate")
_COPY_BYTES = 1024 * 1024


def file_outcomes(platform: Stores, *, limit: int = FILED_MAX) -> list[str]:
    """File the dropped files whose jobs have ended; returns the jobs' ids. May be repeated, and by several at once.

    A file that can't be filed now (the disk is full, its claim lies on another machine) waits, and holds back no other.
    """
    filed: list[str] = []
    after = ""
    for _ in range(limit):
        with platform.ledger.transaction(idle_seconds_max=FILING_SECONDS_MAX) as tx:
            taken = files.next_to_file(tx, after=after)
            if taken is None:
                break
            after = taken.job_id
            job = jobs.get_job(tx, workspace=taken.workspace, job_id=taken.job_id)
            assert job is not None
            try:
                done = _file(platform, taken, job)
            except (OSError, Unavailable) as error:
                log.warning("file not filed", job_id=taken.job_id, reason=str(error))
                continue
            if not done:
                continue
            reach("file.archived")
            # It is published durably: whatever ends this process now, the next one finds it done and only repeats this.
            _tidy(platform, taken, job)
            files.forget(tx, taken.job_id)
        filed.append(taken.job_id)
    return filed


def _tidy(platform: Stores, taken: TakenFile, job: Job) -> None:
    """Delete what nobody needs once the file is filed."""
    if taken.blob is None:
        folder = _claim_folder(platform, taken)
        if (path := held_file(folder)) is not None:
            path.unlink(missing_ok=True)
        remove_folders(folder)
    elif job.duplicate_of is not None or taken.forgotten:
        # The first one's blob is what backfills read; what is forgotten is never worked again.
        platform.blobs.delete(taken.blob)


def _claim_folder(platform: Stores, taken: TakenFile) -> Path:
    place = Place(workspace=taken.workspace, folder=taken.folder)
    return claim_folder(platform.data_dir / LANDING, place, taken.job_id)


def _file(platform: Stores, taken: TakenFile, job: Job) -> bool:
    """Write the job's folder and publish it by one rename. False if the bytes are on another machine."""
    root = ARCHIVE if job.state is JobState.FINISHED else QUARANTINE
    day = platform.data_dir / root / taken.workspace / taken.folder / job.accepted_at.date().isoformat()
    final = day / job.id
    if final.is_dir():
        # Published before, by a process that ended before it could say so.
        return True
    if taken.blob is None and held_file(_claim_folder(platform, taken)) is None:
        log.warning("file not filed", job_id=job.id, reason="its claim is not on this machine")
        return False
    durable.make_folder(day)
    _remove_leftovers(day, job.id)
    folder = Path(tempfile.mkdtemp(prefix=f".{job.id}.", dir=day))
    try:
        _fill(platform, taken, job, folder)
        folder.chmod(0o755)
        durable.sync_folder(folder)
        folder.rename(final)
        durable.sync_folder(day)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def forget_old_filed(data_dir: Path, *, days: int, today: date) -> int:
    """Delete the days of archive and quarantine that are older than this; returns how many. Jobs and data stay."""
    oldest = (today - timedelta(days=days)).isoformat()
    # Days as text sort like days; what has another form is not ours.
    old = [
        day
        for root in (ARCHIVE, QUARANTINE)
        for day in (data_dir / root).glob("*/*/[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]")
        if day.name < oldest
    ]
    for day in old:
        shutil.rmtree(day, ignore_errors=True)
    return len(old)


def _remove_leftovers(day: Path, job_id: str) -> None:
    for each in day.glob(f".{job_id}.*"):
        shutil.rmtree(each, ignore_errors=True)


def _fill(platform: Stores, taken: TakenFile, job: Job, folder: Path) -> None:
    name = file_name(taken.name)
    # Of one that could not be read nothing was worked, and whoever dropped it wants to see what it is.
    if not taken.forgotten or job.state is JobState.FAILED:
        _put_bytes(platform, taken, job, folder / name)
    if job.state is JobState.FAILED:
        _write(folder / f"{name}.reason.json", _json(job_summary(job)))
        return
    if job.rejected:
        _write_all(folder / f"{name}.rejected.ndjson", _rejected_lines(platform, job.id))
    first = _first_errors(platform, job)
    _write(folder / f"{name}.outcome.json", _json({**job_summary(job), "errors": first}))


def _put_bytes(platform: Stores, taken: TakenFile, job: Job, target: Path) -> None:
    with ExitStack() as lent:
        if taken.blob is None:
            source = held_file(_claim_folder(platform, taken))
        elif platform.blobs.exists(taken.blob):
            source = lent.enter_context(platform.blobs.local_path(taken.blob))
        else:
            # The day was archived before the file was filed; its bytes are there.
            source = None
            log.warning("file filed without its bytes", job_id=job.id, name=taken.name)
        if source is not None:
            _link_or_copy(source, target)


def file_name(name: str) -> str:
    """Shorten a dropped file's name, without its folders, so that endings fit behind it; its own ending is kept.

    >>> len(file_name("folder/" + "x" * 300 + ".csv.gz")), file_name("folder/" + "x" * 300 + ".csv.gz")[-8:]
    (239, 'x.csv.gz')
    """
    last = name.rpartition("/")[2]
    if len(last.encode()) <= NAME_BYTES_MAX:
        return last
    ending = "".join(Path(last).suffixes[-2:])
    ending = ending if len(ending.encode()) <= len(".parquet.zst") else ""
    return last.encode()[: NAME_BYTES_MAX - len(ending.encode())].decode(errors="ignore") + ending


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        # Another file system, or one that knows no links. A full disk shows again in the copy.
        with source.open("rb") as reader, target.open("xb") as writer:
            shutil.copyfileobj(reader, writer, _COPY_BYTES)
            writer.flush()
            os.fsync(writer.fileno())


def _write(path: Path, data: bytes) -> None:
    _write_all(path, iter((data,)))


def _write_all(path: Path, lines: Iterator[bytes]) -> None:
    with path.open("xb") as target:
        target.writelines(lines)
        target.flush()
        os.fsync(target.fileno())


def _json(value: object) -> bytes:
    # What is no text in UTF-8 (half a surrogate pair in a message) becomes its JSON escape.
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace") + b"\n"


def job_summary(job: Job) -> dict[str, object]:
    """Sum up a job for people and programs that have only the files."""
    times = {
        "accepted": job.accepted_at,
        "started": job.started_at,
        "validated": job.validated_at,
        "stored": job.stored_at,
        "finished": job.finished_at,
    }
    error = {"code": job.error_code, "message": job.error_message} if job.state is JobState.FAILED else None
    return {
        "id": job.id,
        "family": job.feed,
        "target": job.target,
        "workspace": job.workspace,
        "origin": job.origin.value,
        "file": {"name": job.file_name, "sha256": job.file_sha256},
        "state": job.state.value,
        "verdict": job.verdict,
        "counts": {name: getattr(job, name) for name in _COUNTS},
        "bytes_in": job.bytes_in,
        "times": {name: instant and format_instant(instant) for name, instant in times.items()},
        "duplicate_of": job.duplicate_of,
        "error": error,
    }


def _first_errors(platform: Stores, job: Job) -> list[dict[str, object]]:
    if not job.rejected:
        return []
    with platform.ledger.connection() as connection:
        found = outcomes.rejections(connection, job.id, limit=FIRST_ERRORS_MAX)
    errors = ({"index": each.record_index, **problem} for each in found for problem in reasons(each.problems))
    return list(islice(errors, FIRST_ERRORS_MAX))


def _rejected_lines(platform: Stores, job_id: str) -> Iterator[bytes]:
    for each in outcomes.iter_rejections(platform.ledger, job_id):
        yield rejected_line(each)
