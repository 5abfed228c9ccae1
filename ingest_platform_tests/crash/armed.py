"""Become `ingest <command>` with three things more: points can be armed while it runs, a defect planted, fsyncs noted.

    python -m ingest_platform_tests.crash.armed <mutant or -> <file of fsyncs> <command> …

Points to arm come as lines on standard input, which is a socket: each is answered by a line. When the other end of it
is gone, so is this process.
"""

import os
import runpy
import sys
import threading
from pathlib import Path

from ingest_platform.domain import crashpoint
from ingest_platform_tests.crash.mutants import MUTANTS


def note_fsyncs(notes: Path) -> None:
    """Write down what was made durable: a file by inode and size, a folder with the names in it."""
    fsync = os.fsync
    log = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        status, path = os.fstat(descriptor), Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            lines = [f"name {path / name}" for name in os.listdir(path)]  # noqa: PTH208 - names only
        else:
            lines = [f"file {status.st_ino} {status.st_size}"]
        os.write(log, "".join(f"{line}\n" for line in lines).encode())

    os.fsync = noted


def _listen() -> None:
    for line in sys.stdin.buffer:
        crashpoint.arm(line.decode().strip())
        os.write(0, b"armed\n")
    os._exit(1)


def main() -> None:
    """Become the command."""
    mutant, notes, *command = sys.argv[1:]
    note_fsyncs(Path(notes))
    if mutant != "-":
        MUTANTS[mutant]()
    threading.Thread(target=_listen, name="arming", daemon=True).start()
    sys.argv = ["ingest", *command]
    runpy.run_module("ingest_platform", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
