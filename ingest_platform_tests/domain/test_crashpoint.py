"""Crash points, in processes of their own: nothing happens unless one is armed; one that is ends or stops it."""

import os
import signal
import subprocess
import sys

import pytest

PASSING = """
import sys
from ingest_platform.domain import crashpoint
if len(sys.argv) > 1:
    crashpoint.arm(sys.argv[1])
for place in ("gather", "settle", "settle", "settle"):
    crashpoint.reach(place)
    print(place, flush=True)
"""


def _pass(*spec: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PASSING, *spec], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("spec", [(), ("elsewhere",), ("settle:9",)])
def test_nothing_happens_at_a_point_that_is_not_armed(spec: tuple[str, ...]) -> None:
    ended = _pass(*spec)
    assert (ended.returncode, ended.stdout.split()) == (0, ["gather", "settle", "settle", "settle"])


@pytest.mark.parametrize(("spec", "passed"), [("gather", 0), ("settle", 1), ("settle:1", 1), ("settle:3", 3)])
def test_an_armed_point_kills_the_process_the_nth_time_it_is_reached(spec: str, passed: int) -> None:
    ended = _pass(spec)
    assert ended.returncode == -signal.SIGKILL
    assert len(ended.stdout.split()) == passed


def test_a_pause_stops_the_process_which_goes_on_when_told() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PASSING, "pause:settle:2"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read().split() == ["gather", "settle", "settle", "settle"]
        assert process.wait(timeout=30) == 0
