"""Deliveries, kept durably: put together from what waits, claimed, parted, ended. How one is sent is not known here.

All times and leases are the database's. A delivery is claimed with a lease, and its number of attempts is the fence: an
outcome counts only for the attempt that was begun last. Which events are in it never changes once it may have been
sent. Claims of one destination are made one after the other (its row is locked), so that all workers together send it
no more at once than it takes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from psycopg.rows import kwargs_row

from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.stream_events.delivering import health
from ingest_platform.feeds.stream_events.delivering.health import DECLARED, To, keepable
from ingest_platform.feeds.stream_events.destinations.destination import BatchRule
from ingest_platform.storage.ledger import Transaction

DELIVERY_PREFIX = "dlv_"
# Parcels that are put together at once: a load of few events each.
PARCELS_MAX = 500
# What ended is shown for so long; the counts stay.
KEPT_DAYS = 7
# Rows of one statement, so that none takes long.
FORGOTTEN_TOGETHER = 10_000
# Attempts that are shown, the latest ones.
LOG_MAX = 20


class Place(NamedTuple):
    """Where an event stands in the order of acceptance: the number of its job, its index in it."""

    seq: int
    record_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is ours to send, as it stood when it was claimed.

    Its events are those of the jobs `seqs` for the destination; of them the ones between `first` and `last`, or exactly
    `items`, where these are given; `pending` are those still to be sent, None for all. `fixed` is whether they may be
    sent as they are.
    """

    id: str
    to: To
    stream_id: str
    stream_version: int
    hour: datetime
    seqs: Sequence[int]
    first: Place | None
    last: Place | None
    items: Sequence[Place] | None
    pending: Sequence[Place] | None
    remaining: int
    bytes: int
    fixed: bool
    attempt: int
    lost: int
    first_attempt_at: datetime
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Nothing can be sent to a destination now; it is worth looking again after some seconds."""

    again_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Events of a delivery that are sent together: ascending, at least one."""

    places: Sequence[Place]
    bytes: int


class DeadEvent(NamedTuple):
    """An event that is not sent again by itself, and why."""

    event_id: str
    place: Place
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt went: every event that was sent is delivered, dead, or sent again after `again_seconds`."""

    delivered: int = 0
    again: Sequence[Place] = ()
    dead: Sequence[DeadEvent] = ()
    again_seconds: float = 0.0
    reason: str | None = None


# Claims

_CLAIMED: LiteralString = """
    id, workspace, destination, stream_id, stream_version, hour, seqs, first_seq, first_index, last_seq, last_index,
    item_seqs, item_indexes, pending_seqs, pending_indexes, pending AS remaining, bytes, fixed, attempts AS attempt,
    lost, first_attempt_at, extract(epoch FROM clock_timestamp() - first_attempt_at)::float8 AS age_seconds
"""


def _claimed(**columns: Any) -> Claimed:  # noqa: ANN401 - columns of many types.
    taken = {name: columns.pop(name) for name in ("workspace", "destination")}
    first, last = (_place(columns.pop(f"{end}_seq"), columns.pop(f"{end}_index")) for end in ("first", "last"))
    items, pending = (_places(columns.pop(f"{of}_seqs"), columns.pop(f"{of}_indexes")) for of in ("item", "pending"))
    return Claimed(to=To(**taken), first=first, last=last, items=items, pending=pending, **columns)


def _place(seq: int | None, index: int | None) -> Place | None:
    return None if seq is None or index is None else Place(seq, index)


def _places(seqs: Sequence[int] | None, indexes: Sequence[int] | None) -> list[Place] | None:
    return None if seqs is None or indexes is None else list(map(Place, seqs, indexes))


# One that was declared anew since it did badly starts afresh, whenever what waits for it would be due.
_DUE: LiteralString = f"""
SELECT destination.workspace, destination.destination FROM stream_destinations AS destination
CROSS JOIN LATERAL (
    SELECT (failures > 0 OR open_until IS NOT NULL OR blocked) AND declared IS DISTINCT FROM ({DECLARED}) AS anew
) AS known
WHERE (open_until IS NULL OR open_until <= clock_timestamp() OR anew)
    AND (EXISTS (
        SELECT FROM stream_parcels WHERE workspace = destination.workspace AND destination = destination.destination
    ) OR EXISTS (
        SELECT FROM stream_deliveries
        WHERE workspace = destination.workspace AND destination = destination.destination
            AND state IN ('waiting', 'sending') AND (due_at <= clock_timestamp() OR anew)
    ))
