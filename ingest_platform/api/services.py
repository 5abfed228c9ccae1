"""What handlers work with: the stores, the landing, the limits, and the threads in which blocking work is done."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import structlog

from ingest_platform.api.cursors import SECRET_NAME, Cursors
from ingest_platform.api.metrics import Metrics
from ingest_platform.api.settled import SettledHub
from ingest_platform.domain.errors import Fault
from ingest_platform.domain.feed import Feed
from ingest_platform.pipeline.admit import Admitter
from ingest_platform.pipeline.grouped import ANSWER_SECONDS_MAX, unavailable
from ingest_platform.pipeline.land import DiskReserve, Lander
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import secrets
from ingest_platform.storage.ledger import Transaction

Value = TypeVar("Value")
log = structlog.get_logger()
MIB = 1024 * 1024
# Reads wait for PostgreSQL or the lake, not for a core.
THREADS = 16
# A query of the lake or a check of a large file; beyond it the client has long gone.
WORK_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the HTTP side allows. All are settings of the platform."""

    body_bytes_max: int = 16 * MIB
    upload_bytes_max: int = 128 * MIB
    # A body up to this size lies in its row: one fsync, shared with others. Above it, a file of its own is cheaper. In
    # ms a job, row and file: 256 KiB of JSON alone 2.1 and 12, eight at once 0.9 and 1.6; 512 KiB 5.4 and 11, and 2.0
    # and 1.7. Of bytes that can't be compressed, eight at once: 64 KiB 1.5 and 1.1, 256 KiB 4.9 and 1.9.
    inline_bytes_max: int = 256 * 1024
    disk_free_bytes_min: int = 512 * MIB
    # A client whose body does not come for so long is refused and closed.
    client_idle_seconds_max: float = 30.0
    # Requests a minute by client address; 0 is off.
    address_per_minute: int = 0
    # Addresses of proxies whose X-Forwarded-For is believed.
    trusted_proxies: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class Services:
    """Everything that a handler may use, made once per process."""

    feeds: tuple[Feed, ...]
    platform: Platform
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.ledger = self.platform.ledger
        self.blobs = self.platform.blobs
        self.warehouse = self.platform.warehouse
        self.reserve = DiskReserve(self.platform.data_dir, free_bytes_min=self.limits.disk_free_bytes_min)
        self.admitter = Admitter(self.ledger.database_url)
        self.lander = Lander(self.ledger.database_url, self.reserve)
        self.settled = SettledHub(self.ledger.database_url)
        self.metrics = Metrics()
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="work")

    @cached_property
    def cursors(self) -> Cursors:
        """Sign cursors with the secret of all API processes."""
        known: list[bytes] = []

        def secret() -> bytes:
            if not known:
                with self.ledger.transaction() as tx:
                    known.append(secrets.get_or_create(tx, SECRET_NAME))
            return known[0]

        return Cursors(secret)

    async def run(self, work: Callable[[], Value], *, seconds_max: float = WORK_SECONDS_MAX) -> Value:
        """Do blocking work in another thread; raise Unavailable if it takes too long."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            async with asyncio.timeout(seconds_max):
                return await future
        except TimeoutError:
            raise unavailable("The answer took too long; try again.") from None
        except (Fault, OSError) as fault:
            # Also a disk that is full or away, wherever on it something was to be written.
            log.warning("store away", reason=str(fault))
            raise unavailable() from fault

    async def read(self, work: Callable[[Transaction], Value]) -> Value:
        """Read the ledger in another thread; raise Unavailable when PostgreSQL does not answer in time."""
        return await self.run(lambda: self._with_connection(work), seconds_max=ANSWER_SECONDS_MAX)

    async def write(self, work: Callable[[Transaction], Value]) -> Value:
        """Write to the ledger in another thread, in one transaction."""
        return await self.run(lambda: self._in_transaction(work), seconds_max=ANSWER_SECONDS_MAX)

    def _with_connection(self, work: Callable[[Transaction], Value]) -> Value:
        with self.ledger.connection() as connection:
            return work(connection)

    def _in_transaction(self, work: Callable[[Transaction], Value]) -> Value:
        with self.ledger.transaction() as tx:
            return work(tx)

    def close(self) -> None:
        """Let threads and connections go, without waiting for any that is stuck."""
        self.settled.stop()
        self.admitter.close()
        self.lander.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
