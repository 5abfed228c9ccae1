"""What was decided of submissions whose records are counted only when they are read: once each, whoever works on them.

How a quota is kept is not known here (`quotas.py`).
"""

from collections.abc import Callable, Mapping

from ingest_platform.domain.errors import Exceeded
from ingest_platform.storage import quotas
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.quotas import Demand, Reserved


def decide_once(tx: Transaction, demand: Demand, *, job_id: str, say: Callable[[Exceeded], str]) -> str | None:
    """Reserve a job's records, unless that was decided before; None if they fit, else why not, in the words of `say`.

    Of two who decide for one job at once, the second waits here and is told what the first has decided.
    """
    first = tx.execute(
        "INSERT INTO quota_decisions (job_id, workspace, feed, records) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING true",
        (job_id, demand.workspace, demand.feed, demand.records),
    ).fetchone()
    if first is None:
        row = tx.execute("SELECT refusal FROM quota_decisions WHERE job_id = %s", (job_id,)).fetchone()
        assert row is not None, job_id
        return row[0]
    told = quotas.reserve(tx, workspace=demand.workspace, feed=demand.feed, records=demand.records)
    period = told.period if isinstance(told, Reserved) else None
    refusal = None if isinstance(told, Reserved) else say(told)
    tx.execute("UPDATE quota_decisions SET period = %s, refusal = %s WHERE job_id = %s", (period, refusal, job_id))
    return refusal


def forget(tx: Transaction, stored: Mapping[str, bool]) -> None:
    """Forget the decisions about jobs that end now; what was reserved for one that stored nothing is refunded."""
    rows = tx.execute(
        "DELETE FROM quota_decisions WHERE job_id = ANY(%s) RETURNING job_id, workspace, feed, records, period",
        (sorted(stored),),
    ).fetchall()
    for job_id, workspace, feed, records, period in sorted(rows):
        if period is not None and not stored[job_id]:
            quotas.refund(tx, Reserved(workspace=workspace, feed=feed, period=period, records=records))