"""  # noqa: S608 - the texts are ours


def due(tx: Transaction) -> list[To]:
    """List the destinations for which something may be sent now: two look-ups in an index for each that ever was."""
    return [To(*row) for row in tx.execute(_DUE)]


def claim(tx: Transaction, to: To, *, rule: BatchRule, declared: str | None, lease_seconds: float) -> Claimed | Nothing:
    """Claim what is due: the oldest delivery that is, or a new one of what waits longest."""
    gate = health.enter(tx, to, declared=declared)
    if gate.shut_seconds > 0:
        return Nothing(again_seconds=gate.shut_seconds)
    row = tx.execute(
        "SELECT count(*) FROM stream_deliveries WHERE workspace = %s AND destination = %s AND state = 'sending'"
        " AND due_at > clock_timestamp()",
        to,
    ).fetchone()
    assert row is not None
    if row[0] >= (1 if gate.probing else rule.at_once):
        return Nothing(again_seconds=0.5)
    return _claim_due(tx, to, lease_seconds=lease_seconds) or _claim_waiting(tx, to, rule, lease_seconds=lease_seconds)


def _claim_due(tx: Transaction, to: To, *, lease_seconds: float) -> Claimed | None:
    with tx.cursor(row_factory=kwargs_row(_claimed)) as cursor:
        return cursor.execute(
            f"""
            WITH due AS (
                SELECT seq AS due_seq FROM stream_deliveries
                WHERE workspace = %(workspace)s AND destination = %(destination)s AND state IN ('waiting', 'sending')
                    AND due_at <= clock_timestamp()
                ORDER BY due_at, seq LIMIT 1 FOR UPDATE SKIP LOCKED
            )
            UPDATE stream_deliveries
            SET state = 'sending', attempts = attempts + 1, lost = lost + (state = 'sending')::integer,
                first_attempt_at = coalesce(first_attempt_at, clock_timestamp()),
                due_at = clock_timestamp() + make_interval(secs => %(lease)s)
            FROM due WHERE seq = due_seq
            RETURNING {_CLAIMED}
            """,  # noqa: S608 - the columns are ours
            {**to._asdict(), "lease": lease_seconds},
        ).fetchone()


# Of what waits longest, as much as fits, all of one version of a stream and of one hour; unless more may come soon.
_TAKE: LiteralString = """
WITH oldest AS MATERIALIZED (
    SELECT id, stream_id, stream_version, hour, events, bytes, consigned_at FROM stream_parcels
    WHERE workspace = %(workspace)s AND destination = %(destination)s ORDER BY id LIMIT %(parcels_max)s
), first AS (
    SELECT stream_id, stream_version, hour, consigned_at AS since FROM oldest ORDER BY id LIMIT 1
), alike AS (
    SELECT id, sum(events) OVER sofar AS events, sum(bytes) OVER sofar AS bytes, row_number() OVER sofar AS number,
        since <= clock_timestamp() - make_interval(secs => %(linger)s) AS ripe
    FROM oldest JOIN first USING (stream_id, stream_version, hour) WINDOW sofar AS (ORDER BY id)
)
DELETE FROM stream_parcels USING alike
WHERE stream_parcels.id = alike.id
    AND (number = 1 OR (alike.events <= %(events_max)s AND alike.bytes <= %(bytes_max)s))
    AND (SELECT bool_or(ripe OR alike.events >= %(events_max)s OR alike.bytes >= %(bytes_max)s)
            OR count(*) = %(parcels_max)s FROM alike)
RETURNING stream_id, stream_version, hour, seqs, stream_parcels.events, stream_parcels.bytes, consigned_at
"""


_MAKE: LiteralString = f"""
INSERT INTO stream_deliveries (id, workspace, destination, stream_id, stream_version, hour, seqs, events, pending,
    bytes, fixed, state, attempts, due_at, consigned_at, first_attempt_at)
VALUES (%(id)s, %(workspace)s, %(destination)s, %(stream_id)s, %(stream_version)s, %(hour)s, %(seqs)s, %(events)s,
    %(events)s, %(bytes)s, %(fixed)s, 'sending', 1, clock_timestamp() + make_interval(secs => %(lease)s),
    %(consigned_at)s, clock_timestamp())
