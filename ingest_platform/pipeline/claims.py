"""Dropped files in the landing folder: which are complete, and taking one out of everybody else's reach.

Nothing is read here, and no job is known. Half-written files, links and paths that leave the folder are never opened:
each step goes from an open folder to a name in it, and follows no link.

A claim is a rename into `landing/.held/<workspace>/<folder>/<job id>/`, below the landing folder itself so that it is
on the same file system. Of two that try, one gets the file. The claim's folder is locked while its process lives.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Generator, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ingest_platform.domain.ids import new_id
from ingest_platform.storage import durable

log = structlog.get_logger(__name__)

LANDING = "landing"
HELD = ".held"
# The contract's: unchanged in size and mtime for so long, a file is complete.
SETTLE_SECONDS = 2.0
UNFINISHED_SUFFIXES = (".tmp", ".part")
# Deeper or longer paths are nobody's drop, and a claim's own path must still fit into the system's 4,096 bytes.
DEPTH_MAX = 16
PATH_BYTES_MAX = 2_048
# What was said once is not said again at every look; a landing folder has few reasons to say more.
TOLD_MAX = 10_000
# Nobody needs longer from making a claim's folder to moving the file into it.
EMPTY_SECONDS_MAX = 60
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe with nobody at the other end would hang an opening without O_NONBLOCK.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A feed's folder of a workspace below the landing folder."""

    workspace: str
    folder: str

    @property
    def parts(self) -> tuple[str, str]:
        """The place as parts of a path."""
        return self.workspace, self.folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A complete file as it was seen, not opened yet; `parts` are its path below the place."""

    place: Place
    parts: tuple[str, ...]
    stamp: Stamp
    arrived_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A file that is ours: open as `descriptor`, under the job id that will answer for it."""

    job_id: str
    place: Place
    parts: tuple[str, ...]
    folder: Path
    descriptor: int
    lock: int
    stamp: Stamp

    @property
    def path(self) -> Path:
        """Where the file lies now."""
        return self.folder.joinpath(*self.parts)

    @property
    def size(self) -> int:
        """The file's bytes when it was claimed."""
        return self.stamp[2]

    def unchanged(self) -> bool:
        """Whether nobody wrote to the file since it was claimed: a writer may still have it open."""
        return stamp_of(os.fstat(self.descriptor)) == self.stamp

    def close(self) -> None:
        """Close the file and let go of the lock."""
        os.close(self.descriptor)
        os.close(self.lock)


@dataclass(slots=True)
class Memory:
    """What earlier looks saw and said: a file is complete by having stayed the same."""

    seen: dict[tuple[str, ...], tuple[Stamp, int, float]] = field(
        default_factory=dict[tuple[str, ...], tuple[Stamp, int, float]]
    )
    told: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])

    def settled(self, key: tuple[str, ...], status: os.stat_result, *, now: float) -> bool:
        """Tell whether a file has stayed unchanged for the settle time.

        By its own times, of which the time of its last change of any kind can't be set by its sender; where these lie
        in the future (a clock was set back), by having been seen unchanged at an earlier look.
        """
        if now - max(status.st_mtime, status.st_ctime) >= SETTLE_SECONDS:
            self.seen.pop(key, None)
            return True
        stamp, changed_ns = stamp_of(status), status.st_ctime_ns
        known = self.seen.get(key)
        if known is None or known[:2] != (stamp, changed_ns) or known[2] > now:
            self.seen[key] = known = (stamp, changed_ns, now)
        return now - known[2] >= SETTLE_SECONDS

    def forget_all_but(self, keys: AbstractSet[tuple[str, ...]]) -> None:
        """Forget the files that were not there at the last look."""
        self.seen = {key: value for key, value in list(self.seen.items()) if key in keys or key[0] == HELD}

    def tell_once(self, event: str, *parts: str, reason: str) -> None:
        """Log what is left alone, once and not at every look."""
        if (reason, *parts) in self.told:
            return
        if len(self.told) >= TOLD_MAX:
            self.told.clear()
        self.told.add((reason, *parts))
        log.warning(event, path=shown("/".join(parts)), reason=reason)


def shown(name: str) -> str:
    r"""Write a file's name so that it harms no log, JSON or table: what can't be printed is escaped.

    >>> shown("a" + chr(10) + "b" + chr(0xDCFF))
    'a\\nb\\xff'
    """
    decoded = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in decoded)


