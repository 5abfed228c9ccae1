"""Work: one load on its way gather → parse → check → load → settle, and the loop that works off a feed.

What a load does to the stores is decided in the verbs' own modules; here is their order, and what happens when one
fails. Everything may be repeated after a crash at any point: the warehouse remembers which jobs it has applied, the
ledger which worker may settle them.
"""

import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import structlog

from ingest_platform.domain.errors import Fault, LeaseLost, ParserFault, Unavailable, Unreadable
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.submission import Encoding, Format, Load, Submission
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.gather import Lease, gather, gather_exhausted
from ingest_platform.pipeline.load import StagedJob, load_records, recall
from ingest_platform.pipeline.parse import parse_many
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.references import origins_of
from ingest_platform.pipeline.report import LoadReport, RunReport, load_report
from ingest_platform.pipeline.sandbox import run_apart
from ingest_platform.pipeline.settle import ReadJob, decide, decide_all, settle
from ingest_platform.storage import jobs

log = structlog.get_logger(__name__)

# The pause after a first fault of ours: long enough not to hammer a store that is away, short enough to recover within
# 10 s of a short outage. It grows by as much with each fault, so that a disk may stay full for most of an hour.
FAULT_PAUSE_SECONDS = 2.0
FAULT_PAUSE_SECONDS_MAX = 60.0
IDLE_LOOK_SECONDS = 0.25

__all__ = ["Platform", "RunReport", "work_load", "work_until_idle"]


@dataclass(slots=True)
class ReadLoad:
    """A load as it was read: its jobs in order, and the accepted records as frames (or files of frames)."""

    jobs: list[ReadJob]
    frames: list[pl.DataFrame | Path] = field(default_factory=list[pl.DataFrame | Path])


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Count the time of a with block to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


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
                blamed=fault.job_id if isinstance(fault, ParserFault) else None,
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
            stored = recall(
                platform.warehouse, table=feed.table, fence=load.fence, staged=staged_jobs(load.submissions)
            )
            if not stored:
                failed = decide(ReadJob(submission=submission, unreadable=_exhausted(submission)), None)
                settle(platform.ledger, load, [failed], jobs.Costs(run_id=run_id))
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


def _exhausted(submission: Submission) -> Unreadable:
    message = (
        f"The submission could not be processed in {submission.attempts} attempts: each time the worker that had it"
        " ended without a result."
    )
    return Unreadable(message, code="attempts_exhausted")


def work_load(platform: Platform, feed: Feed, load: Load, *, run_id: str | None) -> LoadReport:
    """Carry one load to its end. Raises a Fault, with nothing settled, if a store refuses or the lease is lost."""
    watch = Stopwatch()
    cpu_begun = time.process_time()
    with (
        structlog.contextvars.bound_contextvars(load_id=load.id),
        Lease(platform.ledger, load, lease_seconds=platform.limits.lease_seconds) as lease,
        staging_folder(platform, load.id) as folder,
    ):
        read = read_load(platform, feed, load.submissions, folder=folder, watch=watch, progress=lease.check)
        validated_at = datetime.now(UTC)
        with watch.stage("load"):
            loaded = load_records(
                platform.warehouse,
                table=feed.table,
                load_id=load.id,
                fence=load.fence,
                staged=staged_jobs(load.submissions),
                frames=read.frames,
                still_ours=lambda: _holds(platform, load),
            )
        lease.check()
        stored_at = datetime.now(UTC)
        settled = decide_all(read.jobs, loaded)
        costs = jobs.Costs(
            validated_at=validated_at,
            stored_at=stored_at,
            cpu_ms=round((time.process_time() - cpu_begun) * 1000),
            run_id=run_id,
        )
        with watch.stage("settle"):
            settle(platform.ledger, load, settled, costs)
    report = load_report(load, settled, seconds=watch.seconds, finished_at=datetime.now(UTC))
    _say_settled(report, feed)
    return report


def _holds(platform: Platform, load: Load) -> bool:
    with platform.ledger.connection() as connection:
        return jobs.holds(connection, load)


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
        )
        for ordinal, submission in enumerate(submissions)
    ]


@contextmanager
def staging_folder(platform: Platform, name: str) -> Generator[Path]:
    """Make a folder for frames between parser and warehouse; it is gone afterwards, whatever happened."""
    folder = platform.staging_dir / name
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_load(
    platform: Platform,
    feed: Feed,
    submissions: Sequence[Submission],
    *,
    folder: Path,
    watch: Stopwatch,
    progress: Callable[[], None],
) -> ReadLoad:
    """Parse and check every submission of a load. What can't be read concerns its own job only.

    Small JSON bodies are read together, here; files and large bodies each in a process apart, with limits.
    """
    read = ReadLoad(jobs=[ReadJob(submission=submission) for submission in submissions])
    near = {ordinal: each for ordinal, each in enumerate(submissions) if _is_near(each)}
    origins = origins_of(submissions)
    known = platform.known.of(feed, {each.workspace for each in submissions})
    if near:
        with watch.stage("parse"):
            parsed, unreadable = parse_many(near, feed.contract, envelope_key=feed.envelope_key)
        for ordinal, error in unreadable.items():
            read.jobs[ordinal].unreadable = error
        with watch.stage("check"):
            checked = check(parsed, feed.contract, refer=feed.refer, origins=origins, known=known)
        read.frames.append(checked.accepted)
        for ordinal, count in parsed.counts.items():
            read.jobs[ordinal].received = count
        for rejection in checked.rejections:
            read.jobs[rejection.submission].rejections.append(rejection)
    with watch.stage("read apart"):
        for ordinal in range(len(submissions)):
            if ordinal not in near:
                progress()
                _read_apart(
                    platform, feed, read, ordinal, origins=origins, known=known, folder=folder, progress=progress
                )
    return read


def _is_near(submission: Submission) -> bool:
    """Whether a submission is read in this process: its bytes are few, and only msgspec reads them."""
    return (
        submission.body is not None
        and submission.encoding is Encoding.IDENTITY
        and submission.format in {Format.JSON, Format.NDJSON}
    )


def _read_apart(
    platform: Platform,
    feed: Feed,
    read: ReadLoad,
    ordinal: int,
    *,
    origins: pl.DataFrame,
    known: pl.DataFrame,
    folder: Path,
    progress: Callable[[], None],
) -> None:
    job = read.jobs[ordinal]
    with _as_file(platform, job.submission, folder) as path:
        try:
            staged = run_apart(
                platform.sandbox,
                path,
                submission=job.submission,
                ordinal=ordinal,
                feed=feed,
                origins=origins.filter(pl.col("submission") == ordinal),
                known=known,
                folder=folder,
                progress=progress,
            )
        except Unreadable as error:
            job.unreadable = error
            return
        except ParserFault as fault:
            fault.job_id = job.submission.job_id
            raise
    job.received = staged.received
    job.rejections = list(staged.rejections)
    read.frames.extend(staged.files)


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
