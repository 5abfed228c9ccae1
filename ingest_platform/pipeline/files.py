"""Taking dropped files: a private copy, its content's identity, and a job, in an order that a crash can't hurt.

claim (a rename) → copy into a blob, hashing (fsynced) → one ledger transaction (identity, job, note) → the claimed file
is deleted. Whatever is half-done stays claimed and is taken up at the next look; the job id is in the claim's path, so
that doing it again is doing it once. How files are found and claimed is not known here (`claims.py`), nor what becomes
of them after their job has ended (`filing.py`).
"""

import hashlib
import heapq
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import NotFound, PayloadTooLarge, Unavailable, UnsupportedFormat
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.ids import new_id
from ingest_platform.domain.job import Origin
from ingest_platform.domain.submission import Encoding, Format
from ingest_platform.pipeline.announce import announce_jobs
from ingest_platform.pipeline.claims import (
    LANDING,
    Claim,
    Held,
    Memory,
    Place,
    abandoned,
    claim,
    complete_files,
    let_go,
    put_back,
    remove_folders,
    reopen,
    shown,
)
from ingest_platform.pipeline.forgetting import forgets_now
from ingest_platform.pipeline.shapes import ShapeCache
from ingest_platform.storage import files, jobs, workspaces
from ingest_platform.storage.blobs import Blobs, BlobWriter
from ingest_platform.storage.files import TakenFile
from ingest_platform.storage.jobs import NewJob
from ingest_platform.storage.ledger import Ledger, Transaction

log = structlog.get_logger(__name__)

FORMATS = {
    ".json": Format.JSON,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".csv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".arrow": Format.ARROW,
}
ENCODINGS = {".gz": Encoding.GZIP, ".zst": Encoding.ZSTD}
# One look takes no more, so that the first of very many files are worked while the others are still being taken.
FILES_MAX = 1_000
_CHUNK_BYTES = 1024 * 1024


class FileLimits(Protocol):
    """The limits that concern files."""

    @property
    def file_bytes_max(self) -> int:
        """Bytes of the largest file that is read."""
        ...

    @property
    def disk_free_bytes_min(self) -> int:
        """Bytes of the disk that a private copy leaves free: the rest of the platform needs room as well."""
        ...


class Stores(Protocol):
    """What taking and filing need of the platform."""

    @property
    def data_dir(self) -> Path:
        """The folder that landing, archive and quarantine lie in."""
        ...

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        ...

    @property
    def blobs(self) -> Blobs:
        """The blob store."""
        ...

    @property
    def limits(self) -> FileLimits:
        """Limits."""
        ...

    @property
    def shapes(self) -> ShapeCache:
        """The shapes of targets."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A file that has a job now. `duplicate_of` names the job of the same content, `refused` is an error's code."""

    job_id: str
    workspace: str
    feed: str
    name: str
    duplicate_of: str | None = None
    refused: str | None = None


_memory = Memory()


def reading_of(name: str) -> tuple[Format, Encoding] | None:
    """Tell by its name how a file is read; None for a name that says nothing that we read.

    >>> reading_of("Readings.CSV.gz")
    (<Format.CSV: 'csv'>, <Encoding.GZIP: 'gzip'>)
    """
    stem, last = os.path.splitext(name.lower())  # noqa: PTH122 - a name with foreign bytes is no path of ours.
    encoding = ENCODINGS.get(last, Encoding.IDENTITY)
    if encoding is not Encoding.IDENTITY:
        last = os.path.splitext(stem)[1]  # noqa: PTH122
    return (FORMATS[last], encoding) if last in FORMATS else None