def stamp_of(status: os.stat_result) -> Stamp:
    """Tell what a writer can't leave unchanged: which file it is, its size, when it was written."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def complete_files(
    landing: Path, folders: AbstractSet[str], *, memory: Memory, now: float, complete: AbstractSet[Path] = frozenset()
) -> Iterator[Dropped]:
    """Find the complete files of all workspaces' feed folders; what is neither is left alone.

    `complete` are paths that a watcher saw being renamed into place: these need not stay unchanged first.
    """
    looked: set[tuple[str, ...]] = set()
    for place in _places(landing, folders, memory):
        for parts, status in _walk(landing, place, memory):
            key = (*place.parts, *parts)
            looked.add(key)
            if memory.settled(key, status, now=now) or landing.joinpath(*key) in complete:
                yield Dropped(place=place, parts=parts, stamp=stamp_of(status), arrived_ns=status.st_ctime_ns)
    memory.forget_all_but(looked)


def _places(landing: Path, folders: AbstractSet[str], memory: Memory) -> Iterator[Place]:
    for workspace in _names(landing, ()):
        for folder in _names(landing, (workspace,)):
            if folder in folders:
                yield Place(workspace=workspace, folder=folder)
            else:
                memory.tell_once("drop left alone", workspace, folder, reason="no feed has this folder")


def _names(landing: Path, parts: tuple[str, ...]) -> list[str]:
    return [name for name, _ in _entries(landing, parts)]


# A folder that is gone, is none, became a link or may not be read: there is nothing in it for us.
_NO_ENTRY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES})
# A file that is there and can't be claimed.
_OUT_OF_REACH = {
    errno.EACCES: "it may not be read",
    errno.EPERM: "it may not be read",
    errno.EXDEV: "it lies on another file system than the landing folder",
}


def _entries(landing: Path, parts: tuple[str, ...]) -> list[tuple[str, os.stat_result]]:
    """List a folder, by name, without what is hidden."""
    found: list[tuple[str, os.stat_result]] = []
    try:
        with _opened_folder(landing, parts) as folder:
            for name in sorted(os.listdir(folder)):  # noqa: PTH208 - an open folder has no Path.
                if name.startswith("."):
                    continue
                # What was taken since the folder was listed is not there any more.
                with suppress(FileNotFoundError):
                    found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
    except OSError as error:
        if error.errno not in _NO_ENTRY:
            raise
    return found


def _walk(
    landing: Path, place: Place, memory: Memory, parents: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
    for name, status in _entries(landing, (*place.parts, *parents)):
        parts = (*parents, name)
        if name.lower().endswith(UNFINISHED_SUFFIXES):
            continue
        if len(parts) > DEPTH_MAX or len(os.fsencode("/".join(parts))) > PATH_BYTES_MAX:
            memory.tell_once("drop left alone", *place.parts, *parts[:2], "…", reason="its path is too long")
        elif stat.S_ISDIR(status.st_mode):
            yield from _walk(landing, place, memory, parts)
        elif (reason := unfit(status)) is not None:
            memory.tell_once("drop refused", *place.parts, *parts, reason=reason)
        else:
            yield parts, status


def unfit(status: os.stat_result) -> str | None:
    """Tell why something is never opened; None for a plain file with one name."""
    if stat.S_ISLNK(status.st_mode):
        return "it is a link"
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    return "it has a second name (a hard link)" if status.st_nlink > 1 else None


@contextmanager
def _opened_folder(top: Path, parts: tuple[str, ...]) -> Generator[int]:
    """Open a folder below another one, part by part, following no link."""
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def claim(landing: Path, dropped: Dropped, *, job_id: str, memory: Memory) -> Claim | None:
    """Take a file out of everybody else's reach; None if it changed, went away or was replaced since it was seen."""
    *parents, name = dropped.parts
    try:
        with _opened_folder(landing, (*dropped.place.parts, *parents)) as source:
            descriptor = os.open(name, _FILE, dir_fd=source)
            taken = None
            try:
                taken = _move(landing, dropped, job_id=job_id, source=source, descriptor=descriptor)
            finally:
                if taken is None:
                    os.close(descriptor)
    except OSError as error:
        if error.errno in _NO_ENTRY and not isinstance(error, PermissionError):
            return None
        if error.errno not in _OUT_OF_REACH:
            raise
        memory.tell_once("drop left alone", *dropped.place.parts, *dropped.parts, reason=_OUT_OF_REACH[error.errno])
        return None
    return taken


