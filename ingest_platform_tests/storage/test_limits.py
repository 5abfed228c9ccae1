"""Token buckets: shared, never overdrawn, refilled evenly by the database's clock."""

import time

import pytest

from ingest_platform.storage import limits
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.limits import Taken, Wanted
from ingest_platform_tests.making import at_once

# A token every ten seconds: none comes while a test runs, however busy the machine is.
PER_MINUTE = 6


def _take(ledger: Ledger, tokens: int = 1, *, per_minute: int = PER_MINUTE, bucket: str = "acme") -> Taken:
    with ledger.transaction() as tx:
        (taken,) = limits.take(tx, [Wanted(bucket=bucket, per_minute=per_minute, tokens=tokens)])
    return taken


def _pass_time(ledger: Ledger, seconds: float) -> None:
    with ledger.connection() as connection:
        connection.execute(
            "UPDATE rate_buckets SET refilled_at = refilled_at - make_interval(secs => %s)", (float(seconds),)
        )


def test_a_new_bucket_is_full_and_gives_what_it_has(ledger: Ledger) -> None:
    assert (_take(ledger, 5).granted, _take(ledger, 5).granted, _take(ledger, 5).granted) == (5, 1, 0)


def test_an_empty_bucket_says_when_the_next_token_is_there(ledger: Ledger) -> None:
    _take(ledger, 6)
    taken = _take(ledger)
    assert (taken.granted, taken.remaining) == (0, 0)
    assert 0 < taken.retry_after_seconds <= 10
    _pass_time(ledger, taken.retry_after_seconds)
    assert _take(ledger).granted == 1


@pytest.mark.parametrize(("seconds", "granted"), [(1, 0), (10, 1), (31, 3), (60, 6), (86_400, 6)])
def test_a_bucket_is_refilled_evenly_and_never_beyond_its_size(ledger: Ledger, seconds: float, granted: int) -> None:
    _take(ledger, 6)
    _pass_time(ledger, seconds)
    assert _take(ledger, 1_000).granted == granted


def test_a_clock_that_was_set_back_gives_nothing_and_takes_nothing(ledger: Ledger) -> None:
    _take(ledger, 4)
    _pass_time(ledger, -3_600)
    assert _take(ledger, 60).granted == 2


def test_a_smaller_limit_holds_at_once(ledger: Ledger) -> None:
    _take(ledger, 1)
    assert _take(ledger, 60, per_minute=3).granted == 3


def test_a_bucket_of_size_nought_gives_nothing(ledger: Ledger) -> None:
    taken = _take(ledger, per_minute=0)
    assert (taken.granted, taken.retry_after_seconds) == (0, 60.0)


def test_buckets_are_taken_from_together_in_any_order_without_a_deadlock(ledger: Ledger) -> None:
    names = ["a", "b", "c", "d"]

    def take_all(number: int) -> list[tuple[str, int]]:
        order = names if number % 2 else names[::-1]
        with ledger.transaction() as tx:
            taken = limits.take(tx, [Wanted(bucket=name, per_minute=8, tokens=1) for name in order])
        return [(each.bucket, each.granted) for each in taken]

    # Eight tokens each, and eight who take one of each: all get theirs, and then there is none.
    assert at_once(take_all, times=8) == [[(name, 1) for name in names]] * 8
    assert {_take(ledger, bucket=name, per_minute=8).granted for name in names} == {0}


def test_takers_at_once_over_two_ledgers_never_get_more_than_there_is(ledger: Ledger, database_url: str) -> None:
    with Ledger(database_url, application="second") as second:

        def take_many(number: int) -> int:
            mine = ledger if number % 2 else second
            return sum(_take(mine, 1, bucket="shared").granted for _ in range(10))

        begun = time.monotonic()
        given = sum(at_once(take_many, times=6))
        refilled = (time.monotonic() - begun) * PER_MINUTE / 60
    assert PER_MINUTE <= given <= PER_MINUTE + refilled


def test_only_buckets_that_are_full_by_now_are_forgotten(ledger: Ledger) -> None:
    _take(ledger, 6, bucket="old")
    _pass_time(ledger, 25 * 3_600)
    _take(ledger, 6, bucket="new")
    with ledger.transaction() as tx:
        assert limits.forget_old(tx) == 1
    assert _take(ledger, 1, bucket="new").granted == 0
