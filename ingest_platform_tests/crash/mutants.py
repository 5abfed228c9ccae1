"""Defects that the crash test must see, each planted by replacing one step of the platform inside a test's process.

No product code knows of them: `armed.py` plants one before it becomes the API or a worker.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import Exceeded
from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.issues.patterns import Book
from ingest_platform.feeds.stream_events.delivering import sending
from ingest_platform.feeds.stream_events.delivering.deliveries import Claimed
from ingest_platform.feeds.stream_events.delivering.items import Placed
from ingest_platform.feeds.stream_events.delivering.retrying import Attempt
from ingest_platform.feeds.stream_events.destinations.destination import Destination
from ingest_platform.pipeline import load
from ingest_platform.pipeline.land import Lander, Landing
from ingest_platform.storage import forgotten, jobs, outcomes, quota_decisions
from ingest_platform.storage.jobs import Accepted
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.quotas import Demand

_FENCED = "jobs.fence = %(fence)s AND jobs.load_id = %(load_id)s AND jobs.state = 'processing'"


def no_fence() -> None:
    """Let whoever comes settle a job, however long ago it lost it."""
    unfenced = jobs._SETTLE.replace(_FENCED, "true")
    assert unfenced != jobs._SETTLE, "the fence is written otherwise now; the mutant must follow"
    jobs._SETTLE = unfenced


def torn_settle() -> None:
    """End a job in one transaction and write its outcomes in the next, instead of both in one."""
    put = outcomes.put

    def torn(tx: Transaction, settled: Sequence[outcomes.JobOutcomes]) -> None:
        tx.execute("COMMIT")
        reach("settle.before_commit")
        tx.execute("BEGIN")
        put(tx, settled)

    outcomes.put = torn


def forgetful_load() -> None:
    """Load records without remembering in the same transaction that it was done."""

    def forget(*_: object, **__: object) -> None:
        return

    load._remember = forget


def early_answer() -> None:
    """Acknowledge a submission while it is still being written."""
    land = Lander.land

    async def acknowledge(self: Lander, landing: Landing) -> Accepted:
        # Its key is let go with the answer, so nothing can be kept under it any more.
        writing = asyncio.create_task(land(self, replace(landing, also=None)))
        self.__dict__.setdefault("writing", set()).add(writing)
        now = datetime.now(UTC)
        return Accepted(id=landing.job.id, seq=0, accepted_at=now, day=now.date())

    Lander.land = acknowledge


def no_fsync() -> None:
    """Leave what was written to files to the mercy of the page cache."""
    fsync = os.fsync

    def only_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            fsync(descriptor)

    os.fsync = only_folders


def patternless() -> None:
    """Store issues whose wording belongs to no pattern."""

    def leave(*_: object) -> None:
        return

    Book.assign = leave


def counted_again() -> None:
    """Count the records of a file whenever it is worked, and not only once."""
    decide_once = quota_decisions.decide_once

    def decide_again(tx: Transaction, demand: Demand, *, job_id: str, say: Callable[[Exceeded], str]) -> str | None:
        tx.execute("DELETE FROM quota_decisions WHERE job_id = %s", (job_id,))
        return decide_once(tx, demand, job_id=job_id, say=say)

    quota_decisions.decide_once = decide_again


def unforgotten() -> None:
    """Keep the bodies of events that are masked."""

    def keep(*_: object) -> None:
        return

    forgotten.forget_bytes = keep


def sent_anew() -> None:
    """Give a delivery another id whenever it is sent, so that its destination can't know it again."""
    send = sending._send

    def send_anew(claimed: Claimed, items: list[Placed], destination: Destination) -> Attempt:
        return send(replace(claimed, id=new_id("dlv_")), items, destination)

    sending._send = send_anew


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (
        *(no_fence, torn_settle, forgetful_load, early_answer, no_fsync, patternless, counted_again),
        *(unforgotten, sent_anew),
    )
}
