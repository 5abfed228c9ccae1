"""Every record gets its one outcome; settling is all or nothing, and only for whoever holds the load."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.errors import LeaseLost, Unreadable
from ingest_platform.domain.job import JobState
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.domain.submission import Encoding, Format, Load, Submission
from ingest_platform.pipeline.load import LoadedJob
from ingest_platform.pipeline.settle import ReadJob, SettledJob, decide, decide_all, settle
from ingest_platform.storage import jobs, outcomes
from ingest_platform.storage.jobs import Costs
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, claim, make_workspace, new_job, run_out

PROBLEM = Problem(code="missing_field", field="value", message="value is missing")


@pytest.fixture
def load(ledger: Ledger) -> Load:
    """Claim a load of two jobs."""
    make_workspace(ledger)
    accept(ledger, new_job(), new_job())
    claimed = claim(ledger)
    assert claimed is not None
    return claimed


def _read(submission: Submission, *, received: int, rejected: tuple[int, ...] = ()) -> ReadJob:
    rejections = [Rejection(submission=0, record_index=n, problems=(PROBLEM,), raw=b"{}") for n in rejected]
    return ReadJob(submission=submission, received=received, rejections=rejections)


def _loaded(job_id: str, fates: dict[int, Outcome]) -> LoadedJob:
    return LoadedJob(
        job_id=job_id,
        record_index=np.array(sorted(fates), dtype=np.int64),
        outcome=np.array([fates[index] for index in sorted(fates)], dtype=np.uint8),
    )


def _submission(job_id: str = "job_1") -> Submission:
    return Submission(
        job_id=job_id,
        seq=1,
        workspace="acme",
        feed="machine_data",
        target=None,
        format=Format.JSON,
        encoding=Encoding.IDENTITY,
        origin="api",
        body=b"",
        blob=None,
        bytes_in=0,
        sites=None,
        catalog_revision=0,
        accepted_at=datetime(2026, 5, 6, tzinfo=UTC),
        attempts=1,
    )


@given(fates=st.lists(st.sampled_from(Outcome), max_size=60))
def test_every_record_has_the_outcome_that_it_met(fates: list[Outcome]) -> None:
    rejected = tuple(index for index, fate in enumerate(fates) if fate is Outcome.REJECTED)
    stored = {index: fate for index, fate in enumerate(fates) if fate is not Outcome.REJECTED}
    settled = decide(_read(_submission(), received=len(fates), rejected=rejected), _loaded("job_1", stored))
    assert list(settled.codes) == [fate.value for fate in fates]
    assert settled.tally is not None
    assert (settled.tally.received, settled.tally.rejected) == (len(fates), len(rejected))
    assert settled.tally.created == fates.count(Outcome.CREATED)


@pytest.mark.parametrize("fates", [{}, {0: Outcome.CREATED, 1: Outcome.CREATED}])
def test_a_record_without_a_fate_or_with_two_is_a_defect_of_ours(fates: dict[int, Outcome]) -> None:
    with pytest.raises(AssertionError):
        decide(_read(_submission(), received=2, rejected=(1,)), _loaded("job_1", fates))


def test_what_can_not_be_read_has_no_tally() -> None:
    read = ReadJob(submission=_submission(), unreadable=Unreadable("no JSON"))
    assert decide(read, None) == SettledJob(read=read, codes=b"", tally=None)


def test_a_job_all_of_whose_records_are_rejected_needs_nothing_from_the_warehouse() -> None:
    settled = decide(_read(_submission(), received=2, rejected=(0, 1)), None)
    assert settled.tally is not None
    assert settled.tally.verdict == "failed"


def _settled(load: Load) -> list[SettledJob]:
    first, second = load.submissions
    reads = [
        _read(first, received=3, rejected=(1,)),
        ReadJob(submission=second, unreadable=Unreadable("no JSON", code="not_json")),
    ]
    return decide_all(reads, {first.job_id: _loaded(first.job_id, {0: Outcome.CREATED, 2: Outcome.UPDATED})})


def test_jobs_rejections_and_outcomes_are_written_together(ledger: Ledger, load: Load) -> None:
    settle(ledger, load, _settled(load), Costs())
    first, second = (each.job_id for each in load.submissions)
    with ledger.connection() as connection:
        done = [jobs.get_job(connection, workspace=None, job_id=job_id) for job_id in (first, second)]
        assert outcomes.codes(connection, first) == bytes([Outcome.CREATED, Outcome.REJECTED, Outcome.UPDATED])
        assert outcomes.codes(connection, second) is None
        assert [each.record_index for each in outcomes.rejections(connection, first, limit=9)] == [1]
    assert [(job.state, job.verdict, job.error_code) for job in done if job] == [
        (JobState.FINISHED, "partial", None),
        (JobState.FAILED, "failed", "not_json"),
    ]


def test_whoever_lost_the_load_writes_nothing(ledger: Ledger, load: Load) -> None:
    run_out(ledger, load)
    winner = claim(ledger)
    assert winner is not None
    with pytest.raises(LeaseLost):
        settle(ledger, load, _settled(load), Costs())
    with ledger.connection() as connection:
        assert outcomes.codes(connection, load.submissions[0].job_id) is None
    settle(ledger, winner, _settled(winner), Costs())
    # Not even a collision with what the winner wrote.
    with pytest.raises(LeaseLost):
        settle(ledger, load, _settled(load), Costs())
