"""Backfill: a day of acceptance worked again, from the inbox or the archive. It leaves the tables as they were.

No job changes: terminal is terminal. Each submission is judged by the catalog that stood when it was accepted and has
its old place in the order of acceptance, so whatever was stored later stays.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime

import structlog

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.ids import new_id
from ingest_platform.domain.submission import Load, Submission
from ingest_platform.pipeline.archive import archived_submissions
from ingest_platform.pipeline.given import staging_folder
from ingest_platform.pipeline.load import deriving, load_records
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.report import LoadReport, RunReport, load_report
from ingest_platform.pipeline.settle import decide_all
from ingest_platform.pipeline.shapes import by_target
from ingest_platform.pipeline.work import Reading, Stopwatch, staged_jobs
from ingest_platform.storage import inbox, jobs
from ingest_platform.storage.inbox import ArchivedDay

log = structlog.get_logger(__name__)

BACKFILL_PREFIX = "again_"
# A quarter of a live load: the table's lock is held for less than a second, so live loads wait no longer than that.
BACKFILL_BYTES_MAX = 16 * 1024 * 1024
BACKFILL_SUBMISSIONS_MAX = 500


def work_day_again(
    platform: Platform,
    feed: Feed,
    *,
    day: date,
    run_id: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Work every submission of a day that had an effect again, in order of acceptance."""
    report = RunReport(feed=feed.name)
    for submissions in _pages(platform, feed, day):
        if stop():
            break
        with platform.ledger.connection() as connection:
            effective = jobs.with_effect(connection, [each.job_id for each in submissions])
        page = [each for each in submissions if each.job_id in effective]
        if not page:
            continue
        for part in by_target(page).values():
            report.add(_work_again(platform, feed, day, part))
    log.info("day worked again", feed=feed.name, day=str(day), run_id=run_id, loads=report.loads_total)
    return report


def _work_again(platform: Platform, feed: Feed, day: date, page: Sequence[Submission]) -> LoadReport:
    watch = Stopwatch()
    with platform.ledger.transaction() as tx:
        fence = jobs.next_fence(tx)
    load = Load(id=new_id(BACKFILL_PREFIX), feed=feed.name, fence=fence, day=day, submissions=page)
    with staging_folder(platform.staging_dir, load.id) as folder:
        reading = Reading(platform, feed, page, folder=folder, watch=watch, progress=lambda: None)
        with watch.stage("load"), closing(reading.frames()) as frames:
            loaded = load_records(
                platform.warehouse,
                table=reading.table,
                load_id=load.id,
                fence=fence,
                staged=staged_jobs(page),
                frames=frames,
                derive=deriving(feed, platform.ledger),
                again=True,
            )
    settled = decide_all(reading.jobs, loaded)
    return load_report(load, settled, seconds=watch.seconds, finished_at=datetime.now(UTC), table=reading.table)


def _pages(platform: Platform, feed: Feed, day: date) -> Iterator[Sequence[Submission]]:
    archived = _archived(platform, feed, day)
    if archived is not None:
        yield from archived_submissions(platform, archived)
    after_seq = 0
    while page := _inbox_page(platform, feed, day, after_seq):
        yield page
        after_seq = page[-1].seq
    # Where the inbox seems to end, the day may have been archived meanwhile: the rest of it is there.
    if archived is None and (archived := _archived(platform, feed, day)) is not None:
        for page in archived_submissions(platform, archived):
            if rest := [each for each in page if each.seq > after_seq]:
                yield rest


def _archived(platform: Platform, feed: Feed, day: date) -> ArchivedDay | None:
    with platform.ledger.connection() as connection:
        return inbox.archived_day(connection, feed=feed.name, day=day)


def _inbox_page(platform: Platform, feed: Feed, day: date, after_seq: int) -> Sequence[Submission]:
    with platform.ledger.connection() as connection:
        return jobs.submissions_of_day(
            connection,
            feed=feed.name,
            day=day,
            after_seq=after_seq,
            bytes_max=BACKFILL_BYTES_MAX,
            limit=BACKFILL_SUBMISSIONS_MAX,
        )
