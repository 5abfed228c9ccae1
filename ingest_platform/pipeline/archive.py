"""Archive: accepted bytes of past days, compressed, out of the inbox and kept for backfills for as long as is set.

A day becomes Parquet files of its submissions; bodies that lay in blobs are compressed on the way. The order is blobs
first, then one transaction that names them and empties the inbox, then the old blobs: a crash at any point leaves
either the inbox or the archive whole, and at worst a blob that nothing names, which the next pass overwrites.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import structlog
import zstandard

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.submission import Encoding, Format, Submission
from ingest_platform.pipeline.platform import MIB, Platform
from ingest_platform.storage import inbox, jobs
from ingest_platform.storage.inbox import ArchivedDay

log = structlog.get_logger(__name__)

ARCHIVE_FOLDER = "inbox-archive"
# A part is held in memory while it is made and while a backfill reads it.
PART_BYTES_MAX = 32 * MIB
PART_SUBMISSIONS_MAX = 5_000
PAGE_SUBMISSIONS = 500
_CHUNK_BYTES = MIB

_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("job_id", "workspace", "feed", "target", "format", "encoding", "origin")),
        ("request_id", pa.string()),
        ("seq", pa.int64()),
        ("body", pa.large_binary()),
        ("blob", pa.string()),
        ("bytes_in", pa.int64()),
        ("sites", pa.list_(pa.string())),
        ("catalog_revision", pa.int64()),
        ("accepted_at", pa.timestamp("us", tz="UTC")),
    ]
)


def archive_days(platform: Platform, feeds: Sequence[Feed]) -> list[ArchivedDay]:
    """Archive every complete past day that still lies in the inbox, and drop the partitions that are empty then."""
    archived: list[ArchivedDay] = []
    for feed in feeds:
        with platform.ledger.connection() as connection:
            days = inbox.days_to_archive(connection, feed=feed.name)
        archived.extend(_archive_day(platform, feed, day) for day in days)
    with platform.ledger.transaction() as tx:
        inbox.ensure_partitions(tx, days_ahead=2)
        inbox.drop_empty_partitions(tx)
    return archived


def _archive_day(platform: Platform, feed: Feed, day: date) -> ArchivedDay:
    parts: list[str] = []
    blobs: list[str] = []
    replaced: list[str] = []
    count = size = after_seq = 0
    while page := _page(platform, feed, day, after_seq):
        moved = [_compressed(platform, feed, day, submission) for submission in page]
        blobs += [each.blob for each in moved if each.blob is not None]
        replaced += [old.blob for old, new in zip(page, moved, strict=True) if old.blob and old.blob != new.blob]
        # Named after its first submission: what comes later for the same day (a clock was set back) is another part.
        key = f"{ARCHIVE_FOLDER}/{feed.name}/{day}/part-{page[0].seq:012}.parquet"
        _write_part(platform, key, moved)
        parts.append(key)
        count, size, after_seq = count + len(page), size + sum(each.bytes_in for each in page), page[-1].seq
    done = ArchivedDay(feed=feed.name, day=day, blobs=[*parts, *blobs], submissions=count, bytes=size)
    with platform.ledger.transaction() as tx:
        inbox.move_out(tx, done)
    for key in replaced:
        platform.blobs.delete(key)
    log.info("day archived", feed=feed.name, day=str(day), submissions=count, bytes=size)
    return done


def _page(platform: Platform, feed: Feed, day: date, after_seq: int) -> list[Submission]:
    with platform.ledger.connection() as connection:
        return jobs.submissions_of_day(
            connection,
            feed=feed.name,
            day=day,
            after_seq=after_seq,
            bytes_max=PART_BYTES_MAX,
            limit=PART_SUBMISSIONS_MAX,
        )


def _compressed(platform: Platform, feed: Feed, day: date, submission: Submission) -> Submission:
    """Compress a body that lies in a blob; one that was dropped compressed stays as it is."""
    if submission.blob is None or submission.encoding is not Encoding.IDENTITY:
        return submission
    key = f"{ARCHIVE_FOLDER}/{feed.name}/{day}/{submission.job_id}.zst"
    writer = platform.blobs.writer(key)
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    try:
        with platform.blobs.open(submission.blob) as source:
            while chunk := source.read(_CHUNK_BYTES):
                writer.write(compressor.compress(chunk))
        writer.write(compressor.flush())
    except BaseException:
        writer.abort()
        raise
    writer.commit()
    return dataclasses.replace(submission, blob=key, encoding=Encoding.ZSTD)


def _write_part(platform: Platform, key: str, submissions: Sequence[Submission]) -> None:
    rows = [{name: getattr(each, name) for name in _SCHEMA.names} for each in submissions]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pylist(rows, schema=_SCHEMA), sink, compression="zstd", row_group_size=PAGE_SUBMISSIONS
    )
    writer = platform.blobs.writer(key)
    try:
        writer.write(sink.getvalue().to_pybytes())
    except BaseException:
        writer.abort()
        raise
    writer.commit()


def archived_submissions(platform: Platform, archived: ArchivedDay) -> Iterator[list[Submission]]:
    """Read an archived day page by page, in order of acceptance."""
    for key in archived.blobs:
        if not key.endswith(".parquet"):
            continue
        with platform.blobs.local_path(key) as path:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=PAGE_SUBMISSIONS):
                yield [_submission(**row) for row in batch.to_pylist()]


def _submission(*, format: str, encoding: str, sites: list[str] | None, **columns: object) -> Submission:  # noqa: A002
    return Submission(
        format=Format(format),
        encoding=Encoding(encoding),
        sites=None if sites is None else tuple(sites),
        attempts=1,
        **columns,  # type: ignore[arg-type]  # the columns are named after the fields
    )


def forget_old_days(platform: Platform, *, archive_days: int) -> int:
    """Delete archived days beyond the retention; returns how many. Their jobs and rows in the warehouse stay."""
    with platform.ledger.connection() as connection:
        old = inbox.archived_before(connection, days=archive_days)
    for archived in old:
        # The blobs go first: if this ends half-way, the row brings it back here.
        for key in archived.blobs:
            platform.blobs.delete(key)
        with platform.ledger.transaction() as tx:
            inbox.forget(tx, archived)
    return len(old)
