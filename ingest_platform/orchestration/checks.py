"""Asset checks: what must be true of a run's work whoever wrote it. What a record must look like is not known here."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from ingest_platform.domain.feed import FeedAspect, FoldedTable, Look, Table
from ingest_platform.orchestration.report import FATES, figures_metadata
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.report import RunReport
from ingest_platform.pipeline.staging import identity
from ingest_platform.storage.warehouse import prefix_of, quoted, records_of, rows_of

COUNTS_BALANCE = "counts_balance"
NO_DUPLICATE_KEYS = "no_duplicate_keys"
NOTHING_OVERDUE = "nothing_overdue"

# Accepted to finished takes 0.3 s; what waits a hundred times as long waits for somebody to look.
OVERDUE_SECONDS = 60.0


def check_counts(key: dg.AssetKey, done: RunReport) -> dg.AssetCheckResult:
    """Check that every record has exactly one outcome."""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=COUNTS_BALANCE,
        passed=done.balanced and done.totals["accepted"] == sum(done.totals[fate] for fate in FATES),
        metadata={name: done.totals[name] for name in ("received", "accepted", "rejected")},
    )


def check_waiting(key: dg.AssetKey, *, oldest_seconds: float | None) -> dg.AssetCheckResult:
    """Check that nothing waits for longer than it should."""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=NOTHING_OVERDUE,
        passed=oldest_seconds is None or oldest_seconds < OVERDUE_SECONDS,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"oldest waiting (s)": round(oldest_seconds or 0.0, 3), "limit (s)": OVERDUE_SECONDS},
    )


def aspect_check_specs(key: dg.AssetKey, aspect: FeedAspect) -> list[dg.AssetCheckSpec]:
    """Declare what must be true of an aspect of a feed."""
    return [dg.AssetCheckSpec(name, asset=key, description=said) for name, said in aspect.checks.items()]


def aspect_results(key: dg.AssetKey, found: Look) -> list[dg.AssetCheckResult]:
    """Tell what a look at an aspect has found; its numbers stand beside each check."""
    numbers = {name: value for name, value in found.figures.items() if isinstance(value, int | float)}
    return [
        dg.AssetCheckResult(asset_key=key, check_name=name, passed=passed, metadata=figures_metadata(numbers))
        for name, passed in found.passed.items()
    ]


def check_keys(
    key: dg.AssetKey,
    place: Workplace,
    tables: Collection[Table],
    *,
    job_ids: Sequence[str],
    days: Sequence[date],
) -> dg.AssetCheckResult:
    """Check that no key which the run touched has two rows: those of its jobs, or of whole days if any are given."""
    repeated = 0
    if job_ids or days:
        place.platform.warehouse.ensure(list(tables))
        repeated = sum(_repeated(place, table, job_ids=job_ids, days=days) for table in tables)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=NO_DUPLICATE_KEYS,
        passed=repeated == 0,
        metadata={"keys with more than one row": repeated, "jobs looked at": len(job_ids), "days": len(days)},
    )


def _repeated(place: Workplace, table: Table, *, job_ids: Sequence[str], days: Sequence[date]) -> int:
    """Count the keys with more than one row, among those that some jobs' records are of."""
    condition, values = _touched(job_ids=job_ids, days=days, prefix=prefix_of(table))
    rows = rows_of(table.name)
    # A keyed table's row is of one job; what a folded table's is made of lies beside it.
    touched = records_of(table) if isinstance(table, FoldedTable) else rows
    keys = ", ".join(quoted(name) for name in identity(table))
    query = (
        f"WITH touched AS (SELECT DISTINCT {keys} FROM {touched} WHERE {condition}) "  # noqa: S608 - names of a declaration.
        f"SELECT count(*) FROM (SELECT {keys} FROM {rows} SEMI JOIN touched USING ({keys})"
        f" GROUP BY {keys} HAVING count(*) > 1)"
    )
    return place.platform.warehouse.query(query, values).column(0)[0].as_py()


def _touched(*, job_ids: Sequence[str], days: Sequence[date], prefix: str) -> tuple[str, list[object]]:
    if not days:
        return f"{quoted(prefix + 'job_id')} IN ({', '.join('?' * len(job_ids))})", list(job_ids)
    first = datetime.combine(min(days), time.min, UTC)
    accepted_at = quoted(prefix + "accepted_at")
    return f"{accepted_at} >= ? AND {accepted_at} < ?", [
        first,
        datetime.combine(max(days), time.min, UTC) + timedelta(days=1),
    ]
