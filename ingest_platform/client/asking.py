"""How something is asked for until there is an answer: requests and pauses, as steps that a driver takes.

Steps are generators. They yield what is to be done and are sent what came of it, so that one description serves the
client that waits for each (`sync.py`) and the one that awaits it (`asynchronous.py`). Neither is known here.
"""

import random
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import httpx

from ingest_platform.client.errors import Unreachable, error_of

T = TypeVar("T")
KEY = "Idempotency-Key"
_AGAIN = frozenset({429, 500, 502, 503, 504})
_IN_FLIGHT = 409
_ERRORS_FROM = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often something is asked for, and how long is waited between.

    Pauses are drawn from zero to a bound that doubles with each attempt, so that clients that failed together do not
    come back together. What `Retry-After` says is waited besides, unless it is more than `retry_after_seconds_max`.
    """

    attempts_max: int = 6
    pause_seconds: float = 0.5
    pause_seconds_max: float = 30.0
    retry_after_seconds_max: float = 60.0

    def pause(self, attempt: int) -> float:
        """Draw the pause after the attempt with this number, counted from 0."""
        return random.uniform(0.0, min(self.pause_seconds_max, self.pause_seconds * 2**attempt))  # noqa: S311 - no secret.


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file to be sent as the one part of a form; `see` is told how many bytes more have been read of it."""

    path: Path
    see: Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, the same however often it is sent; `seconds` is for the answer, beyond the client's usual time."""

    method: str
    path: str
    token: str
    content: bytes | None = None
    upload: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0

    def all_headers(self) -> dict[str, str]:
        """Give the headers with the token."""
        return {"Authorization": f"Bearer {self.token}", **self.headers}


@dataclass(frozen=True, slots=True)
class Pause:
    """A time to wait."""

    seconds: float


Answer: TypeAlias = httpx.Response | httpx.TransportError | None
Steps: TypeAlias = Generator[Request | Pause, Answer, T]


def new_key() -> str:
    """Make an idempotency key."""
    return f"client-{uuid.uuid4().hex}"


def ask(request: Request, patience: Patience) -> Steps[httpx.Response]:
    """Send a request until it is answered for good. Raises Unreachable or an ApiError.

    A POST must carry its idempotency key, so that the second time is not another request.
    """
    for attempt in range(patience.attempts_max):
        answer = yield request
        last = attempt + 1 == patience.attempts_max
        if isinstance(answer, httpx.Response):
            seconds = None if last else _seconds_until_again(answer, patience, attempt)
            if seconds is None:
                if answer.status_code >= _ERRORS_FROM:
                    raise error_of(answer)
                return answer
        else:
            if last:
                raise Unreachable(f"{request.method} {request.path}: {answer!r}") from answer
            seconds = patience.pause(attempt)
        yield Pause(seconds)
    raise AssertionError("at least one attempt is made")


def _seconds_until_again(answer: httpx.Response, patience: Patience, attempt: int) -> float | None:
    """Tell how long to wait before another attempt; None if the answer stands."""
    # A first attempt that was given up may still be at work when the second one comes.
    in_flight = answer.status_code == _IN_FLIGHT and attempt > 0
    if answer.status_code not in _AGAIN and not in_flight:
        return None
    try:
        told = float(answer.headers.get("Retry-After", 0))
    except ValueError:
        # A date, which no route of the platform sends but a proxy may.
        told = 0.0
    if told > patience.retry_after_seconds_max:
        return None
    return max(0.0, told) + patience.pause(attempt)


def deadline(seconds: float) -> Callable[[], float]:
    """Make a function that tells how many seconds are left; never fewer than none."""
    until = time.monotonic() + seconds
    return lambda: max(0.0, until - time.monotonic())
