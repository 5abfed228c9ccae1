"""What an issue's row has besides what was said: the fingerprint of its merged wording, which belongs to a pattern."""

import polars as pl

from ingest_platform.feeds.issues.fingerprint import fingerprints
from ingest_platform.feeds.issues.patterns import book_of
from ingest_platform.storage.ledger import Ledger


def derive(rows: pl.DataFrame, *, ledger: Ledger) -> pl.DataFrame:
    """Add `fingerprint` to merged rows; each belongs to a pattern of its workspace when this returns.

    It is asked before the rows are committed. If they never are, the ledger knows a wording that no issue has; such a
    pattern is not shown. Raises LedgerFault.
    """
    taken = fingerprints(rows["title"], rows["body"])
    told = taken.with_columns(rows["workspace"]).unique(maintain_order=True)
    book = book_of(ledger)
    for (workspace,), wordings in told.group_by("workspace", maintain_order=True):
        book.assign(ledger, str(workspace), dict(wordings.select("fingerprint", "wording").iter_rows()))
    return rows.with_columns(taken["fingerprint"])
