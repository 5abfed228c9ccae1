"""Records of files count against the quota once: when they were read, all of a file's or none."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.job import Job, JobState
from ingest_platform.pipeline.counting import Counting
from ingest_platform.pipeline.files import land_file
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.settle import ReadJob, decide
from ingest_platform.pipeline.work import work_load
from ingest_platform.storage import quotas, workspaces
from ingest_platform_tests.example_feed.heartbeats import FEED
from ingest_platform_tests.making import accept, body_of, claim, new_job, run_out
from ingest_platform_tests.pipeline.working import job_of, work

COUNTED: Feed = replace(FEED, quota=True)
BEAT = {field.name: field.example for field in FEED.contract.fields}
BAD = {"device": 7}


def limit(platform: Platform, most: int) -> None:
    with platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", quotas={FEED.name: most}))


def used(platform: Platform) -> int:
    with platform.ledger.connection() as tx:
        return quotas.usage(tx, workspace="acme", feed=FEED.name).used


def drop(platform: Platform, folder: Path, records: Sequence[object], *, name: str = "beats.ndjson") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return land_file(platform, COUNTED, "acme", path)


def worked(platform: Platform, job_id: str) -> Job:
    work(platform, COUNTED)
    return job_of(platform, job_id)


def test_the_good_records_of_a_file_are_counted_when_it_is_loaded(platform: Platform, tmp_path: Path) -> None:
    limit(platform, 2)
    job_id = drop(platform, tmp_path, [BEAT, BAD, BEAT])
    assert used(platform) == 0
    job = worked(platform, job_id)
    assert (job.state, job.accepted, job.rejected) == (JobState.FINISHED, 2, 1)
    assert used(platform) == 2


def test_a_file_that_does_not_fit_fails_with_a_reason_and_costs_nothing(platform: Platform, tmp_path: Path) -> None:
    limit(platform, 3)
    good, large = drop(platform, tmp_path, [BEAT]), drop(platform, tmp_path, [BEAT, BAD, BEAT, BEAT], name="b.ndjson")
    job = worked(platform, large)
    assert (job.state, job.error_code) == (JobState.FAILED, "quota_exceeded")
    assert "has 3 good records, and 2 of 3 are left in" in str(job.error_message)
    # It was in one load with the other, which is stored.
    assert job_of(platform, good).accepted == 1
    assert used(platform) == 1
    limit(platform, 4)
    again = worked(platform, drop(platform, tmp_path, [BEAT, BAD, BEAT, BEAT], name="c.ndjson"))
    assert (again.accepted, used(platform)) == (3, 4)


def test_what_came_by_http_was_counted_before(platform: Platform) -> None:
    limit(platform, 0)
    body = body_of([BEAT], envelope_key=FEED.envelope_key)
    (accepted,) = accept(platform.ledger, new_job(body, feed=FEED.name))
    assert worked(platform, accepted.id).accepted == 1
    assert used(platform) == 0


def test_a_load_that_is_begun_again_counts_nothing_twice(platform: Platform, tmp_path: Path) -> None:
    limit(platform, 2)
    job_id = drop(platform, tmp_path, [BEAT, BEAT])
    load = claim(platform.ledger, feed=FEED.name)
    assert load is not None
    read = ReadJob(submission=load.submissions[0], received=2)
    # Its worker counts, and is killed.
    assert Counting(platform.ledger, COUNTED).admit(read) is None
    run_out(platform.ledger, load)
    assert used(platform) == 2
    assert worked(platform, job_id).accepted == 2
    assert used(platform) == 2


def test_what_was_once_refused_stays_refused(platform: Platform, tmp_path: Path) -> None:
    """Its load may have been stored, without the file, by a worker that was killed before it said so."""
    limit(platform, 1)
    job_id = drop(platform, tmp_path, [BEAT, BEAT])
    load = claim(platform.ledger, feed=FEED.name)
    assert load is not None
    refused = Counting(platform.ledger, COUNTED).admit(ReadJob(submission=load.submissions[0], received=2))
    assert refused is not None
    limit(platform, 10)
    work_load(platform, COUNTED, load, run_id="run-1")
    assert job_of(platform, job_id).error_message == str(refused)
    assert used(platform) == 0


def test_what_was_counted_of_a_job_that_fails_in_the_end_is_given_back_once(platform: Platform, tmp_path: Path) -> None:
    limit(platform, 5)
    drop(platform, tmp_path, [BEAT, BEAT])
    load = claim(platform.ledger, feed=FEED.name)
    assert load is not None
    counting = Counting(platform.ledger, COUNTED)
    read = ReadJob(submission=load.submissions[0], received=2)
    assert counting.admit(read) is None
    assert used(platform) == 2
    read.unreadable = Unreadable("Every worker that had it was killed.")
    failed = decide(read, None)
    for _ in range(2):
        with platform.ledger.transaction() as tx:
            counting.end(tx, [failed])
    assert used(platform) == 0
