"""The verdict on a submission that is not taken is the one that a run would give, and nothing is stored."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ingest_platform.domain.ids import new_id
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.verdict import Candidate, judge
from ingest_platform.storage import jobs
from ingest_platform.storage.jobs import JobFilter
from ingest_platform_tests.making import body_of
from ingest_platform_tests.pipeline.working import (
    POINT_SOUTH,
    UNKNOWN_POINT,
    declare,
    job_of,
    put_blob,
    reading,
    rejections_of,
    rows,
    submit,
    work,
)

RECORDS = [reading(1), {}, reading(2, minute=1, point=UNKNOWN_POINT), reading("3"), reading(4, point=POINT_SOUTH)]


def _candidate(body: bytes, form: Format = Format.JSON) -> Candidate:
    return Candidate(
        id=new_id("job_"),
        workspace="acme",
        feed=FEED,
        format=form,
        sites=frozenset({"north"}),
        body=body,
        blob=None,
        size=len(body),
        at=datetime.now(UTC),
    )


@pytest.mark.parametrize("in_blob", [False, True])
def test_the_verdict_is_the_runs_and_nothing_is_stored(platform: Platform, *, in_blob: bool) -> None:
    declare(platform)
    candidate = _candidate(body_of(RECORDS))
    if in_blob:
        put_blob(platform, "spool/one", candidate.body or b"")
        candidate = replace(candidate, body=None, blob="spool/one")
    verdict = judge(platform, candidate)
    with platform.ledger.connection() as connection:
        assert jobs.count_jobs(connection, JobFilter()) == 0
    assert rows(platform) == []
    assert list(platform.staging_dir.iterdir()) == []
    job_id = submit(platform, *RECORDS, sites=("north",))
    work(platform)
    assert verdict.received == job_of(platform, job_id).received == 5
    assert list(verdict.rejections) == rejections_of(platform, job_id)


@pytest.mark.parametrize(("body", "form"), [(b"no JSON", Format.JSON), (b"PAR1", Format.PARQUET), (b"", Format.JSON)])
def test_what_can_not_be_read_says_so(platform: Platform, body: bytes, form: Format) -> None:
    declare(platform)
    verdict = judge(platform, _candidate(body, form))
    assert verdict.unreadable is not None
    assert (verdict.received, verdict.rejections) == (0, ())
