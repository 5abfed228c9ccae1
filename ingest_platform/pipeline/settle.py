"""Settle: outcomes of every record, the tally and the end of each job, in one transaction that the fence guards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.outcome import Outcome, Tally
from ingest_platform.domain.rejection import Rejection
from ingest_platform.domain.submission import Load, Submission
from ingest_platform.pipeline.announce import announce_jobs
from ingest_platform.pipeline.load import LoadedJob
from ingest_platform.storage import jobs, outcomes
from ingest_platform.storage.ledger import Ledger, Transaction


@dataclass(slots=True, kw_only=True)
class ReadJob:
    """What reading one submission gave: its records counted and the rejected ones, or why it can't be read."""

    submission: Submission
    received: int = 0
    rejections: list[Rejection] = field(default_factory=list[Rejection])
    unreadable: Unreadable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledJob:
    """How a job ended: with a tally, or with the reason for which it could not be read."""

    read: ReadJob
    codes: bytes
    tally: Tally | None


def decide(read: ReadJob, loaded: LoadedJob | None) -> SettledJob:
    """Give every record of a job its one outcome, and sum them up."""
    if read.unreadable is not None:
        return SettledJob(read=read, codes=b"", tally=None)
    codes = np.full(read.received, Outcome.REJECTED, dtype=np.uint8)
    stored = 0
    if loaded is not None:
        codes[loaded.record_index] = loaded.outcome
        stored = len(loaded.record_index)
    # Every record was either rejected with reasons or has a fate in the warehouse; anything else is a defect of ours.
    assert stored + len(read.rejections) == read.received, (read.submission.job_id, stored, read.received)
    counts = np.bincount(codes, minlength=len(Outcome))
    named = {outcome.word: int(counts[outcome]) for outcome in Outcome}
    return SettledJob(read=read, codes=codes.tobytes(), tally=Tally.of(received=read.received, **named))


def decide_all(reads: Sequence[ReadJob], loaded: Mapping[str, LoadedJob]) -> list[SettledJob]:
    """Decide every job of a load."""
    return [decide(read, loaded.get(read.submission.job_id)) for read in reads]


def settle(
    ledger: Ledger,
    load: Load,
    settled: Sequence[SettledJob],
    costs: jobs.Costs,
    *,
    also: Callable[[Transaction], None] = lambda _: None,
) -> None:
    """End the jobs of a load, and announce that. Raises LeaseLost, changing nothing, if another worker owns it by now.

    `also` is what else is to be written if and only if the load is settled.
    """
    reach("settle.before_commit")
    with ledger.transaction() as tx:
        # The fence comes first: whoever has lost must not even collide with the outcomes that the winner wrote.
        jobs.settle(tx, load, [_settlement(each) for each in settled], costs)
        outcomes.put(
            tx,
            [
                outcomes.JobOutcomes(
                    job_id=each.read.submission.job_id, codes=each.codes, rejections=each.read.rejections
                )
                for each in settled
                if each.tally is not None
            ],
        )
        announce_jobs(tx, {each.job_id: each.workspace for each in load.submissions})
        also(tx)
    reach("settle.after_commit")


def _settlement(settled: SettledJob) -> jobs.Settlement:
    unreadable = settled.read.unreadable
    return jobs.Settlement(
        job_id=settled.read.submission.job_id,
        tally=settled.tally,
        error_code=unreadable.code if unreadable else None,
        error_message=str(unreadable) if unreadable else None,
    )
