"""Named points of the path at which a test can stop this process: killed with -9, or paused past its lease.

Nothing happens unless a point was armed at start (`INGEST_CRASHPOINT`, read in `settings.py`); `make crash` uses it.
"""

import os
import signal
from dataclasses import dataclass


@dataclass(slots=True)
class _Armed:
    name: str
    remaining: int
    signal: signal.Signals


_armed: _Armed | None = None


def arm(spec: str) -> None:
    """Arm one point: `name`, `name:3` (the third time it is reached), `pause:name:3` (stopped instead of killed)."""
    global _armed  # noqa: PLW0603 - one process has one armed point, set once at start.
    kind = signal.SIGSTOP if spec.startswith("pause:") else signal.SIGKILL
    name, _, nth = spec.removeprefix("pause:").partition(":")
    _armed = _Armed(name=name, remaining=int(nth or 1), signal=kind)


def reach(name: str) -> None:
    """Pass a named point; costs one comparison when nothing is armed."""
    if _armed is None or _armed.name != name:
        return
    _armed.remaining -= 1
    if _armed.remaining == 0:
        os.kill(os.getpid(), _armed.signal)
