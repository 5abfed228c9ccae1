"""Asset checks find what they are there to find."""

from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.ids import new_id
from ingest_platform.feeds import issues
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.checks import check_counts, check_keys, check_waiting
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.report import RunReport
from ingest_platform.storage.warehouse import rows_of
from ingest_platform_tests.making import accept, body_of, make_workspace, new_job
from ingest_platform_tests.pipeline.working import declare, reading, submit, work

KEY = dg.AssetKey(["machine_data", "readings"])


def report(**totals: int) -> RunReport:
    made = RunReport(feed=FEED.name)
    made.totals.update(totals)
    return made


@pytest.mark.parametrize(
    ("totals", "passed"),
    [
        ({}, True),
        ({"received": 3, "accepted": 2, "rejected": 1, "created": 1, "stale": 1}, True),
        ({"received": 3, "accepted": 2, "rejected": 0, "created": 2}, False),
        ({"received": 3, "accepted": 2, "rejected": 1, "created": 1}, False),
    ],
)
def test_a_record_without_an_outcome_is_found(totals: dict[str, int], *, passed: bool) -> None:
    assert check_counts(KEY, report(**totals)).passed is passed


@pytest.mark.parametrize(("oldest", "passed"), [(None, True), (59.0, True), (61.0, False)])
def test_what_waits_for_more_than_a_minute_is_found(oldest: float | None, *, passed: bool) -> None:
    assert check_waiting(KEY, oldest_seconds=oldest).passed is passed


def double(place: Workplace, feed: Feed = FEED) -> None:
    """Write every row a second time, as no load ever does."""
    table = rows_of(feed.table.name)
    with place.platform.warehouse.writing(feed.table.name, fence=1_000_000) as transaction:
        transaction.execute(f"INSERT INTO {table} SELECT * FROM {table}")


def test_a_key_with_two_rows_is_found_by_job_and_by_day(place: Workplace) -> None:
    declare(place.platform)
    job_id = submit(place.platform, reading(), reading(2.0, minute=1))
    work(place.platform)
    today = datetime.now(UTC).date()
    assert check_keys(KEY, place, [FEED.table], job_ids=[job_id], days=[]).passed
    assert check_keys(KEY, place, [FEED.table], job_ids=[], days=[today]).passed
    double(place)
    assert not check_keys(KEY, place, [FEED.table], job_ids=[job_id], days=[]).passed
    assert not check_keys(KEY, place, [FEED.table], job_ids=[], days=[today]).passed
    # What other jobs did is not this run's.
    assert check_keys(KEY, place, [FEED.table], job_ids=["job_other"], days=[]).passed


def test_an_issue_with_two_rows_is_found_by_every_job_that_said_anything_of_it(place: Workplace) -> None:
    make_workspace(place.platform.ledger)
    issue = {"source": "jira", "external_id": "A-1", "title": "Login fails"}
    body = body_of([issue], envelope_key=issues.FEED.envelope_key)
    sent = [replace(new_job(body, feed=issues.FEED.name), id=new_id(issues.FEED.job_prefix)) for _ in range(2)]
    accept(place.platform.ledger, *sent)
    work(place.platform, issues.FEED)
    assert check_keys(KEY, place, [issues.FEED.table], job_ids=[each.id for each in sent], days=[]).passed
    double(place, issues.FEED)
    for each in sent:
        assert not check_keys(KEY, place, [issues.FEED.table], job_ids=[each.id], days=[]).passed
    assert check_keys(KEY, place, [issues.FEED.table], job_ids=["ing_job_other"], days=[]).passed


def test_a_run_that_did_nothing_asks_the_lake_nothing(place: Workplace) -> None:
    assert check_keys(KEY, place, [FEED.table], job_ids=[], days=[]).passed
