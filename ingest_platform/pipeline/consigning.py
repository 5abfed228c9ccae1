"""Consign: what a load stored, summed up while its frames pass, and handed to the feed when the load is settled.

What follows from it (deliveries, counters) is the feed's own matter (`Feed.consign`).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from ingest_platform.domain.feed import Ended, Feed
from ingest_platform.domain.submission import Load
from ingest_platform.pipeline.given import Given, Withdrawn
from ingest_platform.pipeline.settle import SettledJob
from ingest_platform.storage.ledger import Transaction

_NUMBERS = ("submission", "record_index")


class Consigning:
    """Sums up one load."""

    def __init__(self, feed: Feed) -> None:
        self._consign = feed.consign
        self._summaries: list[pl.DataFrame] = []

    def passing(self, frames: Iterable[Given]) -> Iterator[Given]:
        """Sum up accepted records while they pass."""
        for given in frames:
            if self._consign is not None:
                self._note(given)
            yield given

    def _note(self, given: Given) -> None:
        assert self._consign is not None
        if isinstance(given, Withdrawn):
            self._summaries = [each.filter(pl.col("submission") != given.submission) for each in self._summaries]
            return
        columns = [*_NUMBERS, *self._consign.columns]
        if isinstance(given, Path):
            scanned = pl.scan_parquet(given) if given.suffix == ".parquet" else pl.scan_ipc(given)
            frame = scanned.select(columns).collect()
        else:
            frame = given.select(columns)
        if frame.height:
            self._summaries.append(self._consign.summarise(frame))

    def write(self, tx: Transaction, load: Load, settled: Sequence[SettledJob]) -> None:
        """Hand over what was summed up, in the transaction that settles the load."""
        if self._consign is None:
            return
        summaries = pl.concat(self._summaries) if self._summaries else None
        ended = [_ended(ordinal, each) for ordinal, each in enumerate(settled)]
        self._consign.write(tx, load=load, summaries=summaries, ended=ended)


def _ended(ordinal: int, settled: SettledJob) -> Ended:
    submission, tally = settled.read.submission, settled.tally
    return Ended(
        submission=ordinal,
        job_id=submission.job_id,
        workspace=submission.workspace,
        target=submission.target,
        accepted_seq=submission.seq,
        accepted_at=submission.accepted_at,
        received=0 if tally is None else tally.received,
        accepted=0 if tally is None else tally.accepted,
        rejected=0 if tally is None else tally.rejected,
    )
