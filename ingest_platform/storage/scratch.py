"""Folders of one process's own, for what need not outlive it; whoever comes later deletes those of processes that died.

Whether a folder's process lives is known by a lock on the folder, which the kernel lets go with the process.
"""

import fcntl
import os
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Self

# Between making a folder and locking it lies a moment.
FRESH_SECONDS = 60.0


class ScratchFolder:
    """A folder that is there from its making until `close`, or until somebody sweeps after the process's death."""

    def __init__(self, parent: Path, name: str) -> None:
        self.path = parent / name
        self.path.mkdir(parents=True)
        self._lock: int | None = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Delete the folder with all that is in it; harmless when repeated."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete it."""
        self.close()


def sweep(parent: Path, *, now: float | None = None) -> int:
    """Delete the scratch folders below a folder whose processes are gone; returns how many."""
    fresh = (time.time() if now is None else now) - FRESH_SECONDS
    swept = 0
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            # Its process has just deleted it; or it is none of these folders.
            continue
        try:
            if os.fstat(folder).st_mtime < fresh and _is_nobodys(folder):
                shutil.rmtree(path, ignore_errors=True)
                swept += 1
        finally:
            os.close(folder)
    return swept


def _is_nobodys(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
