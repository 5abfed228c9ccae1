"""What was reserved for a request stays reserved for as long as it is worked on.

What it is, and for how long one extension lasts, is not known here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType

from ingest_platform.domain.errors import Fault, Unavailable


class Held:
    """Extends a reservation again and again through a with block, however slowly a body comes or is looked at.

    Nothing but a timer unless the block takes longer than one interval. A killed process extends nothing, so that a
    retry may take its place as soon as the reservation has run out.
    """

    def __init__(self, extend: Callable[[], Awaitable[object]], *, every_seconds: float) -> None:
        self._extend = extend
        self._every_seconds = every_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._extending: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        """Begin to wait."""
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_seconds, self._begin)

    def _begin(self) -> None:
        self._extending = asyncio.create_task(self._extend_once())

    async def _extend_once(self) -> None:
        # If PostgreSQL is away for a moment, the next turn may still come in time; if not, the landing finds out.
        with suppress(Fault, Unavailable):
            await self._extend()
        self._wait()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Extend no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._extending is not None:
            self._extending.cancel()
