"""Waiting for a job to end: one listening connection per process wakes whoever waits for the job it names."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import psycopg

from ingest_platform.domain.errors import LedgerFault
from ingest_platform.domain.job import Job
from ingest_platform.storage.jobs import SETTLED
from ingest_platform.storage.ledger import connect

# Notifications can be missed (the listener reconnects); looking is the truth, hearing is only quicker.
LOOK_SECONDS = 0.5
_LISTEN_SECONDS = 0.5
_RECONNECT_SECONDS = 1.0


class SettledHub:
    """Wakes waiters of jobs. The listener starts with the first of them."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._stopping = threading.Event()
        self._listener: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def stopping(self) -> bool:
        """Whether waiters are to be let go, because the process ends."""
        return self._stopping.is_set()

    async def wait(self, job_id: str, *, seconds: float, look: Callable[[], Awaitable[Job | None]]) -> Job | None:
        """Look at a job until it has ended or the time is over; None if there is no such job."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self.listening(job_id) as heard:
            while True:
                job = await look()
                remaining = deadline - loop.time()
                if job is None or job.state.terminal or remaining <= 0 or self.stopping:
                    return job
                await self.hear(heard, seconds=min(LOOK_SECONDS, remaining))

    @contextmanager
    def listening(self, job_id: str) -> Generator[asyncio.Event]:
        """Give an event that is set whenever a job is named, or the process ends."""
        self._listen()
        heard = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(heard)
        try:
            yield heard
        finally:
            self._forget(job_id, heard)

    @staticmethod
    async def hear(heard: asyncio.Event, *, seconds: float) -> None:
        """Wait for such an event, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await heard.wait()
        except TimeoutError:
            return
        heard.clear()

    def _forget(self, job_id: str, heard: asyncio.Event) -> None:
        waiting = self._waiting[job_id]
        waiting.discard(heard)
        if not waiting:
            del self._waiting[job_id]

    def _listen(self) -> None:
        if self._listener is None:
            self._loop = asyncio.get_running_loop()
            self._listener = threading.Thread(target=self._hear_all, name="settled", daemon=True)
            self._listener.start()

    def _hear_all(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hear_until_broken()
            except (psycopg.Error, LedgerFault):
                self._stopping.wait(_RECONNECT_SECONDS)

    def _hear_until_broken(self) -> None:
        with connect(self._database_url, application="ingest-settled") as connection:
            connection.execute(f"LISTEN {SETTLED}")
            while not self._stopping.is_set():
                for notice in connection.notifies(timeout=_LISTEN_SECONDS):
                    self._call(notice.payload)

    def _call(self, job_id: str) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake, job_id)

    def _wake(self, job_id: str) -> None:
        for heard in self._waiting.get(job_id, ()):
            heard.set()

    def stop(self) -> None:
        """Let all waiters go with what is known; the process ends."""
        self._stopping.set()
        for waiting in list(self._waiting.values()):
            for heard in waiting:
                heard.set()
