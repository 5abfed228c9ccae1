"""What is used of quotas, and their limits, are shown by workspace and month."""

from ingest_platform.feeds.datasets import FEED
from ingest_platform.feeds.datasets.quota_figures import quota_gauges, quota_standing
from ingest_platform.storage import quotas, workspaces
from ingest_platform.storage.ledger import Ledger


def test_what_is_used_and_what_may_be_is_told_of_every_workspace_that_has_either(ledger: Ledger) -> None:
    given = {"bounded": {FEED.name: 10}, "closed": {FEED.name: 0}, "free": {FEED.name: -1}, "idle": {}, "open": {}}
    with ledger.transaction() as tx:
        for name, limits in given.items():
            workspaces.put(tx, workspaces.Workspace(name=name, quotas=limits))
        for name, records in (("bounded", 7), ("open", 3), ("free", 5)):
            quotas.reserve(tx, workspace=name, feed=FEED.name, records=records)
        # Another feed's, and another month's.
        quotas.reserve(tx, workspace="idle", feed="issues", records=9)
        tx.execute("INSERT INTO quota_usage VALUES ('idle', %s, '2020-01', 4)", (FEED.name,))
        standing, gauges = quota_standing(tx), quota_gauges(tx)
        month = quotas.usage(tx, workspace="open", feed=FEED.name).period
    expected = {"bounded": (7, 10), "closed": (0, 0), "free": (5, None), "open": (3, None)}
    assert [(row["workspace"], row["month"], row["used"], row["limit"]) for row in standing.rows] == [
        (name, month, *figures) for name, figures in expected.items()
    ]
    assert not standing.problems
    used, limit = gauges
    assert used.values == {(name, month): count for name, (count, _) in expected.items()}
    assert limit.values == {(name, month): -1 if most is None else most for name, (_, most) in expected.items()}
    assert used.labels == limit.labels == ("workspace", "month")
