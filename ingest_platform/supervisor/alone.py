"""Only one `ingest up` a data directory: its lock, its ports, and the end of what a killed predecessor left behind."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil

from ingest_platform.domain.errors import Fault
from ingest_platform.settings import Settings

# A socket's path may have about 100 bytes.
SOCKET_FOLDER_BYTES_MAX = 80


class NotStarted(Fault):
    """`ingest up` can't start, or could not bring all parts up; the message says what to do."""


class UpLock:
    """The lock that only one `ingest up` of a data directory has; it goes with the process, however that ends."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "run" / "up.lock"
        self._file: int | None = None

    def take(self, *, said: str) -> None:
        """Take it; raises NotStarted with what the other one said of itself."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(file, 1000, 0).decode(errors="replace").strip()
            os.close(file)
            raise NotStarted(
                f"`ingest up` already runs on {self._path.parent.parent} ({other}). "
                "Use that one, end it first, or give this one a folder of its own with --data-dir."
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, said.encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def check_ports(settings: Settings) -> None:
    """Make sure that the ports are free. Raises NotStarted, naming the flag."""
    wanted = [(settings.api_port, "--api-port", "INGEST_API_PORT")]
    if settings.ui:
        wanted.append((settings.ui_port, "--ui-port", "INGEST_UI_PORT"))
    if len({port for port, _, _ in wanted}) < len(wanted):
        raise NotStarted(f"--api-port and --ui-port are both {settings.api_port}; give one of them another port.")
    for port, flag, variable in wanted:
        problem = port_problem(settings.api_host, port)
        if problem:
            raise NotStarted(f"Port {port} of {settings.api_host} {problem}: choose another with {flag} or {variable}.")


def port_problem(host: str, port: int) -> str | None:
    """Say why a port can't be listened on; None if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers do: connections of an earlier one that linger are no reason.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
    return None


def note_processes(path: Path, pids: Iterable[int]) -> None:
    """Note the processes that we started, for a successor where the kernel does not end them with us."""
    born: dict[int, float] = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            born[pid] = psutil.Process(pid).create_time()
    write_whole(path, json.dumps(list(born.items())))


def end_left_over(path: Path) -> None:
    """Kill what a predecessor that was killed left behind: exactly the processes that it noted."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for pid, born in noted:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.create_time() == born:
                process.kill()
                process.wait(timeout=5)


def make_socket_folder(run_dir: Path) -> Path:
    """Make the folder of the code server's socket: open to nobody else, and with a path that a socket can have."""
    own = run_dir / "sockets"
    if len(os.fsencode(own)) > SOCKET_FOLDER_BYTES_MAX:
        return Path(tempfile.mkdtemp(prefix="ingest-", dir="/tmp"))
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(mode=0o700)
    return own


def write_whole(path: Path, text: str) -> None:
    """Write a file such that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
