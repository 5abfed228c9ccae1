"""Quotas, against a real ledger: exact whoever comes at the same time, by month and by feed, and given back."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_platform.domain.errors import Exceeded
from ingest_platform.storage import quotas, workspaces
from ingest_platform.storage.ledger import Ledger, Transaction
from ingest_platform.storage.quotas import Demand, Reserved
from ingest_platform_tests.making import at_once

FEED = "datasets"


def limit(ledger: Ledger, most: int | None, *, workspace: str = "acme") -> None:
    with ledger.transaction() as tx:
        found = {} if most is None else {FEED: most}
        workspaces.put(tx, workspaces.Workspace(name=workspace, quotas=found))


def reserve(ledger: Ledger, records: int, *, workspace: str = "acme", feed: str = FEED) -> Reserved | Exceeded:
    with ledger.transaction() as tx:
        return quotas.reserve(tx, workspace=workspace, feed=feed, records=records)


def used(ledger: Ledger, *, workspace: str = "acme", feed: str = FEED) -> int:
    with ledger.connection() as tx:
        return quotas.usage(tx, workspace=workspace, feed=feed).used


@pytest.fixture
def pools(database_url: str) -> Iterator[tuple[Ledger, Ledger]]:
    """Open two pools of connections, as two processes have them."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(Ledger(database_url, application="test", connections_max=8)) for _ in range(2)
        )
        yield first, second


def test_fifty_who_come_at_once_through_two_pools_get_exactly_the_limit(pools: tuple[Ledger, Ledger]) -> None:
    limit(pools[0], 1_000)

    def take(number: int) -> list[tuple[int, bool]]:
        # Sizes that do not divide the limit, so that the last ones have to fit exactly or not at all.
        sizes = [1 + (number + turn) % 7 for turn in range(12)]
        return [(size, isinstance(reserve(pools[number % 2], size), Reserved)) for size in sizes]

    told = [each for several in at_once(take, times=50) for each in several]
    granted = sum(size for size, good in told if good)
    assert sum(size for size, _ in told) > 1_000
    assert granted == used(pools[0]) == 1_000
    assert not all(good for _, good in told)


def test_what_does_not_fit_takes_nothing_and_is_told_the_numbers(ledger: Ledger) -> None:
    limit(ledger, 10)
    assert isinstance(reserve(ledger, 7), Reserved)
    told = reserve(ledger, 4)
    assert isinstance(told, Exceeded)
    assert (told.limit, told.used, told.remaining, told.requested) == (10, 7, 3, 4)
    assert used(ledger) == 7
    assert isinstance(reserve(ledger, 3), Reserved)
    assert isinstance(reserve(ledger, 1), Exceeded)


def test_the_period_is_the_month_of_utc_by_the_databases_clock_and_ends_when_the_next_begins(ledger: Ledger) -> None:
    limit(ledger, 0)
    told = reserve(ledger, 1)
    assert isinstance(told, Exceeded)
    with ledger.connection() as tx:
        row = tx.execute(
            "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM'), to_char(%s AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'),"
            " to_char((%s AT TIME ZONE 'UTC') - interval '1 day', 'YYYY-MM'), extract(epoch FROM %s - now())",
            (told.resets_at, told.resets_at, told.resets_at),
        ).fetchone()
    assert row is not None
    assert told.period == row[0] == row[2]
    assert row[1].endswith("-01 00:00")
    assert abs(told.retry_after_seconds - float(row[3])) < 30


def test_another_month_has_a_bucket_of_its_own(ledger: Ledger) -> None:
    limit(ledger, 5)
    reserve(ledger, 5)
    with ledger.connection() as tx:
        tx.execute("UPDATE quota_usage SET period = '2026-01'")
    assert isinstance(reserve(ledger, 5), Reserved)


