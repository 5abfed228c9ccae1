"""A day worked again leaves the table as it was, hidden columns and all, from the inbox and from the archive."""

from datetime import date, timedelta

import pytest

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline.archive import archive_days
from ingest_platform.pipeline.backfill import work_day_again
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import inbox, jobs
from ingest_platform.storage.warehouse import rows_of
from ingest_platform_tests.making import row_of
from ingest_platform_tests.pipeline.working import (
    UNKNOWN_POINT,
    declare,
    move_to,
    reading,
    rows,
    submission,
    submit,
    values,
    work,
)


@pytest.fixture
def day(platform: Platform) -> date:
    """Take a day's submissions of every sort, two days ago, with the catalog changing in between."""
    declare(platform)
    with platform.ledger.connection() as connection:
        day = inbox.today(connection) - timedelta(days=2)
    ids = [submit(platform, reading(1), reading(2, minute=1), reading(7, minute=9))]
    declare(platform, factor=10)
    ids += [
        submit(platform, reading(3), {"no": 1}, reading(4, minute=1), reading(5, minute=1)),
        submit(platform, reading(3), reading(6, point=UNKNOWN_POINT)),
        submit(platform, reading(1, minute=2), sites=("south",)),
        submit(platform, "no reading"),
    ]
    work(platform)
    for job_id in ids:
        move_to(platform, job_id, day)
    return day


def _jobs(platform: Platform, day: date) -> list[object]:
    with platform.ledger.connection() as connection:
        ids = [job_id for (job_id,) in connection.execute("SELECT id FROM jobs WHERE day = %s ORDER BY seq", (day,))]
        return [row_of(connection, job_id) for job_id in ids]


def test_a_day_worked_again_leaves_everything_as_it_was(platform: Platform, day: date) -> None:
    before, jobs_before = rows(platform), _jobs(platform, day)
    assert len(before) == 3
    report = work_day_again(platform, FEED, day=day)
    assert rows(platform) == before
    assert _jobs(platform, day) == jobs_before
    assert report.totals["jobs"] == 5
    assert report.balanced
    assert report.totals["created"] == report.totals["updated"] == 0


def test_what_was_accepted_later_stays(platform: Platform, day: date) -> None:
    submit(platform, reading(100), reading(200, minute=1))
    work(platform)
    before = rows(platform)
    work_day_again(platform, FEED, day=day)
    assert rows(platform) == before


def test_rows_that_were_lost_come_back_as_they_were(platform: Platform, day: date) -> None:
    before = rows(platform)
    with platform.warehouse.writing(FEED.table.name, fence=10**9) as lake:
        lake.execute(f"DELETE FROM {rows_of(FEED.table.name)}")
    assert values(platform) == []
    work_day_again(platform, FEED, day=day)
    said = [
        {name: row[name] for name in ("workspace", "timestamp", "value", "raw_value", "config_version", "accepted_seq")}
        for row in rows(platform)
    ]
    assert said == [{name: row[name] for name in said[0]} for row in before]


def test_a_day_worked_again_twice_is_the_same_as_once(platform: Platform, day: date) -> None:
    before = rows(platform)
    for _ in range(2):
        work_day_again(platform, FEED, day=day)
    assert rows(platform) == before


def test_a_day_from_the_archive_is_worked_as_from_the_inbox(platform: Platform, day: date) -> None:
    before = rows(platform)
    (archived,) = archive_days(platform, [FEED])
    assert (archived.day, archived.submissions) == (day, 5)
    with platform.warehouse.writing(FEED.table.name, fence=10**9) as lake:
        lake.execute(f"DELETE FROM {rows_of(FEED.table.name)} WHERE accepted_seq < 3")
    report = work_day_again(platform, FEED, day=day)
    assert [row["value"] for row in rows(platform)] == [row["value"] for row in before]
    assert report.totals["jobs"] == 5


def test_what_had_no_effect_has_none_the_second_time(platform: Platform, day: date) -> None:
    double = submission(reading(999, minute=30))
    with platform.ledger.transaction() as tx:
        jobs.accept_duplicate(tx, double, of="job_of_another_day")
    failed = submission(reading(998, minute=31))
    with platform.ledger.transaction() as tx:
        jobs.accept_failed(tx, failed, code="too_large", message="no")
    for job_id in (double.id, failed.id):
        move_to(platform, job_id, day)
    before = rows(platform)
    report = work_day_again(platform, FEED, day=day)
    assert rows(platform) == before
    assert report.totals["jobs"] == 5


def test_a_day_without_submissions_is_no_work(platform: Platform) -> None:
    report = work_day_again(platform, FEED, day=date(2020, 1, 1))
    assert report.loads_total == 0


def test_it_stops_between_two_pages_when_it_is_told(platform: Platform, day: date) -> None:
    assert work_day_again(platform, FEED, day=day, stop=lambda: True).loads_total == 0


def test_a_day_of_many_pages_is_worked_to_its_end(
    platform: Platform, day: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_platform.pipeline.backfill.BACKFILL_SUBMISSIONS_MAX", 2)
    before = rows(platform)
    report = work_day_again(platform, FEED, day=day)
    assert (report.loads_total, report.totals["jobs"]) == (3, 5)
    assert rows(platform) == before


def test_a_day_that_is_archived_while_it_is_worked_is_worked_to_its_end(
    platform: Platform, day: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_platform.pipeline.backfill.BACKFILL_SUBMISSIONS_MAX", 2)
    before = rows(platform)

    def archive() -> bool:
        # Between the first page and the second.
        archive_days(platform, [FEED])
        return False

    report = work_day_again(platform, FEED, day=day, stop=archive)
    assert report.totals["jobs"] == 5
    assert rows(platform) == before
