"""Scratch: a folder goes with its process, and only then."""

import os
import subprocess
import sys
import time
from pathlib import Path

from ingest_platform.storage.scratch import FRESH_SECONDS, ScratchFolder, sweep

HOLDER = """
import sys, time
from pathlib import Path
from ingest_platform.storage.scratch import ScratchFolder
folder = ScratchFolder(Path(sys.argv[1]), "held")
(folder.path / "inner").mkdir()
(folder.path / "inner" / "file").write_bytes(b"x")
print("held", flush=True)
time.sleep(60)
"""


def test_the_folder_of_a_living_process_stays_and_that_of_a_killed_one_goes(tmp_path: Path) -> None:
    later = time.time() + FRESH_SECONDS + 1
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert sweep(tmp_path, now=later) == 0
        assert (tmp_path / "held" / "inner" / "file").exists()
        holder.kill()
    assert sweep(tmp_path, now=later) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_just_being_made_stays(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert sweep(tmp_path) == 0
    os.utime(tmp_path / "new", (0, 0))
    assert sweep(tmp_path) == 1


def test_what_is_no_such_folder_stays(tmp_path: Path) -> None:
    scratch, elsewhere = tmp_path / "scratch", tmp_path / "elsewhere"
    elsewhere.mkdir()
    scratch.mkdir()
    (scratch / "file").write_bytes(b"x")
    (scratch / "link").symlink_to(elsewhere)
    assert sweep(scratch, now=time.time() + 1e6) == 0
    assert elsewhere.is_dir()
    assert sweep(tmp_path / "absent") == 0


def test_closing_deletes_the_folder_once(tmp_path: Path) -> None:
    with ScratchFolder(tmp_path / "run", "mine") as folder:
        (folder.path / "file").write_bytes(b"x")
    folder.close()
    assert list((tmp_path / "run").iterdir()) == []
