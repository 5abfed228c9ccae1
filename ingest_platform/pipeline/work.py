"""Work: one load on its way gather → parse → check → load → settle, and the loop that works off a feed.

What a load does to the stores is decided in the verbs' own modules; here is their order, and what happens when one
fails. Everything may be repeated after a crash at any point: the warehouse remembers which jobs it has applied, the
ledger which worker may settle them.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import polars as pl
import structlog

from ingest_platform.domain.contract import Contract
from ingest_platform.domain.errors import Fault, LeaseLost, ParserFault, Unavailable, Unreadable
from ingest_platform.domain.feed import Feed, Table
from ingest_platform.domain.submission import Encoding, Format, Load, Submission
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.consigning import Consigning
from ingest_platform.pipeline.counting import Counting
from ingest_platform.pipeline.forgetting import Forgetting
from ingest_platform.pipeline.gather import Lease, gather, gather_exhausted
from ingest_platform.pipeline.given import Frames, Withdrawn, staging_folder
from ingest_platform.pipeline.load import StagedJob, deriving, load_records, recall
from ingest_platform.pipeline.parse import parse_many
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.references import origins_of
from ingest_platform.pipeline.report import LoadReport, RunReport, load_report
from ingest_platform.pipeline.sandbox import ReadSubmission, run_apart
from ingest_platform.pipeline.settle import ReadJob, SettledJob, decide, decide_all, settle
from ingest_platform.pipeline.telling import Telling
from ingest_platform.storage import jobs
from ingest_platform.storage.blobs import BlobFault, BlobGone
from ingest_platform.storage.ledger import Transaction

Step = TypeVar("Step")
Result = TypeVar("Result")

log = structlog.get_logger(__name__)

# The pause after a first fault of ours: long enough not to hammer a store that is away, short enough to recover within
# 10 s of a short outage. It grows by as much with each fault, so that a disk may stay full for most of an hour.
FAULT_PAUSE_SECONDS = 2.0
FAULT_PAUSE_SECONDS_MAX = 60.0
IDLE_LOOK_SECONDS = 0.25
# A load that takes longer than this notes on its way how far it is; for a shorter one nobody could look in time.
NOTED_AFTER_SECONDS = 0.5

__all__ = ["Platform", "RunReport", "work_load", "work_until_idle"]


class Stopwatch:
    """Seconds by stage. A stage within another one counts for itself only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within = 0.0

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Count the time of a with block to a stage."""
        begun, around, self._within = time.perf_counter(), self._within, 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - begun
            self.seconds[name] = self.seconds.get(name, 0.0) + took - self._within
            self._within = around + took


def work_until_idle(
    platform: Platform,
    feed: Feed,
    *,
    day: date | None,
    run_id: str,
    linger_seconds: float = 1.0,
    seconds_max: float = 60.0,
    stop: Callable[[], bool] = lambda: False,
    wait: Callable[[float], object] = time.sleep,
) -> RunReport:
    """Work off a feed's loads until nothing has come for the linger time, or the run is old enough.

    Each load has its own transactions: what is settled stays settled whatever becomes of the run. `wait` sleeps for at
    most the seconds that it is given, and may return as soon as something was landed.
    """
    report = RunReport(feed=feed.name)
    begun = idle_since = time.monotonic()
    while not stop() and time.monotonic() - begun < seconds_max:
        load = gather(platform.ledger, feed.name, limits=platform.limits, day=day, run_id=run_id)
        if load is not None:
            _work_or_put_back(platform, feed, load, run_id=run_id, report=report)
            idle_since = time.monotonic()
        elif _end_exhausted(platform, feed, run_id=run_id, report=report):
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since >= linger_seconds:
            break
        else:
            wait(min(IDLE_LOOK_SECONDS, linger_seconds))
    return report


def _work_or_put_back(platform: Platform, feed: Feed, load: Load, *, run_id: str, report: RunReport) -> None:
    try:
        report.add(work_load(platform, feed, load, run_id=run_id))
    except LeaseLost as lost:
        # Another worker has it; nothing was changed here and there is nothing to give back.
        log.warning("lease lost", load_id=load.id, reason=str(lost))
        report.faults.append(str(lost))
    except (Fault, Unavailable, OSError) as fault:
        # A disk that is full or away shows in any file that is written on the way.
        log.exception("load put back", load_id=load.id, jobs=len(load.submissions))
        report.faults.append(str(fault))
        with platform.ledger.transaction() as tx:
            jobs.defer(
                tx,
                load,
                seconds=FAULT_PAUSE_SECONDS,
                seconds_max=FAULT_PAUSE_SECONDS_MAX,
                faults_max=platform.limits.faults_max,
                blamed=fault.job_id if isinstance(fault, (ParserFault, BlobFault)) else None,
            )


def _end_exhausted(platform: Platform, feed: Feed, *, run_id: str, report: RunReport) -> bool:
    """End a submission whose attempts are used up; False if there is none.

    It fails, unless one of its workers got as far as storing it: then all that is left is to settle it.
    """
    load = gather_exhausted(platform.ledger, feed.name, limits=platform.limits)
    if load is None:
        return False
    (submission,) = load.submissions
    try:
        with Lease(platform.ledger, load, lease_seconds=platform.limits.lease_seconds):
            shape = platform.shapes.of_submission(feed, submission)
            stored = shape is not None and recall(
                platform.warehouse, table=shape.table, fence=load.fence, staged=staged_jobs(load.submissions)
            )
            if not stored:
                failed = decide(ReadJob(submission=submission, unreadable=_exhausted(submission)), None)
                _settle_failed(platform, feed, load, failed, run_id=run_id)
    except Fault as fault:
        # Its lease runs out, and then it is looked at again.
        log.exception("exhausted submission not ended", load_id=load.id, job_id=submission.job_id)
        report.faults.append(str(fault))
        return True
    if stored:
        _work_or_put_back(platform, feed, load, run_id=run_id, report=report)
    else:
        log.warning("submission given up", job_id=submission.job_id, attempts=submission.attempts)
    return True


def _settle_failed(platform: Platform, feed: Feed, load: Load, failed: SettledJob, *, run_id: str) -> None:
    counting, consigning = Counting(platform.ledger, feed), Consigning(feed)
    forgetting = Forgetting(platform, feed, load.submissions)

    def beside(tx: Transaction) -> None:
        counting.end(tx, [failed])
        consigning.write(tx, load, [failed])
        forgetting.end(tx)

    settle(platform.ledger, load, [failed], jobs.Costs(run_id=run_id), also=beside)
    forgetting.after()


def _exhausted(submission: Submission) -> Unreadable:
    message = (
        f"The submission could not be processed in {submission.attempts} attempts: each time the worker that had it"
        " ended without a result."
    )
    return Unreadable(message, code="attempts_exhausted")


def work_load(platform: Platform, feed: Feed, load: Load, *, run_id: str | None) -> LoadReport:
    """Carry one load to its end. Raises a Fault, with nothing settled, if a store refuses or the lease is lost."""
    watch = Stopwatch()
    begun, cpu_begun = time.monotonic(), time.process_time()
    with (
        structlog.contextvars.bound_contextvars(load_id=load.id),
        Lease(platform.ledger, load, lease_seconds=platform.limits.lease_seconds) as lease,
        staging_folder(platform.staging_dir, load.id) as folder,
    ):
        counting = Counting(platform.ledger, feed)
        reading = Reading(
            *(platform, feed, load.submissions), folder=folder, watch=watch, progress=lease.check, admit=counting.admit
        )
        telling = Telling(platform.ledger, feed, load.submissions)
        consigning, forgetting = Consigning(feed), Forgetting(platform, feed, load.submissions)
        with watch.stage("load"), closing(reading.frames()) as frames:
            loaded = load_records(
                platform.warehouse,
                table=reading.table,
                load_id=load.id,
                fence=load.fence,
                staged=staged_jobs(load.submissions),
                frames=telling.passing(consigning.passing(frames)),
                derive=deriving(feed, platform.ledger),
                still_ours=lambda: _holds(platform, load, begun=begun),
            )
        lease.check()
        forgetting.strip(reading.jobs)
        settled = decide_all(reading.jobs, loaded)
        costs = _costs(reading, cpu_seconds=time.process_time() - cpu_begun, run_id=run_id)

        def beside(tx: Transaction) -> None:
            counting.end(tx, settled)
            telling.announce(tx, loaded)
            consigning.write(tx, load, settled)
            forgetting.end(tx)

        with watch.stage("settle"):
            settle(platform.ledger, load, settled, costs, also=beside)
        forgetting.after()
    return _reported(feed, load, settled, watch, table=reading.table)


def _reported(feed: Feed, load: Load, settled: Sequence[SettledJob], watch: Stopwatch, *, table: Table) -> LoadReport:
    report = load_report(load, settled, seconds=watch.seconds, finished_at=datetime.now(UTC), table=table)
    _say_settled(report, feed)
    return report


def _costs(reading: "Reading", *, cpu_seconds: float, run_id: str | None) -> jobs.Costs:
    return jobs.Costs(
        validated_at=reading.ended_at,
        stored_at=datetime.now(UTC),
        cpu_ms=round(cpu_seconds * 1000),
        bytes_written=reading.bytes_given,
        run_id=run_id,
    )


def _holds(platform: Platform, load: Load, *, begun: float) -> bool:
    """Tell whether a load is still ours, when all of it has been judged and nothing is stored yet."""
    long = time.monotonic() - begun >= NOTED_AFTER_SECONDS
    with platform.ledger.connection() as connection:
        return jobs.mark_validated(connection, load) if long else jobs.holds(connection, load)


def _say_settled(report: LoadReport, feed: Feed) -> None:
    log.info(
        "load settled",
        load_id=report.load_id,
        feed=feed.name,
        jobs=report.jobs,
        accepted=report.accepted,
        rejected=report.rejected,
        seconds={stage: round(seconds, 3) for stage, seconds in report.seconds.items()},
    )


def staged_jobs(submissions: Sequence[Submission]) -> list[StagedJob]:
    """Tell the warehouse which job each submission of a load belongs to."""
    return [
        StagedJob(
            submission=ordinal,
            job_id=submission.job_id,
            workspace=submission.workspace,
            accepted_seq=submission.seq,
            accepted_at=submission.accepted_at,
            request_id=submission.request_id,
        )
        for ordinal, submission in enumerate(submissions)
    ]


class Reading:
    """The submissions of a load, parsed and checked while their frames are taken. What can't be read concerns its job.

    Small JSON bodies are read together, here; files and large bodies each in a process apart, with limits, which reads
    on while a frame of it is staged. `jobs`, in the order of the submissions, are known once all frames were taken;
    `progress` is called now and then, and what it raises ends the reading; `admit` is asked of each submission that was
    read apart, and what it returns is why it is not stored. `bytes_given` is the size of the accepted
    records as they are written to the staging table: in the warehouse's types, before the lake compresses them.
    """

    def __init__(
        self,
        platform: Platform,
        feed: Feed,
        submissions: Sequence[Submission],
        *,
        folder: Path,
        watch: Stopwatch,
        progress: Callable[[], None],
        admit: Callable[[ReadJob], Unreadable | None] = lambda _: None,
    ) -> None:
        self.jobs = [ReadJob(submission=submission) for submission in submissions]
        self.ended_at: datetime | None = None
        # By submission; those that are read here count together.
        self._bytes_given: dict[int, int] = {}
        self._platform = platform
        self._feed = feed
        self._folder = folder
        self._watch = watch
        self._progress = progress
        self._admit = admit
        # One for all, as they have one target. A target that is gone leaves no record to store.
        self._shape = platform.shapes.of_submission(feed, submissions[0])
        workspaces = {each.workspace for each in submissions}
        self._origins = origins_of(submissions, own_secrets=platform.known.secrets_of(feed, workspaces))
        self._known = platform.known.of(feed, workspaces)

    def frames(self) -> Frames:
        """Give the accepted records. To be taken to the end, or closed."""
        if self._shape is None:
            for job in self.jobs:
                job.unreadable = _no_target(job.submission)
            return
        near = {ordinal: job.submission for ordinal, job in enumerate(self.jobs) if _is_near(job.submission)}
        if near:
            accepted = self._read_near(near)
            self._bytes_given[-1] = round(accepted.estimated_size())
            yield accepted
        for ordinal in range(len(self.jobs)):
            if ordinal not in near:
                self._progress()
                yield from self._counted(ordinal, self._read_apart(ordinal))
        self.ended_at = datetime.now(UTC)

    @property
    def table(self) -> Table:
        """Tell where the records lie; those of a target that is gone, none, would lie where the feed's example does."""
        return self._feed.table if self._shape is None else self._shape.table

    @property
    def bytes_given(self) -> int:
        """Sum up what was given and not withdrawn."""
        return sum(self._bytes_given.values())

    def _counted(self, ordinal: int, frames: Frames) -> Frames:
        with closing(frames):
            for frame in frames:
                taken = frame.stat().st_size if isinstance(frame, Path) else 0
                before = 0 if isinstance(frame, Withdrawn) else self._bytes_given.get(ordinal, 0)
                self._bytes_given[ordinal] = before + taken
                yield frame

    def finish(self) -> list[ReadJob]:
        """Read everything for the verdict alone."""
        with closing(self.frames()) as frames:
            for _ in frames:
                pass
        return self.jobs

    def _read_near(self, near: Mapping[int, Submission]) -> pl.DataFrame:
        contract = self._contract
        with self._watch.stage("parse"):
            parsed, unreadable = parse_many(near, contract, envelope_key=self._feed.envelope_key)
        for ordinal, error in unreadable.items():
            self.jobs[ordinal].unreadable = error
        with self._watch.stage("check"):
            checked = check(parsed, contract, refer=self._feed.refer, origins=self._origins, known=self._known)
        for ordinal, count in parsed.counts.items():
            self.jobs[ordinal].received = count
        for rejection in checked.rejections:
            self.jobs[rejection.submission].rejections.append(rejection)
        return checked.accepted

    @property
    def _contract(self) -> Contract:
        assert self._shape is not None
        return self._shape.contract

    def _read_apart(self, ordinal: int) -> Frames:
        job = self.jobs[ordinal]
        try:
            with (
                _as_file(self._platform, job.submission, self._folder) as path,
                closing(self._running_apart(ordinal, path)) as running,
            ):
                read = yield from _timed(self._watch, "read apart", running)
        except Unreadable as error:
            job.unreadable = error
            yield Withdrawn(ordinal)
            return
        except BlobGone as gone:
            # Nothing brings it back, however often it is tried; its sender can, and has to know.
            log.exception("submission lost", job_id=job.submission.job_id, reason=str(gone))
            job.unreadable = Unreadable("The bytes of this submission are lost; send it again.", code="bytes_lost")
            yield Withdrawn(ordinal)
            return
        except (ParserFault, BlobFault) as fault:
            fault.job_id = job.submission.job_id
            raise
        job.received = read.received
        job.rejections = read.rejections
        job.unreadable = self._admit(job)
        if job.unreadable is not None:
            yield Withdrawn(ordinal)

    def _running_apart(self, ordinal: int, path: Path) -> Generator[Path | Withdrawn, None, ReadSubmission]:
        return run_apart(
            self._platform.sandbox,
            path,
            submission=self.jobs[ordinal].submission,
            ordinal=ordinal,
            feed=self._feed,
            contract=self._contract,
            origins=self._origins.filter(pl.col("submission") == ordinal),
            known=self._known,
            folder=self._folder,
            progress=self._progress,
        )


def _no_target(submission: Submission) -> Unreadable:
    return Unreadable(f"There is no {submission.feed} target {submission.target} with a schema.", code="not_found")


def _timed(watch: Stopwatch, name: str, steps: Generator[Step, None, Result]) -> Generator[Step, None, Result]:
    """Count to a stage what the steps take, and not what is done between them."""
    while True:
        with watch.stage(name):
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
        yield step


def _is_near(submission: Submission) -> bool:
    """Whether a submission is read in this process: its bytes are few, and only msgspec reads them."""
    return (
        submission.body is not None
        and submission.encoding is Encoding.IDENTITY
        and submission.format in {Format.JSON, Format.NDJSON}
    )


@contextmanager
def _as_file(platform: Platform, submission: Submission, folder: Path) -> Generator[Path]:
    if submission.blob is not None:
        with platform.blobs.local_path(submission.blob) as path:
            yield path
        return
    assert submission.body is not None
    path = folder / f"{submission.job_id}.body"
    path.write_bytes(submission.body)
    yield path
