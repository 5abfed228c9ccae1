"""The accounts of streams: what came in and what became of it, by stream and hour; and whether they balance.

received = rejected + dropped + sampled out + routed, for each stream and hour of acceptance
consigned = delivered + waiting + dead, for each of these and each destination

Each side is counted by itself: what came in by the jobs, what became of it by the events; what was consigned by loads,
what was delivered by deliveries, what waits by looking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row

from ingest_platform.storage.ledger import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is looked at: a workspace, a stream, hours from one (inclusive) to another; None is all of them."""

    workspace: str | None = None
    stream_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING = Span()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCounts:
    """What came in of a stream and what became of it; `hour` is None in a sum over hours."""

    workspace: str
    stream_id: str
    hour: datetime | None
    received: int
    rejected: int
    dropped: int
    sampled_out: int
    routed: int
    faults: int

    @property
    def off(self) -> int:
        """How many records more were received than are accounted for."""
        return self.received - self.rejected - self.dropped - self.sampled_out - self.routed


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCounts:
    """Events of a stream that met a rule, those of them that were routed, those of which it could not be judged."""

    workspace: str
    stream_id: str
    hour: datetime | None
    rule: str
    matched: int
    kept: int
    faults: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationCounts:
    """What was consigned of a stream to a destination, and what became of it.

    `oldest_waiting_seconds` is how long ago the oldest event that waits was consigned; None if none waits.
    """

    workspace: str
    stream_id: str
    destination: str
    hour: datetime | None
    consigned: int
    delivered: int
    waiting: int
    dead: int
    oldest_waiting_seconds: float | None

    @property
    def off(self) -> int:
        """How many events more were consigned than are accounted for."""
        return self.consigned - self.delivered - self.waiting - self.dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The accounts of one span of time, as they stood at one moment."""

    streams: Sequence[StreamCounts]
    rules: Sequence[RuleCounts]
    destinations: Sequence[DestinationCounts]

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing and nothing counted twice."""
        return not any(each.off for each in (*self.streams, *self.destinations))


_SPAN: LiteralString = """
    (%(workspace)s::text IS NULL OR workspace = %(workspace)s)
    AND (%(stream_id)s::text IS NULL OR stream_id = %(stream_id)s)
    AND (%(since)s::timestamptz IS NULL OR hour >= %(since)s) AND (%(until)s::timestamptz IS NULL OR hour < %(until)s)
"""
_HOUR: LiteralString = "CASE WHEN %(by_hour)s THEN hour END"
_STREAMS: LiteralString = f"""
SELECT workspace, stream_id, {_HOUR} AS hour, sum(received)::bigint AS received, sum(rejected)::bigint AS rejected,
    sum(dropped)::bigint AS dropped, sum(sampled_out)::bigint AS sampled_out, sum(routed)::bigint AS routed,
    sum(faults)::bigint AS faults
FROM stream_counts WHERE {_SPAN} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""  # noqa: S608 - the texts are ours
_RULES: LiteralString = f"""
SELECT workspace, stream_id, {_HOUR} AS hour, rule, sum(matched)::bigint AS matched, sum(kept)::bigint AS kept,
    sum(faults)::bigint AS faults
FROM stream_rule_counts WHERE {_SPAN} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""  # noqa: S608 - as above
_DESTINATIONS: LiteralString = f"""
SELECT workspace, stream_id, destination, {_HOUR} AS hour, sum(consigned)::bigint AS consigned,
    sum(delivered)::bigint AS delivered, sum(waiting)::bigint AS waiting, sum(dead)::bigint AS dead,
    extract(epoch FROM clock_timestamp() - min(since))::float8 AS oldest_waiting_seconds
FROM (
    SELECT workspace, stream_id, destination, hour, events AS consigned, 0 AS delivered, 0 AS waiting, 0 AS dead,
        NULL::timestamptz AS since
    FROM stream_consigned
    UNION ALL SELECT workspace, stream_id, destination, hour, 0, delivered, 0, dead, NULL FROM stream_delivered
    UNION ALL SELECT workspace, stream_id, destination, hour, 0, 0, events, 0, consigned_at FROM stream_parcels
    UNION ALL SELECT workspace, stream_id, destination, hour, 0, 0, pending, 0, consigned_at
    FROM stream_deliveries WHERE state IN ('waiting', 'sending')
) AS counted
WHERE {_SPAN} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""  # noqa: S608 - as above


def read_accounts(tx: Transaction, span: Span = EVERYTHING, *, by_hour: bool = False) -> Accounts:
    """Read the accounts as they stand. Each of the three tables is of one moment, so that each balances at any time."""
    values = {each.name: getattr(span, each.name) for each in fields(span)} | {"by_hour": by_hour}
    with (
        tx.cursor(row_factory=class_row(StreamCounts)) as streams,
        tx.cursor(row_factory=class_row(RuleCounts)) as rules,
        tx.cursor(row_factory=class_row(DestinationCounts)) as destinations,
    ):
        return Accounts(
            streams=streams.execute(_STREAMS, values).fetchall(),
            rules=rules.execute(_RULES, values).fetchall(),
            destinations=destinations.execute(_DESTINATIONS, values).fetchall(),
        )


def dead_by_reason(tx: Transaction, *, limit: int) -> list[Mapping[str, str | int]]:
    """Count the dead letters of all workspaces by destination and reason, the most frequent first."""
    found = tx.execute(
        "SELECT workspace, destination, reason, count(*), count(DISTINCT stream_id) FROM stream_dead_letters"
        " WHERE replayed_in IS NULL GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT %s",
        (limit,),
    ).fetchall()
    return [
        {"destination": row[1], "events": row[3], "reason": row[2], "streams": row[4], "workspace": row[0]}
        for row in found
    ]
