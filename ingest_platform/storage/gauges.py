"""Figures about all feeds, for dashboards and alerts: jobs by state, records by outcome, the oldest that waits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString

from ingest_platform.domain.job import JobState
from ingest_platform.storage.ledger import Transaction, within

# Whoever asks has gone by then, and a sum over very many jobs would hold its connection, again and again.
READ_SECONDS_MAX = 1.5
OUTCOMES = ("rejected", "created", "updated", "unchanged", "stale", "superseded", "duplicate")

_SUMS: LiteralString = """
SELECT feed, state, count(*), coalesce(extract(epoch FROM clock_timestamp() - min(accepted_at))::float8, 0),
       coalesce(sum(rejected), 0)::bigint, coalesce(sum(created), 0)::bigint, coalesce(sum(updated), 0)::bigint,
       coalesce(sum(unchanged), 0)::bigint, coalesce(sum(stale), 0)::bigint,
       coalesce(sum(superseded), 0)::bigint, coalesce(sum(duplicate), 0)::bigint
FROM jobs GROUP BY feed, state
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedGauges:
    """The figures of one feed."""

    feed: str
    jobs: Mapping[str, int]
    records: Mapping[str, int]
    oldest_waiting_seconds: float


def read_gauges(tx: Transaction, feeds: tuple[str, ...]) -> list[FeedGauges]:
    """Read the figures of feeds; one that has never had a job has zeros.

    Raises psycopg's QueryCanceled where there are too many jobs to sum up in the time.
    """
    with within(tx, seconds_max=READ_SECONDS_MAX):
        rows = tx.execute(_SUMS).fetchall()
    found: list[FeedGauges] = []
    for feed in feeds:
        own = [row for row in rows if row[0] == feed]
        open_ages = [row[3] for row in own if not JobState(row[1]).terminal]
        found.append(
            FeedGauges(
                feed=feed,
                jobs={state.value: sum(row[2] for row in own if row[1] == state) for state in JobState},
                records={name: sum(row[4 + place] for row in own) for place, name in enumerate(OUTCOMES)},
                oldest_waiting_seconds=max([0.0, *open_ages]),
            )
        )
    return found