RETURNING {_CLAIMED}
"""  # noqa: S608 - the columns are ours


def _claim_waiting(tx: Transaction, to: To, rule: BatchRule, *, lease_seconds: float) -> Claimed | Nothing:
    taken = tx.execute(
        _TAKE,
        {
            **to._asdict(),
            "parcels_max": PARCELS_MAX,
            "linger": rule.linger_seconds,
            "events_max": rule.events_max,
            "bytes_max": rule.bytes_max,
        },
    ).fetchall()
    if not taken:
        # Nothing is there, or more may come soon.
        return Nothing(again_seconds=rule.linger_seconds)
    stream_id, stream_version, hour = taken[0][:3]
    events, size = sum(row[4] for row in taken), sum(row[5] for row in taken)
    with tx.cursor(row_factory=kwargs_row(_claimed)) as cursor:
        claimed = cursor.execute(
            _MAKE,
            {
                **to._asdict(),
                "id": new_id(DELIVERY_PREFIX),
                "stream_id": stream_id,
                "stream_version": stream_version,
                "hour": hour,
                "seqs": sorted({seq for row in taken for seq in row[3]}),
                "events": events,
                "bytes": size,
                "fixed": events <= rule.events_max and size <= rule.bytes_max,
                "lease": lease_seconds,
                "consigned_at": min(row[6] for row in taken),
            },
        ).fetchone()
    assert claimed is not None
    return claimed


def extend(tx: Transaction, attempts: Sequence[tuple[str, int]], *, lease_seconds: float) -> None:
    """Keep deliveries that are being sent, given by their ids and the attempts that are ours."""
    tx.execute(
        "UPDATE stream_deliveries SET due_at = clock_timestamp() + make_interval(secs => %s)"
        " FROM unnest(%s::text[], %s::integer[]) AS ours (id, attempt)"
        " WHERE stream_deliveries.id = ours.id AND attempts = attempt AND state = 'sending'",
        (lease_seconds, [id_ for id_, _ in attempts], [attempt for _, attempt in attempts]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """What became of a delivery that was parted: the first piece of it, claimed, and the ids of all in their order."""

    first: Claimed
    ids: Sequence[str]


def part(tx: Transaction, claimed: Claimed, pieces: Sequence[Piece]) -> Parted | None:
    """Make a delivery of each piece: the first of them, as the claimed one. None, changing nothing, if it is not ours.

    What is in each never changes after this.
    """
    assert sum(len(piece.places) for piece in pieces) == claimed.remaining, claimed.id
    if not _fix(tx, claimed, pieces[0]):
        return None
    made = [new_id(DELIVERY_PREFIX) for _ in pieces[1:]]
    with tx.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO stream_deliveries (id, workspace, destination, stream_id, stream_version, hour, seqs,
                first_seq, first_index, last_seq, last_index, item_seqs, item_indexes, events, pending, bytes, fixed,
                consigned_at)
            SELECT %(new_id)s, workspace, destination, stream_id, stream_version, hour, %(seqs)s, %(first_seq)s,
                %(first_index)s, %(last_seq)s, %(last_index)s, %(item_seqs)s, %(item_indexes)s, %(events)s, %(events)s,
                %(bytes)s, true, consigned_at
            FROM stream_deliveries WHERE id = %(id)s
            """,
            [{**_composed(claimed, piece), "new_id": new} for new, piece in zip(made, pieces[1:], strict=True)],
        )
    return Parted(first=_as_piece(claimed, pieces[0]), ids=[claimed.id, *made])


def _as_piece(claimed: Claimed, piece: Piece) -> Claimed:
    listed = claimed.items is not None
    return replace(
        claimed,
        seqs=sorted({place.seq for place in piece.places}),
        first=None if listed else piece.places[0],
        last=None if listed else piece.places[-1],
        items=piece.places if listed else None,
        remaining=len(piece.places),
        bytes=piece.bytes,
        fixed=True,
    )


def _fix(tx: Transaction, claimed: Claimed, piece: Piece) -> bool:
    return bool(
        tx.execute(
            """
            UPDATE stream_deliveries SET fixed = true, seqs = %(seqs)s, first_seq = %(first_seq)s,
                first_index = %(first_index)s, last_seq = %(last_seq)s, last_index = %(last_index)s,
                item_seqs = %(item_seqs)s, item_indexes = %(item_indexes)s, events = %(events)s, pending = %(events)s,
                bytes = %(bytes)s
            WHERE id = %(id)s AND attempts = %(attempt)s AND state = 'sending'
            """,
            {**_composed(claimed, piece), "attempt": claimed.attempt},
        ).rowcount
    )


