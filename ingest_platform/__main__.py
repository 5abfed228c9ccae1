"""The entry of the program: `ingest` and `python -m ingest_platform`. The commands are in `cli/`."""

import sys

from ingest_platform.cli import run


def main() -> None:
    """Run a command and exit with its code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
