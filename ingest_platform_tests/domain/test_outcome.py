"""Outcomes are stored as bytes, so their numbers stand for ever; a tally always adds up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.outcome import Outcome, Tally

COUNTS = st.integers(min_value=0, max_value=1_000)


def test_the_stored_numbers_never_change() -> None:
    assert {outcome.word: outcome.value for outcome in Outcome} == {
        "rejected": 0,
        "created": 1,
        "updated": 2,
        "unchanged": 3,
        "stale": 4,
        "superseded": 5,
        "duplicate": 6,
    }


@given(counts=st.fixed_dictionaries({outcome.word: COUNTS for outcome in Outcome}))
def test_a_tally_is_what_was_counted_and_its_verdict_follows(counts: dict[str, int]) -> None:
    received = sum(counts.values())
    tally = Tally.of(received=received, **counts)
    assert tally.received == tally.accepted + tally.rejected
    expected = "succeeded" if not counts["rejected"] else "failed" if counts["rejected"] == received else "partial"
    assert tally.verdict == expected


@given(received=COUNTS, rejected=COUNTS, created=COUNTS)
def test_a_sum_that_is_off_makes_no_tally(received: int, rejected: int, created: int) -> None:
    if received == rejected + created:
        assert Tally.of(received=received, rejected=rejected, created=created).accepted == created
    else:
        with pytest.raises(AssertionError):
            Tally.of(received=received, rejected=rejected, created=created)


def test_nothing_received_is_a_success() -> None:
    assert Tally.of(received=0).verdict == "succeeded"
