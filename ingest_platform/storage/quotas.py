"""Records a month by workspace and feed: reserved before they are accepted, never beyond the limit. Refusing: not here.

A month is UTC's, by the database's clock. The limit is `workspaces.quotas`; absent or -1 is none, and use is counted
all the same, so that a limit set in the middle of a month knows what was used before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row

from ingest_platform.domain.errors import Exceeded
from ingest_platform.storage.ledger import Transaction

UNLIMITED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Records that somebody wants to have accepted."""

    workspace: str
    feed: str
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Granted; what it counts in, for a refund."""

    workspace: str
    feed: str
    period: str
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What stands for a workspace and feed in the present month."""

    limit: int
    used: int
    period: str
    resets_at: datetime
    seconds_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthUsage:
    """What a workspace has used of a feed's quota in the present month; the limit is None if there is none."""

    workspace: str
    period: str
    used: int
    limit: int | None


_LIMIT: LiteralString = """
    SELECT name AS workspace, coalesce((quotas ->> %(feed)s)::bigint, -1) AS most,
           to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') AS period
    FROM workspaces WHERE name = %(workspace)s
"""
# One statement: whoever comes at the same time waits for this row, and then compares with what has become of it.
_RESERVE: LiteralString = f"""
WITH allowed AS ({_LIMIT})
INSERT INTO quota_usage AS known (workspace, feed, period, used)
SELECT workspace, %(feed)s, period, %(records)s FROM allowed WHERE most < 0 OR %(records)s <= most
ON CONFLICT (workspace, feed, period) DO UPDATE SET used = known.used + excluded.used
WHERE (SELECT most < 0 OR known.used + excluded.used <= most FROM allowed)
RETURNING period
"""


def reserve(tx: Transaction, *, workspace: str, feed: str, records: int) -> Reserved | Exceeded:
    """Reserve all of so many records or none; it stands once the transaction commits, and until then others wait.

    A transaction that reserves for several workspaces uses `reserve_each`, which can't come to a deadlock.
    """
    assert records >= 0, records
    given = {"workspace": workspace, "feed": feed, "records": records}
    row = tx.execute(_RESERVE, given).fetchone()
    if row is not None:
        return Reserved(workspace=workspace, feed=feed, period=row[0], records=records)
    return _exceeded(usage(tx, workspace=workspace, feed=feed), requested=records)


def _exceeded(usage: Usage, *, requested: int) -> Exceeded:
    return Exceeded(
        limit=usage.limit,
        used=usage.used,
        requested=requested,
        period=usage.period,
        resets_at=usage.resets_at,
        retry_after_seconds=max(1, usage.seconds_left),
    )


def reserve_each(tx: Transaction, demands: Sequence[Demand]) -> list[Reserved | Exceeded]:
    """Reserve for many at once, each as if alone and in their order; one that does not fit takes nothing from others.

    One statement by workspace and feed while all of its demands fit, and a few more when they do not.
    """
    wanted: dict[tuple[str, str], list[int]] = {}
    for place, demand in enumerate(demands):
        wanted.setdefault((demand.workspace, demand.feed), []).append(place)
    told: dict[int, Reserved | Exceeded] = {}
    # Always in one order, so that two who reserve for the same workspaces never wait for each other.
    for (workspace, feed), places in sorted(wanted.items()):
        asked = [demands[place].records for place in places]
        told |= dict(zip(places, _reserve_in_order(tx, workspace=workspace, feed=feed, asked=asked), strict=True))
    return [told[place] for place in range(len(demands))]


def _reserve_in_order(
    tx: Transaction, *, workspace: str, feed: str, asked: Sequence[int]
) -> Sequence[Reserved | Exceeded]:
    together = reserve(tx, workspace=workspace, feed=feed, records=sum(asked))
    if len(asked) == 1:
        return [together]
    if isinstance(together, Reserved):
        return [Reserved(workspace=workspace, feed=feed, period=together.period, records=each) for each in asked]
    # Nothing more is reserved, but the row is locked: what it says stays true until the end of the transaction.
    reserve(tx, workspace=workspace, feed=feed, records=0)
    left = usage(tx, workspace=workspace, feed=feed)
    told: list[Reserved | Exceeded] = []
    used = left.used
    for records in asked:
        if left.limit < 0 or used + records <= left.limit:
            told.append(Reserved(workspace=workspace, feed=feed, period=left.period, records=records))
            used += records
        else:
            told.append(_exceeded(replace(left, used=used), requested=records))
    _add(tx, workspace=workspace, feed=feed, period=left.period, records=used - left.used)
    return told


def _add(tx: Transaction, *, workspace: str, feed: str, period: str, records: int) -> None:
    tx.execute(
        "UPDATE quota_usage SET used = used + %s WHERE workspace = %s AND feed = %s AND period = %s",
        (records, workspace, feed, period),
    )


def refund(tx: Transaction, reserved: Reserved) -> None:
    """Give back what was reserved in a transaction of its own, because it was not accepted after all.

    Once for each reservation: whoever may come twice for the same remembers in the same transaction that he came.
    """
    where = {"workspace": reserved.workspace, "feed": reserved.feed, "period": reserved.period}
    _add(tx, **where, records=-reserved.records)


def usage(tx: Transaction, *, workspace: str, feed: str) -> Usage:
    """Read a workspace's limit and what it has used of it this month."""
    with tx.cursor(row_factory=class_row(Usage)) as cursor:
        found = cursor.execute(
            f"""
            WITH allowed AS ({_LIMIT}), ends AS (
                SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC' AS at)
            SELECT most AS "limit", coalesce(used, 0) AS used, period, ends.at AS resets_at,
                   ceil(extract(epoch FROM ends.at - now()))::bigint AS seconds_left
            FROM allowed CROSS JOIN ends
            LEFT JOIN (SELECT * FROM quota_usage WHERE feed = %(feed)s) AS known USING (workspace, period)
            """,
            {"workspace": workspace, "feed": feed},
        ).fetchone()
    assert found is not None, workspace
    return found


def month_usages(tx: Transaction, *, feed: str) -> list[MonthUsage]:
    """List what stands this month for every workspace that has a limit or has used something, by name."""
    with tx.cursor(row_factory=class_row(MonthUsage)) as cursor:
        return cursor.execute(
            """
            WITH month AS (SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') AS period)
            SELECT name AS workspace, month.period, coalesce(used, 0) AS used,
                   CASE WHEN (quotas ->> %(feed)s)::bigint >= 0 THEN (quotas ->> %(feed)s)::bigint END AS "limit"
            FROM workspaces CROSS JOIN month
            LEFT JOIN quota_usage AS known
                ON known.workspace = name AND known.feed = %(feed)s AND known.period = month.period
            WHERE (quotas ->> %(feed)s)::bigint >= 0 OR used > 0
            ORDER BY name
            """,
            {"feed": feed},
        ).fetchall()
