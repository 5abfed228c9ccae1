"""One claimed delivery, from its events in the lake to an outcome that is kept. In which thread is not known here."""

import threading
import time
import traceback
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice

import structlog

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import WarehouseFault
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.stream_events.delivering import deliveries, health
from ingest_platform.feeds.stream_events.delivering.deliveries import Claimed, Ending
from ingest_platform.feeds.stream_events.delivering.health import To
from ingest_platform.feeds.stream_events.delivering.items import Placed, cut, read_items, read_pieces
from ingest_platform.feeds.stream_events.delivering.opening import Entry
from ingest_platform.feeds.stream_events.delivering.retrying import Attempt, Patience, ending_of, given_up
from ingest_platform.feeds.stream_events.destinations.destination import (
    MIB,
    Batch,
    DeliveryFailed,
    Destination,
    Transient,
)
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.warehouse import Warehouse

log = structlog.get_logger(__name__)

# Batches that are read at once, as the engine has two threads and the loads want them too.
READ_AT_ONCE = 2
# Of the documents that all deliveries of one process have in memory. A destination's first delivery is never kept
# waiting for those of others, which may be slow.
BYTES_MAX = 256 * MIB
# Of documents that were read together and are sent one piece after the other.
SHELF_BYTES_MAX = 64 * MIB
# After a fault of the lake, times the attempts.
FAULT_SECONDS, FAULT_SECONDS_MAX = 2.0, 60.0


class Room:
    """Memory for the documents of deliveries."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._taken: Counter[To] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, to: To, size: int) -> Generator[None]:
        """Take room for a delivery to a destination; wait for it, unless the destination has none yet."""
        # One that is empty takes a place all the same.
        size = max(1, size)
        with self._changed:
            self._changed.wait_for(lambda: not self._taken[to] or self._taken.total() + size <= self._bytes_max)
            self._taken[to] += size
        try:
            yield
        finally:
            with self._changed:
                self._taken[to] -= size
                self._changed.notify_all()


class Shelf:
    """Events that were read with others, until their own delivery is sent: to ask the lake takes 30 ms of a core.

    What does not fit is read again.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._held: dict[str, tuple[list[Placed], int]] = {}
        self._size = 0

    def put(self, delivery_id: str, items: list[Placed], *, size: int) -> None:
        """Hold the events of a delivery, instead of those that were put there first if need be."""
        with self._lock:
            self._held[delivery_id] = (items, size)
            self._size += size
            while self._size > self._bytes_max:
                self._drop(next(iter(self._held)))

    def take(self, delivery_id: str) -> list[Placed] | None:
        """Take the events of a delivery away; None if they are not there."""
        with self._lock:
            return self._drop(delivery_id) if delivery_id in self._held else None

    def _drop(self, delivery_id: str) -> list[Placed]:
        items, size = self._held.pop(delivery_id)
        self._size -= size
        return items


