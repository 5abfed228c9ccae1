"""The archive: days move out of the inbox whole, come back byte for byte, and are forgotten in time."""

import dataclasses
import gzip
from datetime import date, timedelta

import pytest

from ingest_platform.domain.errors import LedgerFault
from ingest_platform.domain.submission import Encoding, Format, Submission
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline.archive import archive_days, archived_submissions, forget_old_days
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import inbox, jobs
from ingest_platform.storage.inbox import ArchivedDay
from ingest_platform_tests.making import accept, body_of, new_job
from ingest_platform_tests.pipeline.working import declare, job_of, move_to, put_blob, reading, submit, work

BLOB = "uploads/large"
PACKED_BLOB = "uploads/packed"


@pytest.fixture
def day(platform: Platform) -> date:
    """Take a body, a body that can't be read, a blob and a packed blob, two days ago."""
    declare(platform)
    with platform.ledger.connection() as connection:
        day = inbox.today(connection) - timedelta(days=2)
    body = body_of([reading(1)])
    put_blob(platform, BLOB, body)
    put_blob(platform, PACKED_BLOB, gzip.compress(body))
    made = [
        dataclasses.replace(new_job(body), sites=("north",)),
        dataclasses.replace(new_job(b"\x00\xff"), format=Format.CSV),
        dataclasses.replace(new_job(body), body=None, blob=BLOB),
        dataclasses.replace(new_job(body), body=None, blob=PACKED_BLOB, encoding=Encoding.GZIP),
    ]
    accept(platform.ledger, *made)
    work(platform)
    for each in made:
        move_to(platform, each.id, day)
    return day


def _in_inbox(platform: Platform, day: date) -> list[Submission]:
    with platform.ledger.connection() as connection:
        return jobs.submissions_of_day(connection, feed=FEED.name, day=day, after_seq=0, bytes_max=1 << 30, limit=1_000)


def _archived(platform: Platform, day: date) -> ArchivedDay:
    with platform.ledger.connection() as connection:
        found = inbox.archived_day(connection, feed=FEED.name, day=day)
    assert found is not None
    return found


def _read_back(platform: Platform, day: date) -> list[Submission]:
    return [each for page in archived_submissions(platform, _archived(platform, day)) for each in page]


def test_submissions_come_back_as_they_were_in_their_order(platform: Platform, day: date) -> None:
    before = _in_inbox(platform, day)
    (archived,) = archive_days(platform, [FEED])
    assert _in_inbox(platform, day) == []
    assert (archived.day, archived.submissions, archived.bytes) == (day, 4, sum(each.bytes_in for each in before))
    after = _read_back(platform, day)
    for old, new in zip(before, after, strict=True):
        same = ("job_id", "seq", "workspace", "feed", "format", "body", "sites", "catalog_revision", "accepted_at")
        assert [getattr(new, name) for name in same] == [getattr(old, name) for name in same]


def test_bodies_in_blobs_are_packed_once_and_their_old_blobs_are_gone(platform: Platform, day: date) -> None:
    archive_days(platform, [FEED])
    *_, large, packed = _read_back(platform, day)
    assert large.encoding is Encoding.ZSTD
    assert large.blob != BLOB
    assert not platform.blobs.exists(BLOB)
    assert (packed.encoding, packed.blob) == (Encoding.GZIP, PACKED_BLOB)
    assert platform.blobs.exists(PACKED_BLOB)


def test_jobs_of_an_archived_day_are_still_there(platform: Platform, day: date) -> None:
    (job_id, *_) = [each.job_id for each in _in_inbox(platform, day)]
    before = job_of(platform, job_id)
    archive_days(platform, [FEED])
    assert job_of(platform, job_id) == before


def test_a_day_is_archived_once_and_open_days_are_left_alone(platform: Platform, day: date) -> None:
    submit(platform, reading(1))
    still_open = submit(platform, reading(2))
    move_to(platform, still_open, day - timedelta(days=1))
    assert [each.day for each in archive_days(platform, [FEED])] == [day]
    assert archive_days(platform, [FEED]) == []
    work(platform)
    assert [each.day for each in archive_days(platform, [FEED])] == [day - timedelta(days=1)]


def test_a_day_of_many_parts_is_whole(platform: Platform, day: date, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_platform.pipeline.archive.PART_SUBMISSIONS_MAX", 3)
    before = [each.job_id for each in _in_inbox(platform, day)]
    (archived,) = archive_days(platform, [FEED])
    assert sum(key.endswith(".parquet") for key in archived.blobs) == 2
    assert [each.job_id for each in _read_back(platform, day)] == before


def test_an_archive_that_was_cut_off_is_made_again_whole(
    platform: Platform, day: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _in_inbox(platform, day)

    class Died(BaseException):
        """The process is gone."""

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr("ingest_platform.pipeline.archive.inbox.move_out", die)
        with pytest.raises(Died):
            archive_days(platform, [FEED])
    # Nothing has moved: the inbox is whole, blobs included.
    assert _in_inbox(platform, day) == before
    assert platform.blobs.exists(BLOB)
    archive_days(platform, [FEED])
    assert len(_read_back(platform, day)) == len(before)


def test_what_comes_for_an_archived_day_is_added_to_it(platform: Platform, day: date) -> None:
    before = [each.job_id for each in _in_inbox(platform, day)]
    archive_days(platform, [FEED])
    # The clock of the database was set back by days.
    late = submit(platform, reading(9))
    work(platform)
    move_to(platform, late, day)
    (archived,) = archive_days(platform, [FEED])
    assert archived.submissions == 1
    assert [each.job_id for each in _read_back(platform, day)] == [*before, late]
    assert _archived(platform, day).submissions == len(before) + 1
    assert _in_inbox(platform, day) == []


def test_a_day_that_somebody_else_has_archived_meanwhile_is_archived_once(platform: Platform, day: date) -> None:
    (archived,) = archive_days(platform, [FEED])
    with pytest.raises(LedgerFault), platform.ledger.transaction() as tx:
        inbox.move_out(tx, archived)
    assert _archived(platform, day) == archived


def test_old_days_are_forgotten_with_their_blobs(platform: Platform, day: date) -> None:
    (archived,) = archive_days(platform, [FEED])
    assert forget_old_days(platform, archive_days=2) == 0
    assert forget_old_days(platform, archive_days=1) == 1
    assert [key for key in archived.blobs if platform.blobs.exists(key)] == []
    with platform.ledger.connection() as connection:
        assert inbox.archived_day(connection, feed=FEED.name, day=day) is None
    assert forget_old_days(platform, archive_days=1) == 0
