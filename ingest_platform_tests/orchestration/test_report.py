"""What a run says of itself."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration import report
from ingest_platform.pipeline.report import LoadReport, RunReport


def load(number: int, *, jobs: int = 1) -> LoadReport:
    return LoadReport(
        load_id=f"load_{number}",
        jobs=jobs,
        job_ids=tuple(f"job_{number}_{place}" for place in range(min(jobs, 50))),
        failed_jobs=0,
        received=3,
        accepted=2,
        rejected=1,
        created=2,
        updated=0,
        unchanged=0,
        stale=0,
        superseded=0,
        duplicate=0,
        bytes=100,
        reasons={"missing_field": 1},
        seconds={"parse": 0.25, "load": 0.5},
        finished_at=datetime(2026, 5, 6, 12, tzinfo=UTC),
        table=FEED.table,
    )


def done(*, loads: int = 2, jobs: int = 1) -> RunReport:
    made = RunReport(feed=FEED.name)
    for number in range(loads):
        made.add(load(number, jobs=jobs))
    return made


def test_days_are_added_up() -> None:
    whole = report.merged(FEED, [done(), done()])
    assert (whole.loads_total, whole.totals["received"], whole.reasons["missing_field"]) == (4, 12, 4)
    assert whole.seconds["load"] == pytest.approx(2.0)
    # Without its tables nothing of a backfill would be checked for doubled keys.
    assert list(whole.tables.values()) == [FEED.table]


def test_no_more_jobs_are_named_than_a_person_reads() -> None:
    found = report.landed_metadata(done(loads=10, jobs=60), oldest_waiting_seconds=None, api_url="http://api")
    links = [value for value in found.values() if isinstance(value, dg.UrlMetadataValue)]
    assert len(report.job_ids(done(loads=10, jobs=60))) == report.ROWS_MAX
    assert len(links) == report.LINKS_MAX
    assert links[0].value == "http://api/v1/jobs/job_0_0"


def test_without_an_address_of_the_api_nothing_links_to_it() -> None:
    found = report.landed_metadata(done(), oldest_waiting_seconds=1.5, api_url=None)
    assert not [value for value in found.values() if isinstance(value, dg.UrlMetadataValue)]


def test_a_load_is_a_row() -> None:
    table = report.outcomes_metadata(done(loads=70))["loads"]
    assert isinstance(table, dg.TableMetadataValue)
    assert len(table.records) == report.ROWS_MAX
    row = table.records[-1].data
    assert (row["load"], row["received"], row["rejected"], row["seconds"]) == ("load_69", 3, 1, 0.75)


def test_reasons_are_a_table_by_code() -> None:
    table = report.rejections_metadata(done())["reasons"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data for record in table.records] == [{"code": "missing_field", "records": 2}]


def test_a_run_without_rejections_says_so() -> None:
    assert report.rejections_metadata(RunReport(feed=FEED.name))["reasons"].value == "none"
