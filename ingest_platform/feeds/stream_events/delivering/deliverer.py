"""Deliver what was consigned, in threads: claimed, sent, again later, until it is delivered or dead.

Each destination has threads of its own, a few at most, so that one that is slow or away delays no other, and no load.
What is kept is decided in `deliveries.py`, how one delivery is sent in `sending.py`.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager

import psycopg
import structlog

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import Fault
from ingest_platform.feeds.stream_events.delivering import deliveries, health
from ingest_platform.feeds.stream_events.delivering.deliveries import Claimed, Nothing
from ingest_platform.feeds.stream_events.delivering.health import To
from ingest_platform.feeds.stream_events.delivering.opening import (
    CannotOpen,
    OpenDestinations,
    Opening,
    find_entry,
    opening,
)
from ingest_platform.feeds.stream_events.delivering.retrying import Patience
from ingest_platform.feeds.stream_events.delivering.sending import Sender
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.ledger import Ledger

log = structlog.get_logger(__name__)

# Whoever has not told of its life for so long is gone, and its deliveries are taken over.
LEASE_SECONDS = 15.0
# An attempt takes 30 s at most by the destinations' own rule. What takes longer hangs, and somebody else tries.
SENDING_SECONDS_MAX = 300.0
# A repetition is sent at most so long after it is due, and so is what nobody was notified of.
POLL_SECONDS = 0.5
IDLE_POLL_SECONDS = 0.05
# Deliveries of one process that are under way. Beyond a half of them a destination gets its first place only, so that
# those that are slow leave room for all the others.
PLACES_MAX = 64
# Of its own, so that threads that wait for one delay no load.
CONNECTIONS_MAX = 6
# What is under way when the process ends; what takes longer is taken over by somebody else.
GRACE_SECONDS = 5.0
# A destination for which nothing could be done is not looked at for so long; it may be declared anew at any time.
QUIET_SECONDS_MAX = 1.0
# One that nobody has sent to for so long is closed.
UNUSED_SECONDS = 30.0


class Deliverer:
    """Delivers while `run` runs; once."""

    def __init__(
        self,
        platform: Platform,
        *,
        open_entry: Opening | None = None,
        patience: Patience | None = None,
        lease_seconds: float = LEASE_SECONDS,
        places_max: int = PLACES_MAX,
    ) -> None:
        self._ledger = Ledger(
            platform.ledger.database_url, application="ingest-streams", connections_max=CONNECTIONS_MAX
        )
        self._opened = OpenDestinations(open_entry or opening(platform))
        self._sender = Sender(platform.warehouse, patience or Patience())
        self._lease_seconds = lease_seconds
        self._places_max = places_max
        self._lock = threading.Lock()
        self._threads: dict[To, frozenset[threading.Thread]] = {}
        self._at_once: dict[To, int] = {}
        # By this process's clock.
        self._quiet_until: dict[To, float] = {}
        self._used_at: dict[To, float] = {}
        # Attempts that are ours (the delivery and the number of each), and when they were begun.
        self._sending: dict[tuple[str, int], float] = {}
        self._ending = threading.Event()
        self._broken: BaseException | None = None
        # Events, by what became of them.
        self.done: Counter[str] = Counter()

    def run(
        self, *, stop: Callable[[], bool], wait: Callable[[float], object] = time.sleep, until_idle: bool = False
    ) -> None:
        """Deliver until told to stop, or until nothing is due.

        Raises LedgerFault when PostgreSQL is away, and whatever a thread met that it did not expect.
        """
        beating = threading.Thread(target=self._beat, name="streams beat", daemon=True)
        beating.start()
        try:
            while not stop() and self._broken is None:
                if not self._look() and until_idle and not self._busy:
                    break
                wait(IDLE_POLL_SECONDS if until_idle else POLL_SECONDS)
        finally:
            self._end()
            beating.join()
            self._ledger.close()
        if self._broken is not None:
            raise self._broken

    def _look(self) -> bool:
        """Begin what is due; tell whether anything is."""
        now = time.monotonic()
        with self._ledger.connection() as tx:
            due = [to for to in deliveries.due(tx) if self._quiet_until.get(to, now) <= now]
        for to in due:
            self._used_at[to] = now
            self._begin(to)
        self._opened.close_unused(lambda to: self._used_at.get(to, now) > now - UNUSED_SECONDS)
        return bool(due)

    @property
    def _busy(self) -> int:
        with self._lock:
            return sum(map(len, self._threads.values()))

    def _begin(self, to: To) -> None:
        """Give a destination one more thread, if it takes more at once and there is a place for it."""
        with self._lock:
            own, busy = self._threads.get(to, frozenset()), sum(map(len, self._threads.values()))
            if len(own) >= self._at_once.get(to, 1) or busy >= (self._places_max // 2 if own else self._places_max):
                return
            thread = threading.Thread(target=self._serve, args=(to,), name=f"deliver {to.destination}", daemon=True)
            self._threads[to] = own | {thread}
        thread.start()

    def _serve(self, to: To) -> None:
        """Deliver to one destination until nothing can be sent to it."""
        again_seconds: float | None = None
        try:
            while again_seconds is None and not self._ending.is_set():
                again_seconds = self._deliver_next(to)
        except (Fault, psycopg.Error) as fault:
            # What was claimed is taken over when its lease has run out; nothing of it is lost. If it is what the ledger
            # can't keep, it is given up after some times, as one that ends whoever sends it.
            again_seconds = QUIET_SECONDS_MAX
            log.error(  # noqa: TRY400 - what PostgreSQL says may quote values
                "delivery interrupted",
                destination=to.destination,
                workspace=to.workspace,
                reason=str(fault) if isinstance(fault, Fault) else type(fault).__name__,
            )
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            # With a thread less we would look alive and deliver half of it.
            self._broken = error
        finally:
            with self._lock:
                self._quiet_until[to] = time.monotonic() + min(again_seconds or 0.0, QUIET_SECONDS_MAX)
                self._threads[to] -= {threading.current_thread()}

    def _deliver_next(self, to: To) -> float | None:
        """Send one delivery; after how many seconds to look again, if there is none."""
        with self._ledger.connection() as tx:
            entry = find_entry(tx, to)
        try:
            with self._opened.using(entry) as destination:
                rule = destination.batch
                self._at_once[to] = rule.at_once
                with self._ledger.transaction() as tx:
                    claimed = deliveries.claim(
                        tx, to, rule=rule, declared=entry.declared, lease_seconds=self._lease_seconds
                    )
                if isinstance(claimed, Nothing):
                    return claimed.again_seconds
                reach("deliver.claimed")
                with self._kept(claimed):
                    done = self._sender.deliver(self._ledger, claimed, entry, destination)
        except CannotOpen as error:
            with self._ledger.transaction() as tx:
                health.block(tx, to, declared=entry.declared, reason=str(error))
            return QUIET_SECONDS_MAX
        with self._lock:
            self.done += done
        return None

    @contextmanager
    def _kept(self, claimed: Claimed) -> Generator[None]:
        """Keep the lease of a delivery as long as it is sent."""
        with self._lock:
            self._sending[claimed.id, claimed.attempt] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._sending[claimed.id, claimed.attempt]

    def _beat(self) -> None:
        """Keep the leases of what is being sent."""
        while not self._ending.wait(self._lease_seconds / 5):
            long_ago = time.monotonic() - SENDING_SECONDS_MAX
            with self._lock:
                ours = [attempt for attempt, begun in self._sending.items() if begun > long_ago]
            try:
                if ours:
                    with self._ledger.connection() as tx:
                        deliveries.extend(tx, ours, lease_seconds=self._lease_seconds)
            except Fault as fault:
                log.warning("leases not kept", reason=str(fault))

    def _end(self) -> None:
        """Let what is under way come to its end, for a while."""
        self._ending.set()
        deadline = time.monotonic() + GRACE_SECONDS
        with self._lock:
            threads = [thread for own in self._threads.values() for thread in own]
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        self._opened.close_unused()


def deliver(platform: Platform, stop: Callable[[], bool], wait: Callable[[float], object]) -> None:
    """Deliver as long as a worker lives (`FeedService.run`)."""
    Deliverer(platform, lease_seconds=platform.limits.lease_seconds).run(stop=stop, wait=wait)


def deliver_due(platform: Platform, *, seconds_max: float) -> Counter[str]:
    """Deliver what is due now, for so long at most: events by what became of them."""
    deliverer = Deliverer(platform, lease_seconds=platform.limits.lease_seconds)
    deadline = time.monotonic() + seconds_max
    deliverer.run(stop=lambda: time.monotonic() >= deadline, until_idle=True)
    return deliverer.done
