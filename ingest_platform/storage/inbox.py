"""The inbox by day: partitions made ahead and dropped once their day is archived, and which days are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from ingest_platform.domain.errors import LedgerFault
from ingest_platform.storage.ledger import Transaction

_PARTITION_LOCK = 0x1E57_0002
# A transaction that began before midnight accepts for the day before; no statement of ours takes nearly as long.
_DAY_SETTLES_SECONDS = 3_600
# Making and dropping a partition lock all of the inbox. Behind whoever reads it for long (as a backup does) submissions
# would queue up with us, so it is left for the next time; this is far less than they may wait.
_LOCK_WAIT: LiteralString = "SET LOCAL lock_timeout = '500ms'"
_NEW_PARTITION = sql.SQL("CREATE TABLE {} PARTITION OF submissions FOR VALUES FROM ({}) TO ({})")
# As of the whole table: of bodies that may not be kept there may be no samples in the statistics either.
_NO_STATISTICS = sql.SQL("ALTER TABLE {} ALTER COLUMN body SET STATISTICS 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedDay:
    """A day of a feed whose submissions lie in blobs instead of the inbox."""

    feed: str
    day: date
    blobs: Sequence[str]
    submissions: int
    bytes: int


def today(tx: Transaction) -> date:
    """Tell the day of acceptance by the database's clock, in UTC."""
    row = tx.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchone()
    assert row is not None
    return row[0]


def _partition(day: date) -> sql.Identifier:
    return sql.Identifier(f"submissions_{day:%Y%m%d}")


def _is_there(tx: Transaction, day: date) -> bool:
    return tx.execute("SELECT to_regclass(%s)", (_partition(day).as_string(),)).fetchone() != (None,)


def ensure_partitions(tx: Transaction, *, days_ahead: int) -> None:
    """Make the partitions of today and the days ahead. A day that already has rows in the default one stays there.

    While somebody reads the inbox for long, none is made.
    """
    tx.execute("SELECT pg_advisory_xact_lock(%s)", (_PARTITION_LOCK,))
    tx.execute(_LOCK_WAIT)
    first = today(tx)
    for day in (first + timedelta(days=ahead) for ahead in range(days_ahead + 1)):
        if _is_there(tx, day):
            continue
        try:
            with tx.transaction():
                tx.execute(_NEW_PARTITION.format(_partition(day), day, day + timedelta(days=1)))
                tx.execute(_NO_STATISTICS.format(_partition(day)))
        except psycopg.errors.CheckViolation:
            # Accepted before the partition was made: the rows are as safe in the default partition.
            continue
        except psycopg.errors.LockNotAvailable:
            return


def days_to_archive(tx: Transaction, *, feed: str) -> list[date]:
    """List complete past days of a feed that still lie in the inbox: none of their jobs is open."""
    return [
        day
        for (day,) in tx.execute(
            """
            SELECT DISTINCT submissions.day FROM submissions
            JOIN jobs ON jobs.id = submissions.job_id AND jobs.day = submissions.day
            WHERE jobs.feed = %(feed)s
              AND submissions.day < ((now() - make_interval(secs => %(settles)s)) AT TIME ZONE 'UTC')::date
              AND NOT EXISTS (SELECT FROM jobs AS open WHERE open.feed = %(feed)s AND open.day = submissions.day
                              AND open.state IN ('accepted', 'processing'))
            ORDER BY 1
            """,
            {"feed": feed, "settles": _DAY_SETTLES_SECONDS},
        )
    ]


def move_out(tx: Transaction, archived: ArchivedDay) -> None:
    """Say that a day lies in blobs now, and empty its part of the inbox: both or neither.

    A clock that was set back lets submissions come for a day that is archived; they are added to it. Raises
    LedgerFault, changing nothing, if the inbox has others by now than those that were archived.
    """
    tx.execute(
        """
        INSERT INTO archived_days AS known (feed, day, blobs, submissions, bytes) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (feed, day) DO UPDATE SET blobs = known.blobs || excluded.blobs,
            submissions = known.submissions + excluded.submissions, bytes = known.bytes + excluded.bytes
        """,
        (archived.feed, archived.day, list(archived.blobs), archived.submissions, archived.bytes),
    )
    emptied = tx.execute(
        "DELETE FROM submissions USING jobs WHERE jobs.id = submissions.job_id AND jobs.day = submissions.day"
        " AND jobs.feed = %s AND submissions.day = %s",
        (archived.feed, archived.day),
    ).rowcount
    if emptied != archived.submissions:
        message = f"{archived.submissions} submissions of {archived.day} were archived, but the inbox had {emptied}"
        raise LedgerFault(message)


def drop_empty_partitions(tx: Transaction) -> int:
    """Drop the partitions of past days that hold nothing any more; returns how many.

    While somebody reads the inbox for long, none is dropped.
    """
    tx.execute("SELECT pg_advisory_xact_lock(%s)", (_PARTITION_LOCK,))
    tx.execute(_LOCK_WAIT)
    limit = f"submissions_{today(tx):%Y%m%d}"
    names = tx.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'submissions'::regclass"
        " AND inhrelid <> 'submissions_default'::regclass"
    ).fetchall()
    dropped = 0
    for (name,) in names:
        table = sql.Identifier(*str(name).split("."))
        bare = str(name).rpartition(".")[2]
        if bare < limit and tx.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table)).fetchone() is None:
            try:
                with tx.transaction():
                    tx.execute(sql.SQL("DROP TABLE {}").format(table))
            except psycopg.errors.LockNotAvailable:
                break
            dropped += 1
    return dropped


_COLUMNS = "feed, day, blobs, submissions, bytes"


def archived_day(tx: Transaction, *, feed: str, day: date) -> ArchivedDay | None:
    """Look up a day of a feed in the archive."""
    with tx.cursor(row_factory=class_row(ArchivedDay)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM archived_days WHERE feed = %s AND day = %s", (feed, day)
        ).fetchone()


def archived_before(tx: Transaction, *, days: int) -> list[ArchivedDay]:
    """List the archived days that are older than so many days."""
    with tx.cursor(row_factory=class_row(ArchivedDay)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM archived_days WHERE day < (now() AT TIME ZONE 'UTC')::date - %s::int", (days,)
        ).fetchall()


def forget(tx: Transaction, archived: ArchivedDay) -> None:
    """Forget an archived day whose blobs are deleted."""
    tx.execute("DELETE FROM archived_days WHERE feed = %s AND day = %s", (archived.feed, archived.day))
