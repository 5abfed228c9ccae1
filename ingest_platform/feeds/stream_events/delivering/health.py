"""How destinations do, kept durably: a circuit breaker for each, open while it takes nothing. Others do not notice.

closed     deliveries are sent
open       after several in a row that it did not take, or because it asked to be left alone: nothing is sent
half open  after a pause one delivery finds out: it closes the breaker, or opens it for twice as long
blocked    it can't be opened (retired, say); what is for it waits, and it is looked at again from time to time
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, LiteralString, NamedTuple

from psycopg.rows import kwargs_row

from ingest_platform.feeds.stream_events.destinations.destination import REASON_CHARACTERS_MAX
from ingest_platform.storage.ledger import Transaction

FAILURES_MAX = 5
# The first pause of an open breaker, which doubles: an outage of seconds costs seconds, one of a day a call in five
# minutes.
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 5.0, 300.0
# What a destination may ask for.
ASKED_SECONDS_MAX = 3600.0
BLOCKED_SECONDS = 30.0


@unique
class State(StrEnum):
    """Whether anything is sent to a destination."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    BLOCKED = "blocked"


def keepable(text: str) -> str:
    r"""Make what a destination says a text that PostgreSQL can keep and a person reads.

    >>> keepable("no\0n\udcffe")
    'non?e'
    """
    return text.encode(errors="replace").decode().replace("\0", "")[:REASON_CHARACTERS_MAX]


# How the destination of a row that is called `destination` is declared now: the version and the time of its secrets;
# null if it never was.
DECLARED: LiteralString = """
    (SELECT max(version) FROM catalog
        WHERE workspace = destination.workspace AND kind = 'destinations' AND id = destination.destination)::text
    || coalesce(' ' || (SELECT created_at FROM declared_secrets
        WHERE kind = 'destinations' AND id = destination.workspace || '/' || destination.destination), '')
"""


class To(NamedTuple):
    """Whom something is delivered to."""

    workspace: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether something may be sent now (`shut_seconds` is 0), and whether it is one delivery that finds out."""

    shut_seconds: float
    probing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a destination does, as it is shown."""

    workspace: str
    destination: str
    state: State
    failures: int
    open_until: datetime | None
    reason: str | None
    changed_at: datetime


def enter(tx: Transaction, to: To, *, declared: str | None) -> Gate:
    """Lock a destination until the transaction ends, and tell whether something may be sent to it.

    One that was declared anew since it did badly starts afresh, and so does what waits for a repetition.
    """
    row = tx.execute(
        "SELECT failures, blocked, declared,"
        " coalesce(extract(epoch FROM open_until - clock_timestamp())::float8, 0), open_until IS NOT NULL"
        " FROM stream_destinations WHERE workspace = %s AND destination = %s FOR NO KEY UPDATE",
        to,
    ).fetchone()
    if row is None:
        return Gate(shut_seconds=1.0, probing=False)
    failures, blocked, said_of, shut_seconds, opened = row
    if (opened or failures or blocked) and said_of != declared:
        recover(tx, to)
        tx.execute(
            "UPDATE stream_deliveries SET due_at = clock_timestamp()"
            " WHERE workspace = %s AND destination = %s AND state = 'waiting' AND due_at > clock_timestamp()",
            to,
        )
        return Gate(shut_seconds=0.0, probing=False)
    return Gate(shut_seconds=max(0.0, shut_seconds), probing=bool(opened))


def recover(tx: Transaction, to: To) -> None:
    """Close the breaker: it has taken something. Nothing is written if it was closed."""
    tx.execute(
        "UPDATE stream_destinations SET failures = 0, open_until = NULL, blocked = false, reason = NULL,"
        " declared = NULL, changed_at = clock_timestamp()"
        " WHERE workspace = %s AND destination = %s AND (failures > 0 OR open_until IS NOT NULL OR blocked)",
        to,
    )


_FAIL: LiteralString = """
UPDATE stream_destinations
SET failures = failures + 1, reason = %(reason)s, blocked = false, declared = %(declared)s,
    open_until = CASE
        WHEN failures + 1 >= %(failures_max)s OR %(asked)s > 0 THEN clock_timestamp() + make_interval(secs => greatest(
            %(asked)s, CASE WHEN failures + 1 < %(failures_max)s THEN 0 ELSE (0.5 + random() / 2)
                * least(%(pause_max)s, %(pause)s * 2.0 ^ least(failures + 1 - %(failures_max)s, 20)) END))
        ELSE open_until END,
    changed_at = clock_timestamp()
WHERE workspace = %(workspace)s AND destination = %(destination)s
"""


def fail(tx: Transaction, to: To, *, declared: str | None, reason: str, asked_seconds: float | None) -> None:
    """Count a delivery that it did not take; after several, or if it asked for a pause, it is left alone for a while.

    The pause has jitter, so that destinations that went away together are not called together.
    """
    tx.execute(
        _FAIL,
        {
            **to._asdict(),
            "declared": declared,
            "reason": keepable(reason),
            "asked": min(asked_seconds or 0.0, ASKED_SECONDS_MAX),
            "failures_max": FAILURES_MAX,
            "pause": PAUSE_SECONDS,
            "pause_max": PAUSE_SECONDS_MAX,
        },
    )


def block(tx: Transaction, to: To, *, declared: str | None, reason: str) -> None:
    """Say that a destination can't be opened as it is declared."""
    tx.execute(
        "UPDATE stream_destinations SET blocked = true, reason = %s, declared = %s,"
        " open_until = clock_timestamp() + make_interval(secs => %s),"
        " changed_at = CASE WHEN blocked THEN changed_at ELSE clock_timestamp() END"
        " WHERE workspace = %s AND destination = %s",
        (keepable(reason), declared, BLOCKED_SECONDS, *to),
    )


def _health(*, blocked: bool, is_open: bool, half: bool, **columns: Any) -> Health:  # noqa: ANN401 - columns of many types.
    state = State.BLOCKED if blocked else State.OPEN if is_open else State.HALF_OPEN if half else State.CLOSED
    return Health(state=state, **columns)


def read(tx: Transaction, *, workspace: str | None = None) -> list[Health]:
    """Tell how the destinations of a workspace, or of all, do: those for which there ever was anything."""
    with tx.cursor(row_factory=kwargs_row(_health)) as cursor:
        return cursor.execute(
            "SELECT workspace, destination, failures, open_until, reason, changed_at, blocked,"
            " coalesce(open_until > clock_timestamp(), false) AS is_open, open_until IS NOT NULL AS half"
            " FROM stream_destinations WHERE %(workspace)s::text IS NULL OR workspace = %(workspace)s"
            " ORDER BY workspace, destination",
            {"workspace": workspace},
        ).fetchall()
