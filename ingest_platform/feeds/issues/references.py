"""What a record says beyond its fields: which issue it is about, and the source's word in our list."""

import polars as pl

from ingest_platform.feeds.issues.contract import SEVERITIES
from ingest_platform.feeds.issues.identity import identify, source_key_of

CUSTOM = "custom_api"
SOURCES = (
    *("jira", "servicenow", "github", "pagerduty", "opsgenie", "linear", "zendesk"),
    *("slack", "email", "database", CUSTOM),
)
_PROBLEMS_SCHEMA = {
    "submission": pl.UInt32(),
    "record_index": pl.Int64(),
    "code": pl.String(),
    "field": pl.String(),
    "message": pl.String(),
}
_P_WORDS = {name: word for word, name in SEVERITIES.items()}


def severity_of(sent: str) -> str:
    """Reduce either way to say a severity to the stored one.

    >>> severity_of("critical"), severity_of("p1")
    ('p1', 'p1')
    """
    return _P_WORDS.get(sent, sent)


def known_source(source_key: str) -> str:
    """Tell the source as it is shown: a known word, or custom_api.

    >>> known_source("jira"), known_source("our crm")
    ('jira', 'custom_api')
    """
    return source_key if source_key in SOURCES else CUSTOM


def refer(frame: pl.DataFrame, *, origins: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Add `issue_id`, `key_hash`, `source_raw` (as sent), `source_key`; `source` and `severity` in our words."""
    del known
    workspaces = dict(origins.select(pl.col("submission"), pl.col("workspace")).iter_rows())
    sources = {sent: source_key_of(sent) for sent in frame["source"].unique().to_list()}
    keys = [sources[sent] for sent in frame["source"].to_list()]
    identified = [
        identify(workspaces[submission], key, external_id)
        for submission, key, external_id in zip(
            frame["submission"].to_list(), keys, frame["external_id"].to_list(), strict=True
        )
    ]
    found = frame.with_columns(
        pl.col("source").alias("source_raw"),
        pl.Series("source", [known_source(key) for key in keys], dtype=pl.String),
        pl.col("severity").replace(_P_WORDS),
        # A title that only repeats the external id is one that was left out: an issue that has a better one keeps it.
        pl.when(pl.col("title") != pl.col("external_id")).then(pl.col("title")),
        pl.Series("source_key", keys, dtype=pl.String),
        pl.Series("issue_id", [issue_id for issue_id, _ in identified], dtype=pl.String),
        pl.Series("key_hash", [key_hash for _, key_hash in identified], dtype=pl.Int64),
    )
    return found, pl.DataFrame(schema=_PROBLEMS_SCHEMA)