def collect(
    platform: Stores,
    feeds: Sequence[Feed],
    *,
    now: Callable[[], float] = time.time,
    complete: AbstractSet[Path] = frozenset(),
    memory: Memory = _memory,
    room_bytes: int | None = None,
) -> list[Taken]:
    """Take every complete file of the landing folder, the first arrived first, and what a crash left half-taken.

    `complete` are paths that a watcher saw being renamed into place; others are complete once they have stayed
    unchanged for 2 s. A file whose copy would leave less than `room_bytes` of the disk (as in the limits) stays. Raises
    LedgerFault or BlobFault when a store is away; nothing is lost by that, nor by a disk that fills up in between: the
    files are taken at a later look.
    """
    landing = platform.data_dir / LANDING
    if not landing.is_dir():
        return []
    by_folder = {feed.folder: feed for feed in feeds}
    taken: list[Taken] = []
    try:
        room = platform.limits.disk_free_bytes_min if room_bytes is None else room_bytes
        look = _Look(now=now, complete=complete, memory=memory, room_bytes=room)
        for one in _claims(platform, landing, by_folder, look):
            with closing(one):
                found = _take_if_readable(platform, by_folder[one.place.folder], one, memory)
            if found is not None:
                taken.append(found)
    except Unavailable as full:
        log.warning("files wait for room", reason=full.message)
    return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    now: Callable[[], float]
    complete: AbstractSet[Path]
    memory: Memory
    room_bytes: int


def _claims(platform: Stores, landing: Path, by_folder: Mapping[str, Feed], look: _Look) -> Iterator[Claim]:
    yield from _abandoned(platform, landing, by_folder, look)
    found = complete_files(landing, by_folder.keys(), memory=look.memory, now=look.now(), complete=look.complete)
    # The order of acceptance decides which value stands, so files that arrived in an order are taken in it.
    first = heapq.nsmallest(FILES_MAX, found, key=lambda each: (each.arrived_ns, each.parts))
    if not first:
        return
    with platform.ledger.connection() as connection:
        known = set(workspaces.names(connection))
    for each in first:
        if each.place.workspace not in known:
            look.memory.tell_once("drop left alone", each.place.workspace, reason="no workspace has this name")
            continue
        if not _has_room(platform, each.stamp[2], room_bytes=look.room_bytes):
            look.memory.tell_once("file waits", *each.place.parts, *each.parts, reason="the disk has no room for it")
            continue
        feed = by_folder[each.place.folder]
        if (one := claim(landing, each, job_id=new_id(feed.job_prefix), memory=look.memory)) is not None:
            yield one


def _has_room(platform: Stores, size: int, *, room_bytes: int) -> bool:
    # A file beyond the limit is not copied.
    return size > platform.limits.file_bytes_max or shutil.disk_usage(platform.data_dir).free >= size + room_bytes


def _abandoned(platform: Stores, landing: Path, by_folder: Mapping[str, Feed], look: _Look) -> Iterator[Claim]:
    """Take up what a crash, or a store that was away, left claimed."""
    found = abandoned(landing, by_folder.keys(), limit=FILES_MAX)
    if not found:
        return
    open_locks = {each.lock for each in found}
    try:
        # Asked only now that nobody else works on them: what has a job by now is not taken again.
        with platform.ledger.connection() as connection:
            known = files.known_claims(connection, [each.job_id for each in found])
        for each in found:
            if (job := known.get(each.job_id)) is not None:
                _clear(each, job)
            elif (one := reopen(landing, each, memory=look.memory, now=look.now())) is not None:
                # The claim closes its lock itself.
                open_locks.remove(each.lock)
                yield one
    finally:
        for lock in open_locks:
            os.close(lock)


def _clear(held: Held, job: files.KnownClaim) -> None:
    """Delete what is left of a claim whose file was copied, unless somebody wrote to it in the meantime."""
    if job.needed:
        return
    path = next((each for each in held.folder.rglob("*") if not each.is_dir()), None)
    if path is not None and path.lstat().st_size != job.bytes_in:
        held.folder.rename(held.folder.with_name(new_id(held.job_id[: -len(new_id(""))])))
        return
    if path is not None:
        path.unlink()
    remove_folders(held.folder)


def _take_if_readable(platform: Stores, feed: Feed, one: Claim, memory: Memory) -> Taken | None:
    try:
        return _take(platform, feed, one)
    except OSError as error:
        # Its bytes can't be read at the moment; it stays claimed, and holds back no other.
        memory.tell_once("file not taken", *one.place.parts, *one.parts, reason=str(error))
        return None


