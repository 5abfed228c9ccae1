"""Alone: ports that are taken, a lock that another one has, and what a predecessor left behind."""

import json
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from ingest_platform.settings import Settings, load_settings
from ingest_platform.supervisor.alone import (
    NotStarted,
    UpLock,
    check_ports,
    end_left_over,
    make_socket_folder,
    note_processes,
)


def test_a_port_that_is_taken_is_named_with_its_flag(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = load_settings(data_dir=tmp_path, api_port=taken.getsockname()[1], ui=False)
        with pytest.raises(NotStarted, match=r"is in use: choose another with --api-port"):
            check_ports(settings)


def test_the_two_ports_must_differ(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="both 8000"):
        check_ports(Settings(data_dir=tmp_path, api_port=8000, ui_port=8000))


def test_only_one_has_the_lock_and_it_says_who(tmp_path: Path) -> None:
    first, second = UpLock(tmp_path), UpLock(tmp_path)
    first.take(said="process 7")
    with pytest.raises(NotStarted, match="process 7"):
        second.take(said="process 8")
    first.release()
    second.take(said="process 8")
    second.release()


def test_exactly_the_noted_processes_of_a_predecessor_are_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command) as ours, subprocess.Popen(command) as other:
        noted = tmp_path / "parts.json"
        note_processes(noted, [ours.pid])
        # A process that has the id of one that was noted, and is another one.
        entries = [*json.loads(noted.read_text()), [other.pid, psutil.Process(other.pid).create_time() - 100.0]]
        noted.write_text(json.dumps(entries))
        end_left_over(noted)
        assert not psutil.pid_exists(ours.pid)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("text", [None, "", "no JSON"])
def test_without_a_note_nobody_is_ended(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "parts.json").write_text(text)
    end_left_over(tmp_path / "parts.json")


def test_the_socket_folder_is_ours_alone_and_short_enough(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    near = Path(tempfile.mkdtemp(dir="/tmp"))
    for run_dir in (near, deep):
        folder = make_socket_folder(run_dir)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "code.sock"))
        (folder / "code.sock").unlink()
        folder.rmdir()
        assert (folder.parent == run_dir) == (run_dir == near)
    near.rmdir()