def _composed(claimed: Claimed, piece: Piece) -> dict[str, object]:
    """Say which events a piece is made of, in the way its whole does: listed, or from one place to another."""
    listed = claimed.items is not None
    first, last = (None, None) if listed else (piece.places[0], piece.places[-1])
    return {
        "id": claimed.id,
        "seqs": sorted({place.seq for place in piece.places}),
        "first_seq": first and first.seq,
        "first_index": first and first.record_index,
        "last_seq": last and last.seq,
        "last_index": last and last.record_index,
        "item_seqs": [place.seq for place in piece.places] if listed else None,
        "item_indexes": [place.record_index for place in piece.places] if listed else None,
        "events": len(piece.places),
        "bytes": piece.bytes,
    }


# Ends

_END: LiteralString = """
UPDATE stream_deliveries
SET pending = %(pending)s, delivered = delivered + %(delivered)s, dead = dead + %(dead)s,
    pending_seqs = CASE WHEN %(listed)s THEN %(pending_seqs)s::bigint[] ELSE pending_seqs END,
    pending_indexes = CASE WHEN %(listed)s THEN %(pending_indexes)s::bigint[] ELSE pending_indexes END,
    state = CASE WHEN %(pending)s > 0 THEN 'waiting' WHEN delivered + %(delivered)s > 0 THEN 'delivered'
        ELSE 'dead' END,
    finished_at = CASE WHEN %(pending)s = 0 THEN clock_timestamp() END,
    due_at = clock_timestamp() + make_interval(secs => %(again_seconds)s),
    reason = %(reason)s,
    log = CASE WHEN jsonb_array_length(log) >= %(log_max)s THEN log - 0 ELSE log END || %(entry)s::jsonb
WHERE id = %(id)s AND attempts = %(attempt)s AND state = 'sending'
"""


def end(
    tx: Transaction, claimed: Claimed, ending: Ending, *, at: str | None = None, took_ms: int | None = None
) -> bool:
    """Keep how an attempt went; False, changing nothing, if another attempt was begun meanwhile.

    `at` is when it was begun; None if it was not even tried.
    """
    assert ending.delivered + len(ending.again) + len(ending.dead) == claimed.remaining, claimed.id
    kept = tx.execute(
        _END,
        {
            "id": claimed.id,
            "attempt": claimed.attempt,
            "pending": len(ending.again),
            "delivered": ending.delivered,
            "dead": len(ending.dead),
            # What was to be sent before is still to be sent, if nothing of it is done.
            "listed": len(ending.again) < claimed.remaining,
            "pending_seqs": [place.seq for place in ending.again],
            "pending_indexes": [place.record_index for place in ending.again],
            "again_seconds": ending.again_seconds,
            "reason": ending.reason and keepable(ending.reason),
            "log_max": LOG_MAX,
            "entry": json.dumps([_entry(claimed, ending, at=at, took_ms=took_ms)]),
        },
    ).rowcount
    if kept:
        _bury(tx, claimed, ending.dead)
        _count(tx, claimed, delivered=ending.delivered, dead=len(ending.dead))
    return bool(kept)


def _entry(claimed: Claimed, ending: Ending, *, at: str | None, took_ms: int | None) -> dict[str, object]:
    return {
        "attempt": claimed.attempt,
        "at": at,
        "duration_ms": took_ms,
        "delivered": ending.delivered,
        "retry": len(ending.again),
        "dead": len(ending.dead),
        "reason": ending.reason and keepable(ending.reason),
    }


def put_back(tx: Transaction, claimed: Claimed, *, seconds: float, reason: str) -> None:
    """Give a delivery back that could not be sent for a fault of ours; not if it is another's by now."""
    tx.execute(
        "UPDATE stream_deliveries SET state = 'waiting', reason = %s,"
        " due_at = clock_timestamp() + make_interval(secs => %s)"
        " WHERE id = %s AND attempts = %s AND state = 'sending'",
        (keepable(reason), seconds, claimed.id, claimed.attempt),
    )


def _bury(tx: Transaction, claimed: Claimed, dead: Sequence[DeadEvent]) -> None:
    if not dead:
        return
    tx.execute(
        "INSERT INTO stream_dead_letters (workspace, destination, stream_id, stream_version, hour, delivery_id,"
        " event_id, seq, index, reason)"
        " SELECT %s, %s, %s, %s, %s, %s, died.*"
        " FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::text[]) AS died",
        (
            *(*claimed.to, claimed.stream_id, claimed.stream_version, claimed.hour, claimed.id),
            [each.event_id for each in dead],
            [each.place.seq for each in dead],
            [each.place.record_index for each in dead],
            [keepable(each.reason) for each in dead],
        ),
    )


def _count(tx: Transaction, claimed: Claimed, *, delivered: int, dead: int) -> None:
    if delivered or dead:
        count(tx, claimed.to, stream_id=claimed.stream_id, hour=claimed.hour, delivered=delivered, dead=dead)


