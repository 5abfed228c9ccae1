"""Outcomes: one byte a record, and rejections in blocks that are read a page at a time."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_platform.domain.ids import new_id
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.storage import outcomes
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.outcomes import BLOCK_BYTES_MAX, BLOCK_REJECTIONS_MAX, JobOutcomes


def _rejection(index: int, raw: bytes = b'{"value": null}') -> Rejection:
    problems = (
        Problem(code="missing_field", field="timestamp", message="timestamp is missing"),
        Problem(code="not_an_object", field=None, message="über 😀"),
    )
    return Rejection(submission=0, record_index=index, problems=problems, raw=raw)


def _put(ledger: Ledger, rejections: list[Rejection], *, codes: bytes = b"") -> str:
    job_id = new_id("job_")
    with ledger.transaction() as tx:
        outcomes.put(tx, [JobOutcomes(job_id=job_id, codes=codes, rejections=rejections)])
    return job_id


def test_codes_come_back_as_they_were_put(ledger: Ledger) -> None:
    codes = bytes([Outcome.CREATED] * 30_000 + [Outcome.REJECTED, Outcome.STALE])
    job_id = _put(ledger, [], codes=codes)
    with ledger.connection() as connection:
        assert outcomes.codes(connection, job_id) == codes
        assert outcomes.codes(connection, "job_of_nobody") is None


def test_outcomes_of_many_jobs_are_put_at_once_and_stay_apart(ledger: Ledger) -> None:
    made = [JobOutcomes(job_id=f"job_{n}", codes=bytes([n % 7]), rejections=[_rejection(n)]) for n in range(300)]
    with ledger.transaction() as tx:
        outcomes.put(tx, made)
        outcomes.put(tx, [])
    with ledger.connection() as connection:
        for each in (made[0], made[299]):
            assert outcomes.codes(connection, each.job_id) == each.codes
            assert outcomes.rejections(connection, each.job_id, limit=9) == list(each.rejections)


def test_2500_rejections_are_read_page_by_page_across_their_blocks(ledger: Ledger) -> None:
    # Every third record is rejected.
    rejections = [_rejection(index * 3, raw=b'{"n": %d}' % index) for index in range(2_500)]
    job_id = _put(ledger, rejections)
    assert list(outcomes.iter_rejections(ledger, job_id)) == rejections
    with ledger.connection() as connection:
        blocks = connection.execute("SELECT count FROM rejections WHERE job_id = %s ORDER BY block", (job_id,))
        assert [count for (count,) in blocks] == [BLOCK_REJECTIONS_MAX, BLOCK_REJECTIONS_MAX, 500]
        assert outcomes.rejections(connection, job_id, limit=1_000) == rejections[:1_000]
        # From a record between two rejected ones, over the border of a block.
        assert outcomes.rejections(connection, job_id, first_index=2_998, limit=2) == rejections[1_000:1_002]
        assert outcomes.rejections(connection, job_id, first_index=2_995, limit=3) == rejections[999:1_002]
        assert outcomes.rejections(connection, job_id, first_index=7_498, limit=5) == []
        assert outcomes.rejections(connection, job_id, limit=0) == []


def test_large_records_make_small_blocks_and_come_back_whole(ledger: Ledger) -> None:
    raw = bytes(range(256)) * (BLOCK_BYTES_MAX // 256 // 2)
    rejections = [_rejection(index, raw=raw) for index in range(5)]
    rejections.append(_rejection(5, raw=b"x" * (BLOCK_BYTES_MAX + 1)))
    job_id = _put(ledger, rejections)
    with ledger.connection() as connection:
        blocks = connection.execute("SELECT count FROM rejections WHERE job_id = %s ORDER BY block", (job_id,))
        assert [count for (count,) in blocks] == [2, 2, 1, 1]
    assert list(outcomes.iter_rejections(ledger, job_id)) == rejections


RAW = st.binary(max_size=50)
PROBLEMS = st.lists(
    st.builds(
        Problem,
        code=st.text(max_size=9),
        field=st.none() | st.text(max_size=9),
        # PostgreSQL never sees the text, so nothing in it is refused; a lone surrogate is no text.
        message=st.text(max_size=20),
    ),
    max_size=3,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(st.tuples(st.integers(min_value=0, max_value=10**12), RAW, PROBLEMS), unique_by=lambda one: one[0])
)
def test_whatever_was_rejected_comes_back_in_order(
    ledger: Ledger, found: list[tuple[int, bytes, list[Problem]]]
) -> None:
    rejections = [
        Rejection(submission=0, record_index=index, problems=tuple(problems), raw=raw)
        for index, raw, problems in sorted(found, key=lambda one: one[0])
    ]
    assert list(outcomes.iter_rejections(ledger, _put(ledger, rejections))) == rejections


@pytest.mark.parametrize("limit", [1, 999, 1_000, 1_001])
def test_a_page_is_never_longer_than_asked(ledger: Ledger, limit: int) -> None:
    job_id = _put(ledger, [_rejection(index) for index in range(1_500)])
    with ledger.connection() as connection:
        assert len(outcomes.rejections(connection, job_id, limit=limit)) == limit
