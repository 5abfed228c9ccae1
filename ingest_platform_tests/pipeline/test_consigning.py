"""What a load stored is summed up while it passes, and handed over once in effect, with the end of its jobs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import polars as pl

from ingest_platform.domain.errors import Fault
from ingest_platform.domain.feed import Ended
from ingest_platform.domain.submission import Load
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline.consigning import Consigning
from ingest_platform.pipeline.files import land_file
from ingest_platform.pipeline.given import Withdrawn
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.ledger import Transaction
from ingest_platform_tests.pipeline.working import declare, job_of, reading, submit, work


@dataclass
class Sums:
    """Sums the values of each submission; keeps what it was handed."""

    columns: Sequence[str] = ("value",)
    given: list[dict[str, float]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    fails: bool = False

    def summarise(self, frame: pl.DataFrame) -> pl.DataFrame:
        assert frame.columns == ["submission", "record_index", *self.columns]
        return frame.group_by(pl.col("submission").cast(pl.UInt32)).agg(pl.col("value").sum())

    def write(self, tx: Transaction, *, load: Load, summaries: pl.DataFrame | None, ended: Sequence[Ended]) -> None:
        if self.fails:
            raise Fault("not now")
        assert tx.execute("SELECT %s", (load.id,)).fetchone() == (load.id,)
        jobs = {each.submission: each.job_id for each in ended}
        rows = [] if summaries is None else summaries.group_by("submission").sum().rows()
        self.given.append({jobs.get(submission, str(submission)): value for submission, value in rows})
        self.ended += ended


def test_bodies_and_files_are_handed_over_with_the_end_of_their_jobs(platform: Platform, tmp_path: Path) -> None:
    declare(platform)
    sums = Sums()
    feed = replace(FEED, consign=sums)
    small = submit(platform, reading(1.0), reading(2.0, minute=1), {"value": "x"})
    path = tmp_path / "readings.ndjson"
    path.write_text("".join(json.dumps(reading(0.5, minute=minute)) + "\n" for minute in range(10)))
    file = land_file(platform, feed, "acme", path)
    nothing = submit(platform, {"value": "x"})
    work(platform, feed)
    told = {job: value for each in sums.given for job, value in each.items()}
    assert told == {small: 3.0, file: 5.0}
    counts = {each.job_id: (each.received, each.accepted, each.rejected) for each in sums.ended}
    assert counts == {small: (3, 2, 1), file: (10, 10, 0), nothing: (1, 0, 1)}
    job = job_of(platform, small)
    (ended,) = [each for each in sums.ended if each.job_id == small]
    assert (ended.workspace, ended.target, ended.accepted_seq, ended.accepted_at) == (
        "acme",
        None,
        job.seq,
        job.accepted_at,
    )


def test_a_load_that_was_stored_and_not_settled_is_handed_over_when_it_is(platform: Platform) -> None:
    declare(platform)
    sums = Sums(fails=True)
    feed = replace(FEED, consign=sums)
    job_id = submit(platform, reading(4.0))
    work(platform, feed)
    assert sums.given == []
    sums.fails = False
    with platform.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET lease_until = NULL")
    work(platform, feed)
    assert sums.given == [{job_id: 4.0}]
    work(platform, feed)
    assert len(sums.given) == 1


def test_what_is_withdrawn_is_not_handed_over(platform: Platform) -> None:
    sums = Sums()
    consigning = Consigning(replace(FEED, consign=sums))
    frame = pl.DataFrame(
        {"submission": [0, 1], "record_index": [0, 0], "value": [1.0, 2.0]},
        schema={"submission": pl.UInt32, "record_index": pl.Int64, "value": pl.Float64},
    )
    assert list(consigning.passing([frame, Withdrawn(0)])) == [frame, Withdrawn(0)]
    with platform.ledger.transaction() as tx:
        consigning.write(tx, Load(id="load_1", feed=FEED.name, fence=1, day=date(2026, 5, 6), submissions=()), [])
    assert sums.given == [{"1": 2.0}]