def _move(landing: Path, dropped: Dropped, *, job_id: str, source: int, descriptor: int) -> Claim | None:
    status = os.fstat(descriptor)
    if unfit(status) is not None or stamp_of(status) != dropped.stamp:
        return None
    folder = _held(landing, dropped.place) / job_id
    durable.make_folder(folder, mode=0o700)
    lock = _lock(folder)
    if lock is None:
        return None
    taken = Claim(
        job_id=job_id,
        place=dropped.place,
        parts=dropped.parts,
        folder=folder,
        descriptor=descriptor,
        lock=lock,
        stamp=dropped.stamp,
    )
    try:
        taken.path.parent.mkdir(parents=True, exist_ok=True)
        # Atomic: of two that try, one finds the name gone.
        os.rename(dropped.parts[-1], taken.path, src_dir_fd=source)
        moved = taken.path.lstat()
    except OSError:
        os.close(lock)
        remove_folders(folder)
        raise
    # The name may have been given to something else between the opening and the rename.
    if unfit(moved) is None and stamp_of(moved)[:2] == dropped.stamp[:2]:
        return taken
    put_back(landing, taken)
    os.close(lock)
    return None


def _held(landing: Path, place: Place) -> Path:
    return landing.joinpath(HELD, *place.parts)


def claim_folder(landing: Path, place: Place, job_id: str) -> Path:
    """Name the folder that a claim lies in."""
    return _held(landing, place) / job_id


def _lock(folder: Path) -> int | None:
    """Lock a claim's folder for as long as this process lives; None if another one has it, or if it is gone."""
    try:
        descriptor = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def put_back(landing: Path, taken: Claim) -> None:
    """Give a file back to its place, unless that has a new one of its name: then it stays claimed for a later try."""
    *parents, name = taken.parts
    try:
        with _opened_folder(landing, (*taken.place.parts, *parents)) as source:
            # A link, other than a rename, replaces nothing. A crash here is mended by `reopen`.
            os.link(taken.path, name, dst_dir_fd=source, follow_symlinks=False)
        taken.path.unlink()
    except OSError as error:
        log.warning("claim kept", job_id=taken.job_id, reason=str(error))
        return
    remove_folders(taken.folder)


def let_go(taken: Claim) -> None:
    """Delete a claimed file that was copied; one that was written to since is claimed anew, as another file."""
    if not taken.unchanged():
        ulid_length = len(new_id(""))
        again = taken.folder.with_name(new_id(taken.job_id[:-ulid_length]))
        taken.folder.rename(again)
        log.warning("file written to after it was complete", job_id=taken.job_id, again=again.name)
        return
    taken.path.unlink(missing_ok=True)
    remove_folders(taken.folder)


def remove_folders(folder: Path) -> None:
    """Remove a claim's folder and the empty ones in it; a file keeps its own."""
    for each, _, _ in os.walk(folder, topdown=False):
        with suppress(FileNotFoundError):
            try:
                Path(each).rmdir()
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise


def held_file(folder: Path) -> Path | None:
    """Find the one file of a claim."""
    for each, _, names in os.walk(folder):
        for name in names:
            return Path(each) / name
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A claim that no living process works on, locked by this one now."""

    place: Place
    job_id: str
    folder: Path
    lock: int


def abandoned(landing: Path, folders: AbstractSet[str], *, limit: int) -> list[Held]:
    """Lock the claims of processes that died, or gave up for the moment; at most so many at a time."""
    found: list[Held] = []
    for path in sorted(landing.glob(f"{HELD}/*/*/*")):
        workspace, folder, job_id = path.parts[-3:]
        if folder not in folders or (lock := _lock(path)) is None:
            continue
        place = Place(workspace=workspace, folder=folder)
        found.append(Held(place=place, job_id=job_id, folder=path, lock=lock))
        if len(found) == limit:
            break
    return found


def reopen(landing: Path, held: Held, *, memory: Memory, now: float) -> Claim | None:
    """Open the file of an abandoned claim, once it is settled. One whose giving back was cut short is given back.

    A claim that was taken owns the lock.
    """
    path = held_file(held.folder)
    if path is None:
        if now - held.folder.stat().st_mtime > EMPTY_SECONDS_MAX:
            remove_folders(held.folder)
        return None
    parts = path.relative_to(held.folder).parts
    status = path.lstat()
    key = (*held.place.parts, *parts)
    if unfit(status) is not None:
        if _same_file(landing.joinpath(*key), status):
            path.unlink()
            remove_folders(held.folder)
        else:
            memory.tell_once("claim refused", *key, reason=str(unfit(status)))
        return None
    if not memory.settled((HELD, *key, held.job_id), status, now=now):
        return None
    descriptor = os.open(path, _FILE)
    opened = os.fstat(descriptor)
    if unfit(opened) is not None or stamp_of(opened) != stamp_of(status):
        os.close(descriptor)
        return None
    return Claim(
        job_id=held.job_id,
        place=held.place,
        parts=parts,
        folder=held.folder,
        descriptor=descriptor,
        lock=held.lock,
        stamp=stamp_of(opened),
    )


def _same_file(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), status)
    except (FileNotFoundError, NotADirectoryError):
        return False
