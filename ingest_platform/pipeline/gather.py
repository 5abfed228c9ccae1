"""Gather: claim what waits of one feed as one load, and keep the claim while it is worked."""

import threading
from datetime import date
from types import TracebackType
from typing import Self

import structlog

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import LeaseLost, LedgerFault
from ingest_platform.domain.submission import Load
from ingest_platform.pipeline.platform import Limits
from ingest_platform.storage import jobs
from ingest_platform.storage.ledger import Ledger

log = structlog.get_logger(__name__)


def gather(ledger: Ledger, feed: str, *, limits: Limits, day: date | None, run_id: str | None) -> Load | None:
    """Claim the submissions of a feed that wait, in order of acceptance; None if nothing waits."""
    reach("gather.before_claim")
    with ledger.transaction() as tx:
        load = jobs.claim(
            tx,
            feed=feed,
            day=day,
            bytes_max=limits.load_bytes_max,
            submissions_max=limits.load_submissions_max,
            lease_seconds=limits.lease_seconds,
            attempts_max=limits.attempts_max,
            run_id=run_id,
        )
    if load is not None:
        reach("gather.claimed")
    return load


def gather_exhausted(ledger: Ledger, feed: str, *, limits: Limits) -> Load | None:
    """Claim a submission that ended its worker at every attempt, to be ended itself; None if there is none."""
    with ledger.transaction() as tx:
        return jobs.claim_exhausted(tx, feed=feed, lease_seconds=limits.lease_seconds, attempts_max=limits.attempts_max)


class Lease:
    """Extends the lease of a load from a thread of its own, three times as often as it would run out."""

    def __init__(self, ledger: Ledger, load: Load, *, lease_seconds: float) -> None:
        self._ledger = ledger
        self._load = load
        self._lease_seconds = lease_seconds
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {load.id}", daemon=True)

    def _beat(self) -> None:
        while not self._ended.wait(self._lease_seconds / 3):
            try:
                with self._ledger.connection() as connection:
                    held = jobs.extend(connection, self._load, lease_seconds=self._lease_seconds)
            except LedgerFault as error:
                # The fence decides at the end whether the lease was kept; until then the next beat may get through.
                log.warning("lease not extended", load_id=self._load.id, error=str(error))
                continue
            if not held:
                self._lost.set()
                return

    def check(self) -> None:
        """Raise LeaseLost if another worker has the load, so that no more work is wasted on it."""
        if self._lost.is_set():
            raise LeaseLost(f"{self._load.id}: another worker has taken it over")

    def __enter__(self) -> Self:
        """Begin to extend."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop extending."""
        self._ended.set()
        self._thread.join()