def _take(platform: Stores, feed: Feed, one: Claim) -> Taken | None:
    reach("file.claimed")
    target, path = _targeted(feed, one.parts)
    if (problem := target_problem(platform, feed, workspace=one.place.workspace, target=target)) is not None:
        whole = shown("/".join(one.parts))
        return _refuse(platform, feed, one, name=whole, code="not_found", message=problem)
    name = shown("/".join(path))
    reading = reading_of(one.parts[-1])
    if reading is None:
        message = f"The name must end in one of {', '.join(FORMATS)}, each also with .gz or .zst."
        return _refuse(platform, feed, one, name=name, code="unsupported_format", message=message)
    if one.size > platform.limits.file_bytes_max:
        message = f"The file has {one.size} bytes; the limit is {platform.limits.file_bytes_max}."
        return _refuse(platform, feed, one, name=name, code="payload_too_large", message=message)
    key = _key(one.place.workspace, feed, one.job_id)
    try:
        with platform.blobs.writer(key) as writer:
            digest, size = _copy(one.descriptor, writer)
            reach("file.copied")
            if size != one.size or not one.unchanged():
                # A writer still has it open. It stays claimed, and is taken once it is settled.
                log.info("file still being written", job_id=one.job_id, name=name)
                return None
            writer.commit()
    except Unavailable:
        put_back(platform.data_dir / LANDING, one)
        raise
    job = _new_job(
        *(one.job_id, one.place.workspace, feed),
        target=target,
        name=name,
        size=size,
        reading=reading,
        blob=key,
        sha256=digest,
    )
    taken = _accept(platform.ledger, feed, job)
    let_go(one)
    return taken