def test_workspaces_and_feeds_have_buckets_of_their_own(ledger: Ledger) -> None:
    limit(ledger, 5)
    limit(ledger, 5, workspace="globex")
    assert isinstance(reserve(ledger, 5), Reserved)
    assert isinstance(reserve(ledger, 5, workspace="globex"), Reserved)
    assert isinstance(reserve(ledger, 5, feed="stream_events"), Reserved)
    assert isinstance(reserve(ledger, 1), Exceeded)


@pytest.mark.parametrize("most", [None, quotas.UNLIMITED])
def test_without_a_limit_everything_fits_and_is_counted(ledger: Ledger, most: int | None) -> None:
    limit(ledger, most)
    assert isinstance(reserve(ledger, 1_000_000), Reserved)
    limit(ledger, 1_000_000)
    told = reserve(ledger, 1)
    assert isinstance(told, Exceeded)
    assert told.used == 1_000_000


def test_a_limit_that_was_lowered_below_what_was_used_leaves_nothing(ledger: Ledger) -> None:
    limit(ledger, 10)
    reserve(ledger, 10)
    limit(ledger, 5)
    told = reserve(ledger, 1)
    assert isinstance(told, Exceeded)
    assert (told.limit, told.used, told.remaining) == (5, 10, 0)


def test_a_transaction_that_fails_reserves_nothing(ledger: Ledger) -> None:
    limit(ledger, 5)

    def fail(tx: Transaction) -> None:
        quotas.reserve(tx, workspace="acme", feed=FEED, records=5)
        raise LookupError

    with pytest.raises(LookupError), ledger.transaction() as tx:
        fail(tx)
    assert isinstance(reserve(ledger, 5), Reserved)


def test_what_is_refunded_may_be_used_again_but_not_twice_over(ledger: Ledger) -> None:
    limit(ledger, 5)
    reserved = reserve(ledger, 5)
    assert isinstance(reserved, Reserved)
    with ledger.transaction() as tx:
        quotas.refund(tx, reserved)
    assert used(ledger) == 0
    assert isinstance(reserve(ledger, 5), Reserved)
    assert isinstance(reserve(ledger, 1), Exceeded)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.tuples(st.sampled_from(["acme", "globex"]), st.integers(0, 9)), max_size=12))
def test_many_at_once_fare_as_one_after_the_other(ledger: Ledger, asked: list[tuple[str, int]]) -> None:
    for workspace in ("acme", "globex"):
        limit(ledger, 20, workspace=workspace)
    with ledger.connection() as tx:
        tx.execute("DELETE FROM quota_usage")
        one_by_one = [quotas.reserve(tx, workspace=name, feed=FEED, records=records) for name, records in asked]
        tx.execute("DELETE FROM quota_usage")
    with ledger.transaction() as tx:
        together = quotas.reserve_each(
            tx, [Demand(workspace=name, feed=FEED, records=records) for name, records in asked]
        )
    assert [_shown(each) for each in together] == [_shown(each) for each in one_by_one]
    for workspace in ("acme", "globex"):
        granted = [each.records for each in together if isinstance(each, Reserved) and each.workspace == workspace]
        assert used(ledger, workspace=workspace) == sum(granted)


def _shown(told: Reserved | Exceeded) -> object:
    return told if isinstance(told, Reserved) else (told.limit, told.used, told.requested)


def test_two_who_reserve_for_the_same_workspaces_in_other_orders_never_wait_for_each_other(
    pools: tuple[Ledger, Ledger],
) -> None:
    names = [f"space-{number}" for number in range(4)]
    for name in names:
        limit(pools[0], 10_000, workspace=name)

    def take(number: int) -> None:
        demands = [Demand(workspace=name, feed=FEED, records=1) for name in names[:: 1 if number % 2 else -1]]
        for _ in range(20):
            with pools[number % 2].transaction() as tx:
                quotas.reserve_each(tx, demands)

    at_once(take, times=8)
    assert [used(pools[0], workspace=name) for name in names] == [160] * 4
