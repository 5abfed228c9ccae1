"""What a part says: its lines, the file that keeps them within a bound, and the errors among them."""

import asyncio
import json
import re
from pathlib import Path
from typing import Self

LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_LINE_BYTES_MAX = 64 * 1024


def error_of(line: str) -> str | None:
    """Read the message of a line of the log if it tells of an error.

    >>> error_of('{"level": "error", "event": "load failed"}')
    'load failed'
    >>> error_of('{"level": "info", "event": "load settled"}')
    """
    if not line.startswith("{") or re.search(r'"level(name)?": ?"(error|critical)"', line, re.IGNORECASE) is None:
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return str(event.get("event") or event.get("message") or event.get("msg") or "error")[:500]


class RotatedLog:
    """A log file that keeps one predecessor, so that both together stay within twice its bound."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size

    def write(self, line: bytes) -> None:
        """Append a line."""
        if self._size > LOG_BYTES_MAX:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file, self._size = self._path.open("ab", buffering=0), 0
        try:
            self._size += self._file.write(line)
        except OSError:
            # A full disk must not end the supervisor; what is lost is lines of the log.
            return

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._file.close()


async def next_line(reader: asyncio.StreamReader) -> bytes:
    """Read a line, or as much of an endless one as may be kept; empty at the end."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await reader.readexactly(error.consumed)