def _targeted(feed: Feed, parts: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Part a path below a feed's folder: the first folder is the target, where the feed has targets."""
    if feed.shapes is None or len(parts) == 1:
        return None, parts
    return parts[0], parts[1:]


def target_problem(platform: Stores, feed: Feed, *, workspace: str, target: str | None) -> str | None:
    """Say what is wrong with the target of a file; None if nothing is."""
    if feed.shapes is None:
        return None if target is None else f"{feed.folder} has no targets."
    if target is None:
        return f"{feed.title} need a target: the file belongs into a folder named after it, below {feed.folder}/."
    if platform.shapes.of(feed, workspace=workspace, target=target) is None:
        return f"{feed.title}: there is no {shown(target)} with a schema in this workspace."
    return None


def _key(workspace: str, feed: Feed, job_id: str) -> str:
    return f"files/{workspace}/{feed.name}/{job_id}"


def _copy(source: int, writer: BlobWriter) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := os.read(source, _CHUNK_BYTES):
        digest.update(chunk)
        writer.write(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _new_job(
    job_id: str,
    workspace: str,
    feed: Feed,
    *,
    name: str,
    size: int,
    reading: tuple[Format, Encoding],
    blob: str | None,
    sha256: str | None,
    target: str | None = None,
) -> NewJob:
    return NewJob(
        id=job_id,
        workspace=workspace,
        feed=feed.name,
        target=target,
        origin=Origin.FILE,
        format=reading[0],
        encoding=reading[1],
        bytes_in=size,
        blob=blob,
        # A job always has a submission; one that nobody will ever work has an empty one.
        body=b"" if blob is None else None,
        file_name=name,
        file_sha256=sha256,
    )


def _accept(ledger: Ledger, feed: Feed, job: NewJob) -> Taken:
    """Give the file its job: a new one, or one that ends at once because the content is known.

    A duplicate ends without waiting for the first one: should that fail, `duplicate_of` leads to its reason, and the
    next drop of the same content is tried again.
    """
    assert job.blob is not None
    assert job.file_name is not None
    assert job.file_sha256 is not None
    with ledger.transaction() as tx:
        first = files.identify(
            tx,
            workspace=job.workspace,
            feed=job.feed,
            target=job.target,
            sha256=job.file_sha256,
            job_id=job.id,
            name=job.file_name,
        )
        if first == job.id:
            jobs.accept(tx, [job])
        else:
            # Nothing is stored twice: the copy only waits to be archived, and the job has an empty submission.
            jobs.accept_duplicate(tx, replace(job, blob=None, body=b""), of=first)
            announce_jobs(tx, {job.id: job.workspace})
        forgotten = forgets_now(tx, feed, workspace=job.workspace, target=job.target)
        _note(tx, feed, job, blob=job.blob, forgotten=forgotten)
        reach("file.before_commit")
    reach("file.after_commit")
    duplicate_of = None if first == job.id else first
    log.info("file taken", job_id=job.id, name=job.file_name, bytes=job.bytes_in, duplicate_of=duplicate_of)
    return Taken(job_id=job.id, workspace=job.workspace, feed=job.feed, name=job.file_name, duplicate_of=duplicate_of)


def _note(tx: Transaction, feed: Feed, job: NewJob, *, blob: str | None, forgotten: bool = False) -> None:
    assert job.file_name is not None
    files.note(
        tx,
        TakenFile(
            job_id=job.id,
            workspace=job.workspace,
            feed=job.feed,
            folder=feed.folder,
            name=job.file_name,
            blob=blob,
            forgotten=forgotten,
        ),
    )


def _refuse(platform: Stores, feed: Feed, one: Claim, *, name: str, code: str, message: str) -> Taken:
    """Answer a file that is never read: its job has failed, and it lies in its claim until it is in quarantine."""
    job = _new_job(
        one.job_id,
        one.place.workspace,
        feed,
        name=name,
        size=one.size,
        reading=(Format.JSON, Encoding.IDENTITY),
        blob=None,
        sha256=None,
    )
    with platform.ledger.transaction() as tx:
        jobs.accept_failed(tx, job, code=code, message=message)
        announce_jobs(tx, {job.id: job.workspace})
        _note(tx, feed, job, blob=None)
        reach("file.before_commit")
    reach("file.after_commit")
    log.info("file refused", job_id=one.job_id, name=name, bytes=one.size, code=code)
    return Taken(job_id=one.job_id, workspace=one.place.workspace, feed=feed.name, name=name, refused=code)


def land_file(
    platform: Stores, feed: Feed, workspace: str, path: Path, *, name: str | None = None, target: str | None = None
) -> str:
    """Take a local file that stays where it is, by the same path; returns its job's id.

    Raises the refusal where a dropped file would have been answered with a failed job.
    """
    reading = reading_of(name or path.name)
    if reading is None:
        message = f"{shown(path.name)}: the name must end in one of {', '.join(FORMATS)}, each also with .gz or .zst."
        raise UnsupportedFormat(message)
    with platform.ledger.connection() as connection:
        if workspaces.find(connection, workspace) is None:
            message = f"There is no workspace {workspace}."
            raise NotFound(message)
    if (problem := target_problem(platform, feed, workspace=workspace, target=target)) is not None:
        raise NotFound(problem)
    job_id = new_id(feed.job_prefix)
    key = _key(workspace, feed, job_id)
    # Without O_NONBLOCK a pipe would hang.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_file(os.fstat(descriptor), path, bytes_max=platform.limits.file_bytes_max)
        with platform.blobs.writer(key) as writer:
            digest, size = _copy(descriptor, writer)
            writer.commit()
    finally:
        os.close(descriptor)
    job = _new_job(
        *(job_id, workspace, feed),
        target=target,
        name=shown(name or path.name),
        size=size,
        reading=reading,
        blob=key,
        sha256=digest,
    )
    return _accept(platform.ledger, feed, job).job_id


def _require_file(status: os.stat_result, path: Path, *, bytes_max: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        message = f"{shown(path.name)} is no regular file."
        raise UnsupportedFormat(message)
    if status.st_size > bytes_max:
        message = f"{shown(path.name)} has {status.st_size} bytes; the limit is {bytes_max}."
        raise PayloadTooLarge(message)


__all__ = ["FileLimits", "Memory", "Place", "Stores", "Taken", "collect", "land_file", "reading_of"]
