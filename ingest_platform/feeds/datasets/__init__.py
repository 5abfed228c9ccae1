"""Datasets: records of which the owner declares the fields, held to them strictly, and asked about."""

from ingest_platform.domain.feed import DeclaredKind, Feed
from ingest_platform.feeds.datasets.applied import keep
from ingest_platform.feeds.datasets.contract import EXAMPLE_FIELDS, NAME, contract_of
from ingest_platform.feeds.datasets.dataset_look import TOUCHED
from ingest_platform.feeds.datasets.load import table_of
from ingest_platform.feeds.datasets.quota_figures import quota_gauges, quota_standing
from ingest_platform.feeds.datasets.registry import DESCRIPTION_CHARACTERS_MAX, NAME_PATTERN, TEXT_PATTERN
from ingest_platform.feeds.datasets.shapes import find_shape

FEED = Feed(
    name=NAME,
    folder="datasets",
    title="Datasets",
    job_prefix="ds_job_",
    contract=contract_of(EXAMPLE_FIELDS),
    envelope_key="records",
    rate_per_minute=6_000,
    write_scope="datasets:write",
    # The example's, which no dataset has: ids begin with 1.
    table=table_of(dataset_id=0, project="example", fields=EXAMPLE_FIELDS),
    shapes=find_shape,
    aspects=(TOUCHED,),
    quota=True,
    gauges=quota_gauges,
    standing=quota_standing,
    kinds=(
        DeclaredKind(
            section="datasets",
            id_field="name",
            id_pattern=NAME_PATTERN,
            fields={
                "project": {"type": "string", "pattern": "^[a-z0-9-]+$"},
                "description": {"type": "string", "maxLength": DESCRIPTION_CHARACTERS_MAX, "pattern": TEXT_PATTERN},
                "fields": {"type": "object"},
            },
            required=("project",),
            within="project",
            keep=keep,
        ),
    ),
)
