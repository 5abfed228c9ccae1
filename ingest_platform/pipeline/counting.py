"""Records of files, counted against their workspace's quota once they were read and before any of them is stored.

What comes by HTTP was counted when it was landed (`land.py`). A file of which not all good records fit is not stored.
"""

from collections.abc import Sequence

from ingest_platform.domain.errors import Exceeded, Unreadable
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.job import Origin
from ingest_platform.pipeline.settle import ReadJob, SettledJob
from ingest_platform.storage import quota_decisions
from ingest_platform.storage.ledger import Ledger, Transaction
from ingest_platform.storage.quotas import Demand


class Counting:
    """Counts the records of the files of one load."""

    def __init__(self, ledger: Ledger, feed: Feed) -> None:
        self._ledger = ledger
        self._feed = feed

    def admit(self, read: ReadJob) -> Unreadable | None:
        """Count the good records of a submission that was read; why it can't be stored, if they do not fit."""
        submission = read.submission
        records = read.received - len(read.rejections)
        if not self._counts(submission.origin) or records == 0:
            return None
        demand = Demand(workspace=submission.workspace, feed=self._feed.name, records=records)
        with self._ledger.transaction() as tx:
            refusal = quota_decisions.decide_once(tx, demand, job_id=submission.job_id, say=_say)
        return None if refusal is None else Unreadable(refusal, code="quota_exceeded")

    def end(self, tx: Transaction, settled: Sequence[SettledJob]) -> None:
        """Keep what was counted of jobs that end with a tally, and give back what was of those that fail."""
        ended = {
            each.read.submission.job_id: each.tally is not None
            for each in settled
            if self._counts(each.read.submission.origin)
        }
        if ended:
            quota_decisions.forget(tx, ended)

    def _counts(self, origin: str) -> bool:
        return self._feed.quota and origin == Origin.FILE


def _say(exceeded: Exceeded) -> str:
    left = f"{exceeded.remaining} of {exceeded.limit} are left in {exceeded.period}"
    return (
        f"The quota is exceeded: the file has {exceeded.requested} good records, and {left}. Nothing of it was stored."
    )
