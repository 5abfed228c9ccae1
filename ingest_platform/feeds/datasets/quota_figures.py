"""The quotas of datasets for people and dashboards: what each workspace has used of the present month's."""

from collections.abc import Sequence

from ingest_platform.domain.feed import FeedGauge, Standing
from ingest_platform.feeds.datasets.contract import NAME
from ingest_platform.storage import quotas
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.quotas import UNLIMITED

_LABELS = ("workspace", "month")


def quota_gauges(tx: Transaction) -> Sequence[FeedGauge]:
    """Read how many records were accepted this month, and how many may be."""
    found = {(each.workspace, each.period): each for each in quotas.month_usages(tx, feed=NAME)}
    return (
        FeedGauge(
            name="ingest_datasets_quota_used_records",
            title="Records of datasets accepted this month.",
            labels=_LABELS,
            values={place: each.used for place, each in found.items()},
        ),
        FeedGauge(
            name="ingest_datasets_quota_limit_records",
            title="Records of datasets that may be accepted this month; -1 is no limit.",
            labels=_LABELS,
            values={place: UNLIMITED if each.limit is None else each.limit for place, each in found.items()},
        ),
    )


def quota_standing(tx: Transaction) -> Standing:
    """Tell the same in rows. A quota that is used up is its owner's matter, and no problem of the platform."""
    return Standing(
        title="dataset_quotas",
        rows=[
            {"workspace": each.workspace, "month": each.period, "used": each.used, "limit": each.limit}
            for each in quotas.month_usages(tx, feed=NAME)
        ],
    )
