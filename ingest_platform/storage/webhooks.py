"""Webhooks and their deliveries, kept durably: subscribed, announced, claimed, delivered. How one is sent is not known.

All times are the database's. A delivery is claimed with a lease, and its number of attempts is the fence: a result
counts only for the attempt that was begun last.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, LiteralString

from psycopg.rows import class_row, kwargs_row

from ingest_platform.domain.errors import Conflict
from ingest_platform.domain.ids import new_id
from ingest_platform.storage.ledger import Transaction

ANNOUNCED = "ingest_announced"
WEBHOOK_PREFIX, EVENT_PREFIX, DELIVERY_PREFIX = "whk_", "whe_", "whd_"
# Each is asked for at every announcement of its workspace, and may hold places among those that are sent at once.
WEBHOOKS_MAX = 20
# What was delivered or given up is shown for so long.
KEPT_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A subscription as it is shown: without its secret."""

    id: str
    workspace: str
    url: str
    events: Sequence[str]
    description: str
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """A webhook that is told of some types of events of its workspace."""

    id: str
    workspace: str
    events: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, as it is sent."""

    id: str
    workspace: str
    type: str
    body: bytes


@unique
class DeliveryState(StrEnum):
    """`pending` -> `sending` -> `delivered`, or back to `pending` until it is `dead`."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one webhook. `log` has an entry for each attempt, the latest last."""

    seq: int
    id: str
    webhook_id: str
    event_id: str
    type: str
    state: DeliveryState
    attempts: int
    due_at: datetime
    log: Sequence[Mapping[str, Any]]
    created_at: datetime
    finished_at: datetime | None
    redelivery_of: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A delivery that is claimed, with all that sending it takes."""

    id: str
    webhook_id: str
    workspace: str
    url: str
    secret: str
    event_id: str
    type: str
    body: bytes
    attempt: int

    def __repr__(self) -> str:
        """Name it without its secret, wherever it is printed."""
        return f"Outgoing({self.id}, attempt {self.attempt})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one attempt went. `again_seconds` is None where there is no further one."""

    at: str
    duration_ms: int
    response_code: int | None
    error: str | None
    again_seconds: float | None = None


# Subscriptions

_WEBHOOK: LiteralString = "id, workspace, url, events, description, created_at, disabled_at"


def create(tx: Transaction, *, workspace: str, url: str, events: Sequence[str], description: str, secret: str) -> str:
    """Subscribe; the webhook's id. Raises Conflict when the workspace has as many as it may."""
    # One after the other, so that two at once do not both find room for the last. No submission waits for that: what it
    # refers to, the workspace's key, is not locked.
    tx.execute("SELECT FROM workspaces WHERE name = %s FOR NO KEY UPDATE", (workspace,))
    if count(tx, workspace=workspace) >= WEBHOOKS_MAX:
        message = f"The workspace has {WEBHOOKS_MAX} webhooks, which is the limit; delete one first."
        raise Conflict(message, code="too_many_webhooks")
    webhook_id = new_id(WEBHOOK_PREFIX)
    tx.execute(
        "INSERT INTO webhooks (id, workspace, url, events, description, secret) VALUES (%s, %s, %s, %s, %s, %s)",
        (webhook_id, workspace, url, list(events), description, secret),
    )
    return webhook_id


