"""A process that loads a module at once, and runs it when a socket accepts: what takes long is done while it waits.

`python -m ingest_platform.supervisor.patient SOCKET LOADED MODULE ARGUMENT…` is `python -m MODULE ARGUMENT…`, later.
"""

import importlib
import runpy
import socket
import sys
import time

LOOK_SECONDS = 0.05


def main() -> None:
    """Load, wait, and become the module."""
    path, loaded, module, *arguments = sys.argv[1:]
    importlib.import_module(loaded)
    while not accepts(path):
        time.sleep(LOOK_SECONDS)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def accepts(path: str) -> bool:
    """Tell whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main()
