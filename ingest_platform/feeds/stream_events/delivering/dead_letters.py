"""Dead letters: events that a destination does not take. Listed, counted by reason, and delivered anew.

What is delivered anew is a new delivery of the same events under the same ids; the letter stays a while, as history.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import LiteralString

from psycopg.rows import class_row

from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.stream_events.consign import CONSIGNED
from ingest_platform.feeds.stream_events.delivering.deliveries import DELIVERY_PREFIX, count
from ingest_platform.feeds.stream_events.delivering.health import To
from ingest_platform.storage.ledger import Transaction

# Of one call: a transaction of some seconds. Whoever has more calls again.
REPLAYED_MAX = 20_000
# Of one new delivery; it is parted where the destination takes fewer.
TOGETHER_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """An event that a destination did not take."""

    id: int
    workspace: str
    destination: str
    stream_id: str
    stream_version: int
    hour: datetime
    delivery_id: str
    event_id: str
    seq: int
    index: int
    reason: str
    died_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which dead letters of a workspace are meant; None is all of them."""

    workspace: str
    stream_id: str | None = None
    destination: str | None = None
    reason: str | None = None
    event_ids: Sequence[str] | None = None


_COLUMNS: LiteralString = (
    "id, workspace, destination, stream_id, stream_version, hour, delivery_id, event_id, seq, index, reason, died_at"
)
_WANTED: LiteralString = """
    workspace = %(workspace)s AND replayed_in IS NULL
    AND (%(stream_id)s::text IS NULL OR stream_id = %(stream_id)s)
    AND (%(destination)s::text IS NULL OR destination = %(destination)s)
    AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(event_ids)s::text[] IS NULL OR event_id = ANY(%(event_ids)s))
"""


def _values(wanted: Wanted) -> dict[str, object]:
    return {
        "workspace": wanted.workspace,
        "stream_id": wanted.stream_id,
        "destination": wanted.destination,
        "reason": wanted.reason,
        "event_ids": None if wanted.event_ids is None else list(wanted.event_ids),
    }


def list_letters(tx: Transaction, wanted: Wanted, *, before_id: int | None, limit: int) -> list[Letter]:
    """List dead letters, the latest first, those before an id."""
    with tx.cursor(row_factory=class_row(Letter)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM stream_dead_letters WHERE {_WANTED}"  # noqa: S608 - the conditions are ours
            " AND (%(before)s::bigint IS NULL OR id < %(before)s) ORDER BY id DESC LIMIT %(limit)s",
            {**_values(wanted), "before": before_id, "limit": limit},
        ).fetchall()


def count_letters(tx: Transaction, wanted: Wanted) -> int:
    """Count dead letters."""
    row = tx.execute(
        f"SELECT count(*) FROM stream_dead_letters WHERE {_WANTED}",  # noqa: S608 - as above
        _values(wanted),
    ).fetchone()
    assert row is not None
    return int(row[0])


def replay(tx: Transaction, wanted: Wanted) -> int:
    """Deliver dead letters anew, the oldest first, so many at most; the number of events.

    Two calls at once never take the same letter.
    """
    with tx.cursor(row_factory=class_row(Letter)) as cursor:
        letters = cursor.execute(
            f"SELECT {_COLUMNS} FROM stream_dead_letters WHERE {_WANTED}"  # noqa: S608 - as above
            " ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED",
            {**_values(wanted), "limit": REPLAYED_MAX},
        ).fetchall()
    for together in _together(letters):
        _deliver_anew(tx, together)
    if letters:
        tx.execute("SELECT pg_notify(%s, '')", (CONSIGNED,))
    return len(letters)


def _together(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    """Part letters into those that one delivery can have, each in order of acceptance."""

    def alike(letter: Letter) -> tuple[str, str, str, int, datetime]:
        return letter.workspace, letter.stream_id, letter.destination, letter.stream_version, letter.hour

    # In this order the counts of two calls at once are never locked in a circle.
    for _, group in groupby(sorted(letters, key=lambda each: (*alike(each), each.seq, each.index)), key=alike):
        while together := list(islice(group, TOGETHER_MAX)):
            yield together


def _deliver_anew(tx: Transaction, letters: Sequence[Letter]) -> None:
    first, delivery_id = letters[0], new_id(DELIVERY_PREFIX)
    tx.execute(
        """
        INSERT INTO stream_deliveries (id, workspace, destination, stream_id, stream_version, hour, seqs, item_seqs,
            item_indexes, events, pending, bytes, fixed, consigned_at)
        VALUES (%(id)s, %(workspace)s, %(destination)s, %(stream_id)s, %(version)s, %(hour)s, %(seqs)s, %(item_seqs)s,
            %(item_indexes)s, %(events)s, %(events)s, 0, false, clock_timestamp())
        """,
        {
            "id": delivery_id,
            "workspace": first.workspace,
            "destination": first.destination,
            "stream_id": first.stream_id,
            "version": first.stream_version,
            "hour": first.hour,
            "seqs": sorted({each.seq for each in letters}),
            "item_seqs": [each.seq for each in letters],
            "item_indexes": [each.index for each in letters],
            "events": len(letters),
        },
    )
    tx.execute(
        "UPDATE stream_dead_letters SET replayed_in = %s, replayed_at = clock_timestamp() WHERE id = ANY(%s)",
        (delivery_id, [each.id for each in letters]),
    )
    to = To(first.workspace, first.destination)
    count(tx, to, stream_id=first.stream_id, hour=first.hour, delivered=0, dead=-len(letters))