def count(tx: Transaction, *, workspace: str) -> int:
    """Count the webhooks of a workspace."""
    row = tx.execute(
        "SELECT count(*) FROM webhooks WHERE workspace = %s AND deleted_at IS NULL", (workspace,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def find(tx: Transaction, *, workspace: str, webhook_id: str) -> Webhook | None:
    """Look up a webhook of a workspace."""
    with tx.cursor(row_factory=class_row(Webhook)) as cursor:
        return cursor.execute(
            f"SELECT {_WEBHOOK} FROM webhooks WHERE workspace = %s AND id = %s AND deleted_at IS NULL",
            (workspace, webhook_id),
        ).fetchone()


def list_webhooks(tx: Transaction, *, workspace: str, after: str, limit: int) -> list[Webhook]:
    """List webhooks in order of creation, those behind an id."""
    with tx.cursor(row_factory=class_row(Webhook)) as cursor:
        return cursor.execute(
            f"SELECT {_WEBHOOK} FROM webhooks WHERE workspace = %s AND deleted_at IS NULL AND id > %s"
            " ORDER BY id LIMIT %s",
            (workspace, after, limit),
        ).fetchall()


def delete(tx: Transaction, *, workspace: str, webhook_id: str) -> bool:
    """End a subscription, and whatever is still to be delivered to it; False if there is no such webhook."""
    return bool(
        tx.execute(
            "UPDATE webhooks SET deleted_at = clock_timestamp(), secret = ''"
            " WHERE workspace = %s AND id = %s AND deleted_at IS NULL",
            (workspace, webhook_id),
        ).rowcount
    )


def disable(tx: Transaction, webhook_id: str) -> None:
    """Stop telling a receiver that is gone for good; what waits for it is given up."""
    tx.execute("UPDATE webhooks SET disabled_at = clock_timestamp() WHERE id = %s", (webhook_id,))
    tx.execute(
        "UPDATE webhook_deliveries SET state = 'dead', finished_at = clock_timestamp()"
        " WHERE webhook_id = %s AND state = 'pending'",
        (webhook_id,),
    )


# Events


def subscribers(tx: Transaction, workspaces: Collection[str]) -> list[Subscriber]:
    """List whom to tell what in some workspaces: one look-up in an index, which mostly finds nobody."""
    with tx.cursor(row_factory=class_row(Subscriber)) as cursor:
        return cursor.execute(
            "SELECT id, workspace, events FROM webhooks"
            " WHERE workspace = ANY(%s) AND deleted_at IS NULL AND disabled_at IS NULL",
            (sorted(workspaces),),
        ).fetchall()


def announce(tx: Transaction, events: Sequence[Event], to: Sequence[Subscriber]) -> int:
    """Keep the events that somebody is told of, with a delivery for each of them; the number of deliveries.

    They are sent once the transaction commits. Workers hear of it then.
    """
    due = [
        (event, subscriber.id)
        for event in events
        for subscriber in to
        if subscriber.workspace == event.workspace and event.type in subscriber.events
    ]
    if not due:
        return 0
    wanted = {event.id: event for event, _ in due}.values()
    tx.execute(
        "INSERT INTO webhook_events (id, workspace, type, body)"
        " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %b::bytea[])",
        (
            *([each.id for each in wanted], [each.workspace for each in wanted]),
            *([each.type for each in wanted], [each.body for each in wanted]),
        ),
    )
    tx.execute(
        "INSERT INTO webhook_deliveries (id, webhook_id, event_id)"
        " SELECT id, webhook_id, event_id FROM unnest(%s::text[], %s::text[], %s::text[])"
        " WITH ORDINALITY AS given (id, webhook_id, event_id, place) ORDER BY place",
        (
            *([new_id(DELIVERY_PREFIX) for _ in due], [webhook_id for _, webhook_id in due]),
            [event.id for event, _ in due],
        ),
    )
    tx.execute("SELECT pg_notify(%s, '')", (ANNOUNCED,))
    return len(due)


# Deliveries

_DELIVERY: LiteralString = """
    delivery.seq, delivery.id, webhook_id, event_id, event.type, state, attempts, due_at, log, delivery.created_at,
    finished_at, redelivery_of
"""
_DELIVERIES: LiteralString = "webhook_deliveries AS delivery JOIN webhook_events AS event ON event.id = event_id"


def _delivery(*, state: str, **columns: Any) -> Delivery:  # noqa: ANN401 - the columns are named after the fields.
    return Delivery(state=DeliveryState(state), **columns)


def list_deliveries(
    tx: Transaction, *, webhook_id: str, state: str | None, before_seq: int | None, limit: int
) -> list[Delivery]:
    """List deliveries to a webhook, the latest first, those before a place."""
    with tx.cursor(row_factory=kwargs_row(_delivery)) as cursor:
        return cursor.execute(
            f"SELECT {_DELIVERY} FROM {_DELIVERIES} WHERE webhook_id = %(webhook)s"
            " AND (%(state)s::text IS NULL OR state = %(state)s) AND (%(before)s::bigint IS NULL OR seq < %(before)s)"
            " ORDER BY seq DESC LIMIT %(limit)s",
            {"webhook": webhook_id, "state": state, "before": before_seq, "limit": limit},
        ).fetchall()


def count_deliveries(tx: Transaction, *, webhook_id: str, state: str | None) -> int:
    """Count deliveries to a webhook."""
    row = tx.execute(
        "SELECT count(*) FROM webhook_deliveries WHERE webhook_id = %(webhook)s"
        " AND (%(state)s::text IS NULL OR state = %(state)s)",
        {"webhook": webhook_id, "state": state},
    ).fetchone()
    assert row is not None
    return int(row[0])


def find_delivery(tx: Transaction, *, webhook_id: str, delivery_id: str) -> Delivery | None:
    """Look up a delivery to a webhook."""
    with tx.cursor(row_factory=kwargs_row(_delivery)) as cursor:
        return cursor.execute(
            f"SELECT {_DELIVERY} FROM {_DELIVERIES} WHERE webhook_id = %s AND delivery.id = %s",
            (webhook_id, delivery_id),
        ).fetchone()


def redeliver(tx: Transaction, delivery: Delivery) -> str:
    """Send an event once more to the same webhook, as a delivery of its own; its id."""
    delivery_id = new_id(DELIVERY_PREFIX)
    tx.execute(
        "INSERT INTO webhook_deliveries (id, webhook_id, event_id, redelivery_of) VALUES (%s, %s, %s, %s)",
        (delivery_id, delivery.webhook_id, delivery.event_id, delivery.id),
    )
    tx.execute("SELECT pg_notify(%s, '')", (ANNOUNCED,))
    return delivery_id


# A delivery whose sender is gone is taken over with an entry about it. Each webhook has only so many places, so that a
# slow one takes none of the others'.
_CLAIM: LiteralString = """
WITH due AS (
    SELECT waiting.seq, webhook.workspace, webhook.url, webhook.secret
    FROM webhooks AS webhook
    LEFT JOIN unnest(%(busy)s::text[], %(places_taken)s::int[]) AS busy (id, places_taken) ON busy.id = webhook.id
    CROSS JOIN LATERAL (
        SELECT seq, due_at FROM webhook_deliveries
        WHERE webhook_id = webhook.id AND state IN ('pending', 'sending') AND due_at <= now()
        ORDER BY due_at LIMIT greatest(0, %(each_max)s - coalesce(busy.places_taken, 0))
        FOR UPDATE SKIP LOCKED
    ) AS waiting
    WHERE webhook.deleted_at IS NULL AND webhook.disabled_at IS NULL
    ORDER BY waiting.due_at LIMIT %(limit)s
)
UPDATE webhook_deliveries AS delivery
SET state = 'sending', attempts = delivery.attempts + 1, due_at = now() + make_interval(secs => %(lease_seconds)s),
    log = CASE delivery.state WHEN 'sending' THEN log || %(lost)s::jsonb ELSE log END
FROM due, webhook_events AS event
WHERE delivery.seq = due.seq AND event.id = delivery.event_id
RETURNING delivery.id, webhook_id, due.workspace, due.url, due.secret, event_id, event.type, event.body,
    delivery.attempts AS attempt
"""


def claim(
    tx: Transaction, *, busy: Mapping[str, int], each_max: int, limit: int, lease_seconds: float
) -> list[Outgoing]:
    """Claim what is due, the oldest first, at most so many to each webhook (less those that are busy already)."""
    values = {
        "busy": list(busy),
        "places_taken": list(busy.values()),
        "each_max": each_max,
        "limit": limit,
        "lease_seconds": lease_seconds,
        "lost": json.dumps([{"error": "whoever sent it ended before the answer"}]),
    }
    with tx.cursor(row_factory=class_row(Outgoing)) as cursor:
        return cursor.execute(_CLAIM, values).fetchall()


def finish(tx: Transaction, outgoing: Outgoing, attempt: Attempt, state: DeliveryState) -> bool:
    """Keep how an attempt went; False, changing nothing, if a later attempt was begun meanwhile."""
    entry = {
        "attempt": outgoing.attempt,
        "at": attempt.at,
        "duration_ms": attempt.duration_ms,
        "response_code": attempt.response_code,
        "error": attempt.error,
    }
    return bool(
        tx.execute(
            """
            UPDATE webhook_deliveries SET state = %(state)s, log = log || %(entry)s::jsonb,
                due_at = clock_timestamp() + make_interval(secs => %(again)s),
                finished_at = CASE WHEN %(state)s IN ('delivered', 'dead') THEN clock_timestamp() END
            WHERE id = %(id)s AND attempts = %(attempt)s AND state = 'sending'
            """,
            {
                "state": state.value,
                "entry": json.dumps([entry]),
                "again": attempt.again_seconds or 0.0,
                "id": outgoing.id,
                "attempt": outgoing.attempt,
            },
        ).rowcount
    )


def waiting(tx: Transaction) -> tuple[int, float | None]:
    """Tell how many deliveries wait in all, and for how long the oldest has been due (None: none is)."""
    row = tx.execute(
        "SELECT count(*), (extract(epoch FROM clock_timestamp() - min(due_at)"
        " FILTER (WHERE due_at <= clock_timestamp())))::float8"
        " FROM webhook_deliveries AS delivery JOIN webhooks AS webhook ON webhook.id = webhook_id"
        " WHERE state IN ('pending', 'sending') AND deleted_at IS NULL AND disabled_at IS NULL"
    ).fetchone()
    assert row is not None
    return int(row[0]), row[1]


def forget_old(tx: Transaction) -> int:
    """Delete what ended long ago, and what was to be delivered to webhooks that are gone; the number of deliveries."""
    forgotten = tx.execute(
        "DELETE FROM webhook_deliveries WHERE finished_at < now() - make_interval(days => %s)"
        " OR webhook_id IN (SELECT id FROM webhooks WHERE deleted_at < now() - interval '1 hour')",
        (KEPT_DAYS,),
    ).rowcount
    tx.execute("DELETE FROM webhooks WHERE deleted_at < now() - interval '1 hour'")
    tx.execute(
        "DELETE FROM webhook_events AS event WHERE created_at < now() - interval '1 day'"
        " AND NOT EXISTS (SELECT FROM webhook_deliveries WHERE event_id = event.id)"
    )
    return forgotten
