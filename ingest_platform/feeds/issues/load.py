"""Where issues lie in the warehouse: one row an issue, folded from all that its source ever said about it."""

from ingest_platform.domain.feed import Column, FoldedTable
from ingest_platform.feeds.issues.contract import SEVERITY_DEFAULT

TABLE = FoldedTable(
    name="issues",
    columns=(
        Column(name="issue_id", type="VARCHAR"),
        Column(name="key_hash", type="BIGINT"),
        Column(name="source", type="VARCHAR"),
        Column(name="source_raw", type="VARCHAR"),
        Column(name="source_key", type="VARCHAR"),
        Column(name="external_id", type="VARCHAR"),
        Column(name="title", type="VARCHAR", nullable=True),
        Column(name="body", type="VARCHAR", nullable=True),
        Column(name="severity", type="VARCHAR", nullable=True),
        Column(name="team", type="VARCHAR", nullable=True),
        Column(name="external_url", type="VARCHAR", nullable=True),
        Column(name="source_created_at", type="TIMESTAMPTZ", nullable=True),
        Column(name="source_updated_at", type="TIMESTAMPTZ", nullable=True),
        Column(name="connector_id", type="VARCHAR", nullable=True),
        Column(name="metadata", type="VARCHAR", nullable=True),
    ),
    key=("source_key", "external_id"),
    identity="key_hash",
    # `source` is a function of the key, so giving it again says nothing new.
    given=(
        *("source_raw", "title", "body", "severity", "team", "external_url"),
        *("source_created_at", "source_updated_at", "connector_id", "metadata"),
    ),
    newer="source_updated_at",
    defaults={"severity": SEVERITY_DEFAULT},
    # Of an issue that was never given a title.
    fallbacks={"title": "external_id"},
    derived=(Column(name="fingerprint", type="VARCHAR"),),
)
