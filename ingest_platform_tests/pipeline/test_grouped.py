"""Grouped work: whatever queued is worked together next, everybody gets the own answer, and nobody waits for ever."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psycopg
import pytest

from ingest_platform.domain.errors import InDoubt, IngestError, LedgerFault, Unavailable, Unprocessable
from ingest_platform.pipeline.grouped import Grouped, OwnConnection, in_doubt
from ingest_platform.storage.ledger import Transaction, connect


class Doubling:
    """Doubles numbers, group by group, when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun = threading.Event()
        self.let = threading.Event()

    def work(self, numbers: Sequence[int]) -> Sequence[int | IngestError]:
        """Double a group; refuse the negative ones."""
        self.groups.append(list(numbers))
        self.begun.set()
        self.let.wait(timeout=10)
        return [Unprocessable("It is negative.") if number < 0 else number * 2 for number in numbers]


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


async def _ask_all(grouped: Grouped[int, int], doubling: Doubling, numbers: Sequence[int]) -> list[int | BaseException]:
    asked = [asyncio.ensure_future(grouped.ask(number)) for number in numbers]
    # All have asked once the first group is being worked.
    assert await asyncio.to_thread(doubling.begun.wait, 10)
    doubling.let.set()
    return await asyncio.gather(*asked, return_exceptions=True)


def _run(doubling: Doubling, numbers: Sequence[int], *, items_max: int = 100, weight_max: int = 0) -> list[object]:
    grouped: Grouped[int, int] = Grouped(
        doubling.work, name="test", items_max=items_max, weight_max=weight_max, weigh=lambda number: number
    )
    try:
        return list(asyncio.run(_ask_all(grouped, doubling, numbers)))
    finally:
        grouped.close(lambda: None)


def test_everybody_gets_the_own_answer_in_groups_in_order(doubling: Doubling) -> None:
    assert _run(doubling, range(20), items_max=8) == [number * 2 for number in range(20)]
    assert [number for group in doubling.groups for number in group] == list(range(20))
    assert max(len(group) for group in doubling.groups) == 8


def test_a_group_is_not_heavier_than_allowed_unless_it_is_one_item(doubling: Doubling) -> None:
    assert _run(doubling, [3, 3, 50, 3, 3, 3], weight_max=8) == [6, 6, 100, 6, 6, 6]
    assert all(len(group) == 1 or sum(group) <= 8 for group in doubling.groups)


def test_an_error_is_answered_to_the_one_it_concerns(doubling: Doubling) -> None:
    first, second, third = _run(doubling, [1, -1, 2])
    assert (first, third) == (2, 4)
    assert isinstance(second, Unprocessable)


@pytest.mark.parametrize(("raised", "told"), [(LedgerFault("away"), Unavailable), (KeyError("a defect"), KeyError)])
def test_an_error_of_the_whole_group_is_everybodys_and_the_next_group_is_worked(
    raised: Exception, told: type[Exception]
) -> None:
    calls: list[int] = []

    def work(numbers: Sequence[int]) -> Sequence[int | IngestError]:
        calls.append(len(numbers))
        if len(calls) == 1:
            raise raised
        return list(numbers)

    async def ask() -> tuple[object, object]:
        (first,) = await asyncio.gather(grouped.ask(1), return_exceptions=True)
        return first, await grouped.ask(2)

    grouped: Grouped[int, int] = Grouped(work, name="test", items_max=9)
    try:
        first, second = asyncio.run(ask())
    finally:
        grouped.close(lambda: None)
    assert isinstance(first, told)
    assert second == 2


