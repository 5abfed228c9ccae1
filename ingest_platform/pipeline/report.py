"""What a load and a run have to say of themselves: counts, reasons, seconds. How it is shown is not known here."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ingest_platform.domain.feed import Table
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.submission import Load
from ingest_platform.pipeline.settle import SettledJob

# Enough to follow a link from a run to its jobs; all of them are in the ledger under the load's id.
JOB_IDS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """One load: its jobs and records, the reasons of rejections by code, and the seconds of each stage."""

    load_id: str
    jobs: int
    job_ids: tuple[str, ...]
    failed_jobs: int
    received: int
    accepted: int
    rejected: int
    created: int
    updated: int
    unchanged: int
    stale: int
    superseded: int
    duplicate: int
    bytes: int
    reasons: dict[str, int]
    seconds: dict[str, float]
    finished_at: datetime
    table: Table | None = None


@dataclass(slots=True, kw_only=True)
class RunReport:
    """A run: its loads in order, and the sums over them."""

    feed: str
    loads: list[LoadReport] = field(default_factory=list[LoadReport])
    # Loads beyond the ones kept here are in the sums all the same.
    loads_total: int = 0
    totals: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    seconds: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])
    # The tables that were written, by name; of more than are kept here, the first.
    tables: dict[str, Table] = field(default_factory=dict[str, Table])

    LOADS_KEPT_MAX = 200
    TABLES_KEPT_MAX = 200

    def add(self, load: LoadReport) -> None:
        """Add a load to the run."""
        self.loads_total += 1
        if len(self.loads) < self.LOADS_KEPT_MAX:
            self.loads.append(load)
        if load.table is not None and len(self.tables) < self.TABLES_KEPT_MAX:
            self.tables[load.table.name] = load.table
        for name in ("jobs", "failed_jobs", "received", "accepted", "rejected", "bytes", *_FATES):
            self.totals[name] += getattr(load, name)
        self.reasons.update(load.reasons)
        for stage, seconds in load.seconds.items():
            # Counter is typed for integers, but sums floats as well.
            self.seconds[stage] += seconds  # type: ignore[assignment]

    @property
    def balanced(self) -> bool:
        """Whether received = accepted + rejected over all loads."""
        return self.totals["received"] == self.totals["accepted"] + self.totals["rejected"]


_FATES = tuple(outcome.word for outcome in Outcome if outcome is not Outcome.REJECTED)


def load_report(
    load: Load,
    settled: Iterable[SettledJob],
    *,
    seconds: dict[str, float],
    finished_at: datetime,
    table: Table | None = None,
) -> LoadReport:
    """Sum up a load from its settled jobs."""
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    jobs = list(settled)
    for job in jobs:
        if job.tally is None:
            totals["failed_jobs"] += 1
            continue
        for name in ("received", "accepted", "rejected", *_FATES):
            totals[name] += getattr(job.tally, name)
        reasons.update(rejection.problems[0].code for rejection in job.read.rejections)
    return LoadReport(
        load_id=load.id,
        jobs=len(jobs),
        job_ids=tuple(job.read.submission.job_id for job in jobs[:JOB_IDS_MAX]),
        bytes=sum(submission.bytes_in for submission in load.submissions),
        reasons=dict(reasons),
        seconds=seconds,
        finished_at=finished_at,
        table=table,
        **{name: totals[name] for name in ("failed_jobs", "received", "accepted", "rejected", *_FATES)},
    )
