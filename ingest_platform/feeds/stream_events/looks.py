"""What Dagster shows of streams: events by stream and rule, how each destination does, dead letters; and two checks.

Nothing is changed here. What is counted where is known in `accounts.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from ingest_platform.domain.feed import FeedAspect, Look
from ingest_platform.feeds.stream_events.accounts import (
    EVERYTHING,
    DestinationCounts,
    Span,
    dead_by_reason,
    read_accounts,
)
from ingest_platform.feeds.stream_events.consign import hour_of
from ingest_platform.feeds.stream_events.delivering import health
from ingest_platform.feeds.stream_events.delivering.health import Health, State, To
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.ledger import Transaction

ACCOUNTS_BALANCE, NOTHING_OVERDUE, LETTERS_COUNTED = "accounts_balance", "nothing_overdue", "letters_are_counted"
# Of an event that waits to be delivered.
OVERDUE_SECONDS = 15 * 60.0
# A page with more rows is not read.
ROWS_MAX = 50
HOUR = timedelta(hours=1)
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


def look_at_events(platform: Platform, job_ids: Sequence[str] | None) -> Look:
    """Look at what came in in the hours in which some jobs were accepted, or ever."""
    with platform.ledger.connection() as tx:
        span = _span(tx, job_ids)
        accounts = read_accounts(tx, span, by_hour=job_ids is not None)
    names = ("received", "rejected", "dropped", "sampled_out", "routed", "faults")
    streams = [
        {
            "stream": each.stream_id,
            "hour": "" if each.hour is None else each.hour.isoformat(),
            **{name.replace("_", " "): int(getattr(each, name)) for name in names},
            "workspace": each.workspace,
        }
        for each in accounts.streams
    ]
    rules = [
        {"rule": each.rule, "met": each.matched, "kept": each.kept, "faults": each.faults, "stream": each.stream_id}
        for each in sorted(accounts.rules, key=lambda each: -each.matched)
    ]
    return Look(
        figures={
            **{name: sum(int(getattr(each, name)) for each in accounts.streams) for name in names},
            "unaccounted": sum(abs(each.off) for each in accounts.streams),
            "streams": streams[:ROWS_MAX],
            "rules": rules[:ROWS_MAX],
        },
        passed={ACCOUNTS_BALANCE: not any(each.off for each in accounts.streams)},
    )


def look_at_destinations(platform: Platform, _: Sequence[str] | None) -> Look:
    """Look at every destination: what was delivered and waits does not depend on what a run did."""
    with platform.ledger.connection() as tx:
        counts, states = read_accounts(tx).destinations, health.read(tx)
    by_destination = defaultdict[To, list[DestinationCounts]](list)
    for each in counts:
        by_destination[To(each.workspace, each.destination)].append(each)
    rows = [_row(state, by_destination[To(state.workspace, state.destination)]) for state in states]
    oldest = _oldest(counts)
    return Look(
        figures={
            "destinations": sorted(rows, key=lambda row: row["waiting"], reverse=True)[:ROWS_MAX],
            **{
                name: sum(int(getattr(each, name)) for each in counts)
                for name in ("consigned", "delivered", "waiting", "dead")
            },
            "unaccounted": sum(abs(each.off) for each in counts),
            "oldest waiting seconds": oldest,
            "not working": sum(state.state is not State.CLOSED for state in states),
        },
        passed={
            ACCOUNTS_BALANCE: not any(each.off for each in counts),
            NOTHING_OVERDUE: oldest < OVERDUE_SECONDS,
        },
    )


def _row(state: Health, counts: Sequence[DestinationCounts]) -> dict[str, str | int | float]:
    return {
        "destination": state.destination,
        "state": state.state.value,
        **{
            name: sum(int(getattr(each, name)) for each in counts)
            for name in ("waiting", "delivered", "dead", "consigned")
        },
        "oldest waiting seconds": _oldest(counts),
        "reason": state.reason or "",
        "workspace": state.workspace,
    }


def _oldest(counts: Iterable[DestinationCounts]) -> float:
    return max((round(each.oldest_waiting_seconds or 0.0, 1) for each in counts), default=0.0)


def look_at_dead_letters(platform: Platform, _: Sequence[str] | None) -> Look:
    """Look at all dead letters: the reasons, and whether as many lie there as were counted."""
    with platform.ledger.transaction() as tx:
        # Of one moment, as the two are compared.
        tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        reasons = dead_by_reason(tx, limit=ROWS_MAX)
        row = tx.execute(
            "SELECT (SELECT count(*) FROM stream_dead_letters WHERE replayed_in IS NULL),"
            " (SELECT coalesce(sum(dead), 0)::bigint FROM stream_delivered)"
        ).fetchone()
    assert row is not None
    return Look(
        figures={"dead letters": row[0], "reasons": list(reasons), "counted as dead": row[1]},
        passed={LETTERS_COUNTED: row[0] == row[1]},
    )


def _span(tx: Transaction, job_ids: Sequence[str] | None) -> Span:
    """Find the hours in which jobs were accepted."""
    if job_ids is None:
        return EVERYTHING
    row = tx.execute(
        "SELECT min(accepted_at), max(accepted_at) FROM jobs WHERE id = ANY(%s)", (list(job_ids),)
    ).fetchone()
    assert row is not None
    first, last = row
    if first is None:
        # No hour at all.
        return Span(until=_LONG_AGO)
    return Span(since=hour_of(first), until=hour_of(last) + HOUR)


EVENTS = FeedAspect(
    name="processed",
    title="Events by stream, by what was decided about them and by the rules that they met.",
    checks={
        ACCOUNTS_BALANCE: "Every record that was received is rejected, dropped, sampled out or routed: one of them."
    },
    look=look_at_events,
)
DESTINATIONS = FeedAspect(
    name="destinations",
    title="Each destination: whether it takes events, how many it got, how many wait and since when.",
    checks={
        ACCOUNTS_BALANCE: "Every event that was consigned to a destination is delivered, waits, or is a dead letter.",
        NOTHING_OVERDUE: "No event has waited for its delivery for a quarter of an hour.",
    },
    look=look_at_destinations,
)
DEAD_LETTERS = FeedAspect(
    name="dead_letters",
    title="Events that a destination does not take, by the reason.",
    checks={LETTERS_COUNTED: "As many dead letters lie there as events are counted as dead."},
    look=look_at_dead_letters,
)
ASPECTS = (EVENTS, DESTINATIONS, DEAD_LETTERS)
