"""What the platform does at the moment, for `ingest status`: work of the last minute, and the processes that live."""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.processes import ALIVE_SECONDS

WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A feed's last minute: submissions accepted, jobs ended, records of these, and the median time from end to end."""

    feed: str
    submissions_accepted: int
    jobs_ended: int
    jobs_failed: int
    records: int
    records_rejected: int
    seconds_median: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveProcess:
    """A process whose heartbeat is fresh."""

    part: str
    host: str
    pid: int
    started_at: datetime


def recent_activity(tx: Transaction, *, feed: str) -> Activity:
    """Sum up the last minute of a feed."""
    with tx.cursor(row_factory=class_row(Activity)) as cursor:
        found = cursor.execute(
            """
            SELECT %(feed)s AS feed,
                (SELECT count(*) FROM jobs WHERE feed = %(feed)s
                    AND accepted_at > clock_timestamp() - make_interval(secs => %(window)s)) AS submissions_accepted,
                count(*) AS jobs_ended,
                count(*) FILTER (WHERE state = 'failed') AS jobs_failed,
                coalesce(sum(received), 0)::bigint AS records,
                coalesce(sum(rejected), 0)::bigint AS records_rejected,
                (percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - accepted_at)))::float8
                    AS seconds_median
            FROM jobs
            -- Days bound the search to what an index holds together; what ended just now was accepted lately.
            WHERE feed = %(feed)s AND day >= (now() AT TIME ZONE 'UTC')::date - 1
                AND finished_at > clock_timestamp() - make_interval(secs => %(window)s)
            """,
            {"feed": feed, "window": WINDOW_SECONDS},
        ).fetchone()
    assert found is not None
    return found


def live_processes(tx: Transaction) -> list[LiveProcess]:
    """List the processes that live, by part."""
    with tx.cursor(row_factory=class_row(LiveProcess)) as cursor:
        return cursor.execute(
            "SELECT part, host, pid, started_at FROM processes"
            " WHERE beat_at > clock_timestamp() - make_interval(secs => %s) ORDER BY part, started_at",
            (ALIVE_SECONDS,),
        ).fetchall()
