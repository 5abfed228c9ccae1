"""Steps on the file system that survive a power loss."""

import errno
import os
from pathlib import Path

import pytest

from ingest_platform.storage.durable import is_full, make_folder, sync_folder


@pytest.mark.parametrize(
    ("number", "full"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EFBIG, True), (errno.EACCES, False), (errno.EIO, False)],
)
def test_no_room_is_told_from_other_errors(number: int, *, full: bool) -> None:
    assert is_full(OSError(number, os.strerror(number))) is full


def test_a_folder_is_made_with_the_ones_above_it_and_may_be_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("ingest_platform.storage.durable.sync_folder", synced.append)
    folder = tmp_path / "a" / "b" / "c"
    for _ in range(2):
        make_folder(folder, mode=0o700)
        assert folder.stat().st_mode & 0o777 == 0o700
    # Each new name was made durable in the folder that holds it, once.
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_only_a_folder_can_be_synced(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    file = tmp_path / "file"
    file.touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotADirectoryError):
        sync_folder(file)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
