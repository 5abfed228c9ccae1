"""What people say of an issue's status, and who said it when. The issue itself is not known here (`stored.py`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from psycopg.rows import class_row

from ingest_platform.storage.ledger import Transaction


@unique
class Status(StrEnum):
    """Where the work on an issue stands. One of which nobody said anything is open."""

    OPEN = "open"
    IN_PROGRESS = "in_progress"
    RESOLVED = "resolved"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The status of an issue, and since when; None if nobody ever changed it."""

    status: Status
    changed_at: datetime | None


UNTOUCHED = Standing(status=Status.OPEN, changed_at=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of an issue's status, numbered in the order of changes; `changed_by` is the id of a key."""

    change: int
    from_status: str
    to_status: str
    changed_at: datetime
    changed_by: str


def put(tx: Transaction, *, workspace: str, issue_id: str, status: Status, by: str) -> None:
    """Set an issue's status and remember the change; nothing happens if that is its status already."""
    # One statement, so that of two who change it at once each is told the status that the other left.
    tx.execute(
        """
        WITH changed AS (
            INSERT INTO issue_statuses AS known (workspace, issue_id, status, previous, changed_by)
            SELECT %(workspace)s, %(issue_id)s, %(status)s::text, 'open', %(by)s
            WHERE %(status)s <> 'open' OR EXISTS (
                SELECT FROM issue_statuses WHERE workspace = %(workspace)s AND issue_id = %(issue_id)s)
            ON CONFLICT (workspace, issue_id) DO UPDATE
            SET previous = known.status, status = excluded.status, changed_at = clock_timestamp(),
                changed_by = excluded.changed_by
            WHERE known.status <> excluded.status
            RETURNING known.*
        )
        INSERT INTO issue_status_changes (workspace, issue_id, from_status, to_status, changed_at, changed_by)
        SELECT workspace, issue_id, previous, status, changed_at, changed_by FROM changed
        """,
        {"workspace": workspace, "issue_id": issue_id, "status": status.value, "by": by},
    )


def standings(tx: Transaction, *, workspace: str, issue_ids: Iterable[str]) -> dict[str, Standing]:
    """Read the status of some issues; those that nobody ever changed are left out (`UNTOUCHED`)."""
    rows = tx.execute(
        "SELECT issue_id, status, changed_at FROM issue_statuses WHERE workspace = %s AND issue_id = ANY(%s)",
        (workspace, list(issue_ids)),
    )
    return {issue_id: Standing(status=Status(status), changed_at=at) for issue_id, status, at in rows}


def ids_of(tx: Transaction, *, workspace: str, statuses: Sequence[Status]) -> list[str]:
    """List the issues of which somebody said that they have one of some statuses."""
    # One row of one text: ten times as quick as a row for each id, and there may be hundreds of thousands.
    row = tx.execute(
        r"SELECT string_agg(issue_id, E'\n') FROM issue_statuses WHERE workspace = %s AND status = ANY(%s)",
        (workspace, [status.value for status in statuses]),
    ).fetchone()
    assert row is not None
    return [] if row[0] is None else row[0].split("\n")


def times_of_change(tx: Transaction, *, workspace: str) -> list[tuple[str, int]]:
    """List all issues of which the status was ever changed, with the time of the last change in microseconds."""
    return tx.execute(
        "SELECT issue_id, (extract(epoch FROM changed_at) * 1000000)::bigint FROM issue_statuses WHERE workspace = %s",
        (workspace,),
    ).fetchall()


def changes(
    tx: Transaction, *, workspace: str, issue_id: str, before: tuple[datetime, int] | None, limit: int
) -> list[Change]:
    """Read the changes of an issue, the latest first, those before a time and a number of a change."""
    at, change = before or (None, None)
    with tx.cursor(row_factory=class_row(Change)) as cursor:
        return cursor.execute(
            """
            SELECT change, from_status, to_status, changed_at, changed_by FROM issue_status_changes
            WHERE workspace = %(workspace)s AND issue_id = %(issue_id)s
              AND (%(at)s::timestamptz IS NULL OR (changed_at, change) < (%(at)s::timestamptz, %(change)s::bigint))
            ORDER BY changed_at DESC, change DESC LIMIT %(limit)s
            """,
            {"workspace": workspace, "issue_id": issue_id, "at": at, "change": change, "limit": limit},
        ).fetchall()


def count_changes(tx: Transaction, *, workspace: str, issue_id: str) -> int:
    """Count the changes of an issue."""
    row = tx.execute(
        "SELECT count(*) FROM issue_status_changes WHERE workspace = %s AND issue_id = %s", (workspace, issue_id)
    ).fetchone()
    assert row is not None
    return int(row[0])