def count(tx: Transaction, to: To, *, stream_id: str, hour: datetime, delivered: int, dead: int) -> None:
    """Count events of an hour that were delivered or are dead; fewer dead ones where they are delivered anew."""
    # Not one statement: what is inserted is checked even where it is in conflict, and it would be fewer than none.
    tx.execute(
        "INSERT INTO stream_delivered AS c (workspace, destination, stream_id, hour)"
        " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (*to, stream_id, hour),
    )
    tx.execute(
        "UPDATE stream_delivered SET delivered = delivered + %s, dead = dead + %s"
        " WHERE workspace = %s AND destination = %s AND stream_id = %s AND hour = %s",
        (delivered, dead, *to, stream_id, hour),
    )


def forget_old(tx: Transaction) -> int:
    """Delete some of what ended long ago; the number of deliveries. To be asked again until it is none."""
    tx.execute(
        "DELETE FROM stream_dead_letters WHERE id IN (SELECT id FROM stream_dead_letters WHERE replayed_in IS NOT NULL"
        " AND replayed_at < now() - make_interval(days => %s) LIMIT %s)",
        (KEPT_DAYS, FORGOTTEN_TOGETHER),
    )
    return tx.execute(
        "DELETE FROM stream_deliveries WHERE seq IN (SELECT seq FROM stream_deliveries"
        " WHERE finished_at < now() - make_interval(days => %s) LIMIT %s)",
        (KEPT_DAYS, FORGOTTEN_TOGETHER),
    ).rowcount


# What became of one event


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDelivery:
    """A delivery as one of its events sees it. `state` is the event's: waiting, delivered or dead.

    `id` and `attempts` are of no delivery yet where the event still waits to be put into one.
    """

    id: str | None
    destination: str
    state: str
    attempts: int
    reason: str | None
    consigned_at: datetime
    first_attempt_at: datetime | None
    finished_at: datetime | None
    log: Sequence[Mapping[str, Any]] = ()


_OF_EVENT: LiteralString = """
SELECT delivery.id, delivery.destination,
    CASE WHEN letter.id IS NOT NULL THEN 'dead'
        WHEN state IN ('delivered', 'dead') THEN 'delivered'
        WHEN pending_seqs IS NULL THEN 'waiting'
        WHEN EXISTS (SELECT FROM unnest(pending_seqs, pending_indexes) AS p (seq, index)
            WHERE p.seq = %(seq)s AND p.index = %(index)s) THEN 'waiting'
        ELSE 'delivered' END AS state,
    attempts, coalesce(letter.reason, delivery.reason) AS reason, consigned_at, first_attempt_at, finished_at, log
FROM stream_deliveries AS delivery
LEFT JOIN stream_dead_letters AS letter
    ON letter.delivery_id = delivery.id AND letter.seq = %(seq)s AND letter.index = %(index)s
WHERE delivery.workspace = %(workspace)s AND delivery.stream_id = %(stream_id)s
    AND delivery.stream_version = %(version)s AND delivery.destination = ANY(%(destinations)s)
    AND delivery.seqs @> ARRAY[%(seq)s::bigint]
    AND (first_seq IS NULL OR (%(seq)s::bigint, %(index)s::bigint) BETWEEN (first_seq, first_index)
        AND (last_seq, last_index))
    AND (item_seqs IS NULL OR EXISTS (SELECT FROM unnest(item_seqs, item_indexes) AS i (seq, index)
        WHERE i.seq = %(seq)s AND i.index = %(index)s))
UNION ALL
SELECT NULL, destination, 'waiting', 0, NULL, consigned_at, NULL, NULL, '[]'
FROM stream_parcels
WHERE workspace = %(workspace)s AND stream_id = %(stream_id)s AND stream_version = %(version)s
    AND destination = ANY(%(destinations)s) AND seqs @> ARRAY[%(seq)s::bigint]
ORDER BY consigned_at, id
"""


def of_event(
    tx: Transaction, *, workspace: str, stream_id: str, stream_version: int, destinations: Iterable[str], place: Place
) -> list[EventDelivery]:
    """List the deliveries of one event to destinations (those to which it was routed), the oldest first."""
    with tx.cursor(row_factory=kwargs_row(EventDelivery)) as cursor:
        return cursor.execute(
            _OF_EVENT,
            {
                "workspace": workspace,
                "stream_id": stream_id,
                "version": stream_version,
                "destinations": list(destinations),
                "seq": place.seq,
                "index": place.record_index,
            },
        ).fetchall()