def test_whoever_waits_too_long_is_told_so(doubling: Doubling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_platform.pipeline.grouped.ANSWER_SECONDS_MAX", 0.01)
    grouped: Grouped[int, int] = Grouped(doubling.work, name="test", items_max=9)
    with pytest.raises(Unavailable):
        asyncio.run(grouped.ask(1))
    doubling.let.set()
    grouped.close(lambda: None)


def test_whoever_waits_too_long_is_told_whether_it_had_begun(
    doubling: Doubling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_platform.pipeline.grouped.ANSWER_SECONDS_MAX", 0.2)
    grouped: Grouped[int, int] = Grouped(doubling.work, name="test", items_max=1, late=in_doubt)

    async def ask() -> list[object]:
        return await asyncio.gather(grouped.ask(1), grouped.ask(2), return_exceptions=True)

    first, second = asyncio.run(ask())
    doubling.let.set()
    grouped.close(lambda: None)
    assert isinstance(first, InDoubt)
    assert isinstance(second, Unavailable)
    assert not isinstance(second, InDoubt)
    assert doubling.groups == [[1]]


def test_what_was_refused_is_not_kept_while_the_work_hangs(doubling: Doubling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_platform.pipeline.grouped.ANSWER_SECONDS_MAX", 0.05)

    class Large:
        """Something that is worth being forgotten."""

    def work(items: Sequence[Large]) -> Sequence[int | IngestError]:
        doubling.work([])
        return [1 for _ in items]

    grouped: Grouped[Large, int] = Grouped(work, name="test", items_max=1)

    async def ask() -> list[weakref.ref[Large]]:
        hanging = asyncio.ensure_future(grouped.ask(Large()))
        assert await asyncio.to_thread(doubling.begun.wait, 10)
        refused: list[weakref.ref[Large]] = []
        for _ in range(3):
            large = Large()
            refused.append(weakref.ref(large))
            asked = grouped.ask(large)
            del large
            with suppress(Unavailable):
                await asked
            del asked
        with suppress(Unavailable):
            await hanging
        return refused

    refused = asyncio.run(ask())
    gc.collect()
    kept = [each for each in refused if each() is not None]
    doubling.let.set()
    grouped.close(lambda: None)
    assert not kept


@pytest.fixture
def own(database_url: str) -> Iterator[OwnConnection]:
    """Open a connection of its own."""
    opened = OwnConnection(database_url, application="test-own", settings=["SET work_mem = '5MB'"])
    try:
        yield opened
    finally:
        opened.close()


def _kill(database_url: str) -> None:
    with connect(database_url, application="killer") as killer:
        killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test-own'")


def test_an_own_connection_is_opened_anew_with_its_settings_after_it_died_idle(
    own: OwnConnection, database_url: str
) -> None:
    for _ in range(2):
        assert own.run(lambda tx: tx.execute("SHOW work_mem").fetchone()) == ("5MB",)
        _kill(database_url)


def test_statements_one_by_one_are_each_committed_and_done_again_after_the_connection_died_idle(
    own: OwnConnection, database_url: str
) -> None:
    own.run(lambda tx: tx.execute("CREATE TABLE counted (one integer)"))
    _kill(database_url)
    own.run(lambda tx: tx.execute("INSERT INTO counted VALUES (1)"), one_by_one=True)

    def fail(tx: Transaction) -> None:
        tx.execute("INSERT INTO counted VALUES (2)")
        raise Unprocessable("It is refused.")

    with pytest.raises(Unprocessable):
        own.run(fail, one_by_one=True)
    assert own.run(lambda tx: tx.execute("SELECT array_agg(one) FROM counted").fetchone()) == ([1, 2],)


def test_whoever_works_one_by_one_learns_that_a_failure_leaves_it_open_what_was_done(
    own: OwnConnection, database_url: str
) -> None:
    def broken(tx: Transaction) -> None:
        tx.execute("SELECT 1")
        _kill(database_url)
        tx.execute("SELECT 1")

    with pytest.raises(LedgerFault):
        own.run(broken, one_by_one=True)
    assert own.in_doubt


def test_work_whose_connection_dies_within_is_begun_again_and_committed_once(
    own: OwnConnection, database_url: str
) -> None:
    own.run(lambda tx: tx.execute("CREATE TABLE counted (one integer)"))
    begun: list[int] = []

    def count(tx: object) -> None:
        begun.append(1)
        assert hasattr(tx, "execute")
        tx.execute("INSERT INTO counted VALUES (1)")
        if len(begun) == 1:
            _kill(database_url)
            tx.execute("SELECT 1")

    own.run(count)
    assert own.run(lambda tx: tx.execute("SELECT count(*) FROM counted").fetchone()) == (1,)
    assert len(begun) == 2


def test_doubt_stays_where_the_server_is_away_when_the_work_is_begun_again(
    own: OwnConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(_: Transaction) -> None:
        raise psycopg.OperationalError("the connection was lost")

    def refuse(*_: object, **__: object) -> Transaction:
        raise LedgerFault("there is no server")

    own.run(lambda tx: tx.execute("SELECT 1"))
    with monkeypatch.context() as patched:
        patched.setattr("ingest_platform.pipeline.grouped.connect", refuse)
        with pytest.raises(LedgerFault, match="no server"):
            own.run(lose, one_by_one=True)
    # Its one statement may have been committed before the connection was lost.
    assert own.in_doubt
    own.run(lambda tx: tx.execute("SELECT 1"), one_by_one=True)
    with pytest.raises(LedgerFault):
        own.run(lose)
    assert not own.in_doubt
