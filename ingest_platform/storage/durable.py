"""Steps on the local file system that survive a power loss. What is written, and where, is not known here."""

import errno
import os
from pathlib import Path

# Without space, without quota, or beyond the largest file of this file system: nothing was taken, try again later.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Tell whether a step failed because there is no room for more bytes."""
    return error.errno in _FULL


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename or a new file is lost with the power before that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, *, mode: int = 0o755) -> None:
    """Make a folder and the ones above it that are missing, durably."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=mode, exist_ok=True)
        sync_folder(each.parent)