class Sender:
    """Sends what was claimed. For any threads at once."""

    def __init__(self, warehouse: Warehouse, patience: Patience) -> None:
        self._warehouse = warehouse
        self._patience = patience
        self._reading = threading.Semaphore(READ_AT_ONCE)
        self._room = Room(BYTES_MAX)
        self._shelf = Shelf(SHELF_BYTES_MAX)

    def deliver(self, ledger: Ledger, claimed: Claimed, entry: Entry, destination: Destination) -> Counter[str]:
        """Send a delivery once and keep how it went: events by what became of them.

        Nothing is counted if it was another's by then. Raises LedgerFault, and then it is sent again.
        """
        try:
            fixed = claimed if claimed.fixed else self._fixed(ledger, claimed, destination)
            if fixed is None:
                return Counter()
            with self._room.taken(fixed.to, fixed.bytes):
                return self._deliver(ledger, fixed, entry, destination)
        except WarehouseFault as fault:
            self._put_back(ledger, claimed, str(fault))
            return Counter()

    def _deliver(self, ledger: Ledger, fixed: Claimed, entry: Entry, destination: Destination) -> Counter[str]:
        # Of one that was tried before, some events may be done.
        items = self._shelf.take(fixed.id) if fixed.attempt == 1 else None
        if items is None:
            with self._reading:
                items = read_items(self._warehouse, fixed)
        ending = given_up(fixed, items, patience=self._patience)
        if ending is not None:
            return _keep(ledger, fixed, ending)
        begun, at = time.monotonic(), datetime.now(UTC)
        attempt = _send(fixed, items, destination)
        took_ms = round((time.monotonic() - begun) * 1000)
        ending = ending_of(fixed, items, attempt, patience=self._patience)
        return _keep(ledger, fixed, ending, entry=entry, attempt=attempt, at=format_instant(at), took_ms=took_ms)

    def _fixed(self, ledger: Ledger, claimed: Claimed, destination: Destination) -> Claimed | None:
        """Decide, once and for all, what is sent together; the first piece, or None if it is another's by now."""
        items: list[Placed] | None = None
        with self._reading:
            # What is small enough is read once for all of its pieces.
            if 0 < claimed.bytes <= SHELF_BYTES_MAX:
                items = read_items(self._warehouse, claimed)
                pieces = list(cut([(place, len(item.document)) for place, item in items], destination.batch))
            else:
                pieces = read_pieces(self._warehouse, claimed, destination.batch)
        with ledger.transaction() as tx:
            parted = deliveries.part(tx, claimed, pieces)
        reach("deliver.parted")
        if parted is None:
            return None
        if items is not None:
            rest = iter(items)
            for id_, piece in zip(parted.ids, pieces, strict=True):
                self._shelf.put(id_, list(islice(rest, len(piece.places))), size=piece.bytes)
        return parted.first

    def _put_back(self, ledger: Ledger, claimed: Claimed, reason: str) -> None:
        log.error("delivery put back", delivery=claimed.id, destination=claimed.to.destination, reason=reason)
        seconds = min(FAULT_SECONDS * claimed.attempt, FAULT_SECONDS_MAX)
        with ledger.connection() as tx:
            deliveries.put_back(tx, claimed, seconds=seconds, reason=reason)


def _send(claimed: Claimed, items: list[Placed], destination: Destination) -> Attempt:
    batch = Batch(
        delivery_id=claimed.id,
        workspace=claimed.to.workspace,
        destination=claimed.to.destination,
        stream_id=claimed.stream_id,
        stream_version=claimed.stream_version,
        first_attempt_at=claimed.first_attempt_at,
        attempt=claimed.attempt,
        items=[item for _, item in items],
    )
    reach("deliver.before_send")
    try:
        attempt = Attempt(sent=destination.send(batch))
    except DeliveryFailed as failed:
        attempt = Attempt(failed=failed)
    except Exception as error:  # noqa: BLE001 - kept as the outcome, and logged
        # A defect in one type of destinations must not take the others' deliveries along. What the error says is not
        # told: it may quote what it could not handle.
        log.error(  # noqa: TRY400 - as above
            "destination failed",
            delivery=claimed.id,
            destination=claimed.to.destination,
            error=type(error).__name__,
            at="".join(traceback.format_tb(error.__traceback__)),
        )
        attempt = Attempt(failed=Transient(f"a defect of ours: {type(error).__name__}"))
    reach("deliver.sent")
    return attempt


def _keep(
    ledger: Ledger,
    claimed: Claimed,
    ending: Ending,
    *,
    entry: Entry | None = None,
    attempt: Attempt | None = None,
    at: str | None = None,
    took_ms: int | None = None,
) -> Counter[str]:
    with ledger.transaction() as tx:
        if not deliveries.end(tx, claimed, ending, at=at, took_ms=took_ms):
            return Counter()
        if attempt is not None and entry is not None:
            if attempt.taken:
                health.recover(tx, claimed.to)
            else:
                reason = attempt.reason or "it did not take anything"
                health.fail(tx, claimed.to, declared=entry.declared, reason=reason, asked_seconds=attempt.asked_seconds)
    reach("deliver.kept")
    if ending.reason is not None:
        log.warning(
            "delivery incomplete",
            delivery=claimed.id,
            destination=claimed.to.destination,
            workspace=claimed.to.workspace,
            attempt=claimed.attempt,
            again=len(ending.again),
            dead=len(ending.dead),
            reason=ending.reason,
        )
    return Counter(delivered=ending.delivered, again=len(ending.again), dead=len(ending.dead))
