"""How a process asks a warm worker on the same machine: one JSON line each way over a unix socket in `<data>/run/`.

What the questions mean is the launcher's and the worker's.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

# A worker answers before it does anything; one that does not within this time is as good as absent.
ANSWER_SECONDS_MAX = 3.0
LINE_BYTES_MAX = 64 * 1024
QUEUED_MAX = 64
# The longest path that a socket may be bound to is 108 bytes with its terminator (104 on macOS).
PATH_BYTES_MAX = 100

Message = dict[str, str]


@contextmanager
def _address(path: Path) -> Generator[str]:
    """Give a name that fits into a socket address: through the open folder where the path itself is too long."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def sockets(run_dir: Path) -> list[Path]:
    """List the sockets of this machine's workers, alive or not."""
    return sorted(run_dir.glob("worker-*.sock"))


def ask(path: Path, message: Message) -> Message:
    """Ask one worker and wait for its answer; raises OSError when nobody answers in time."""
    with socket.socket(socket.AF_UNIX) as connection, _address(path) as address:
        connection.settimeout(ANSWER_SECONDS_MAX)
        connection.connect(address)
        connection.sendall(json.dumps(message).encode() + b"\n")
        return _read(connection)


def _read(connection: socket.socket) -> Message:
    with connection.makefile("rb") as stream:
        line = stream.readline(LINE_BYTES_MAX)
    if not line.endswith(b"\n"):
        raise ConnectionError("the other side hung up")
    return {str(name): str(value) for name, value in json.loads(line).items()}


class Switchboard:
    """The worker's side: answers each question on a thread of its own by calling `answer`, which must be quick."""

    def __init__(self, run_dir: Path, answer: Callable[[Message], Message]) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / f"worker-{os.getpid()}.sock"
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        self.path.unlink(missing_ok=True)
        with _address(self.path) as address:
            self._socket.bind(address)
        # Whoever can ask can start runs.
        self.path.chmod(0o600)
        self._socket.listen(QUEUED_MAX)
        self._thread = threading.Thread(target=self._serve, name="switchboard", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering; who asks from now on finds nobody."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            # Closing alone does not wake a thread that waits in accept().
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError, ValueError):
                connection.settimeout(ANSWER_SECONDS_MAX)
                connection.sendall(json.dumps(self._answer(_read(connection))).encode() + b"\n")
