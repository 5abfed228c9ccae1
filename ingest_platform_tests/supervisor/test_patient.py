"""Patient: a module is loaded at once and runs when the socket accepts, no sooner."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SECONDS_MAX = 20.0
SLOW = "from pathlib import Path\nimport sys\nPath(sys.argv[-1], 'loaded').touch()\n"
PROGRAM = (
    "import sys\nfrom pathlib import Path\nPath(sys.argv[-1], 'ran').write_text(' '.join([__name__, *sys.argv]))\n"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ingest-", dir="/tmp") as made:
        yield Path(made)


def _awaited(path: Path) -> bool:
    until = time.monotonic() + SECONDS_MAX
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    return path.exists()


def test_a_module_is_loaded_before_the_socket_accepts_and_runs_after(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "ingest_platform.supervisor.patient", str(folder / "code.sock"), "slow", "program"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    with (
        subprocess.Popen([*command, "--flag", str(folder)], env=environment) as process,
        socket.socket(socket.AF_UNIX) as server,
    ):
        assert _awaited(folder / "loaded")
        # A socket that nobody listens on is not one yet.
        server.bind(str(folder / "code.sock"))
        time.sleep(0.2)
        assert not (folder / "ran").exists()
        server.listen()
        assert process.wait(timeout=SECONDS_MAX) == 0
    assert (folder / "ran").read_text().split() == ["__main__", str(folder / "program.py"), "--flag", str(folder)]
