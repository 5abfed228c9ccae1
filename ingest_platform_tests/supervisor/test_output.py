"""Output: errors are noticed among the lines of a part, and its log stays within a bound."""

import asyncio
from pathlib import Path

import pytest

from ingest_platform.supervisor import output
from ingest_platform.supervisor.output import RotatedLog, error_of, next_line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"level": "error", "event": "load failed"}', "load failed"),
        ('{"level":"ERROR","message":"boom"}', "boom"),
        ('{"level": "info", "event": "an error was told of"}', None),
        ("Traceback (most recent call last):", None),
        ('{"level": "error", broken', None),
    ],
)
def test_errors_are_told_from_the_other_lines_of_a_log(line: str, message: str | None) -> None:
    assert error_of(line) == message


def test_a_log_stays_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LOG_BYTES_MAX", 1000)
    with RotatedLog(tmp_path / "part.log") as log:
        for number in range(1000):
            log.write(b"line %d\n" % number)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 1020
    assert (tmp_path / "part.log").read_bytes().endswith(b"line 999\n")


def test_an_endless_line_is_read_in_pieces_and_the_last_needs_no_end() -> None:
    async def read() -> list[bytes]:
        reader = asyncio.StreamReader(limit=10)
        reader.feed_data(b"short\n" + b"x" * 25 + b"\nlast")
        reader.feed_eof()
        lines: list[bytes] = []
        while line := await next_line(reader):
            lines.append(line)
        return lines

    lines = asyncio.run(read())
    assert b"".join(lines) == b"short\n" + b"x" * 25 + b"\nlast"
    assert (lines[0], lines[-1]) == (b"short\n", b"last")
