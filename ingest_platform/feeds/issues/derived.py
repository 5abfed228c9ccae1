"""What an issue's row has besides what was said: the fingerprint of its merged wording. Asked by the load."""

import polars as pl

from ingest_platform.feeds.issues.fingerprint import fingerprints
from ingest_platform.storage.ledger import Ledger


def derive(rows: pl.DataFrame, *, ledger: Ledger) -> pl.DataFrame:
    """Add `fingerprint` to merged rows."""
    del ledger
    taken = fingerprints(rows["title"], rows["body"])
    return rows.with_columns(taken["fingerprint"])
