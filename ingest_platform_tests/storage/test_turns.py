"""Turns: one writer to a table at a time, and none that others wait for in vain."""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from ingest_platform.domain.errors import LeaseLost, WarehouseFault
from ingest_platform.storage.turns import Turns


@pytest.fixture
def first(database_url: str) -> Iterator[Turns]:
    turns = Turns(database_url=database_url, holder="first", silent_seconds_max=0.5, wait_seconds_max=2)
    yield turns
    turns.close()


@pytest.fixture
def second(database_url: str) -> Iterator[Turns]:
    turns = Turns(database_url=database_url, holder="second", silent_seconds_max=0.5, wait_seconds_max=2)
    yield turns
    turns.close()


def test_one_table_has_one_holder_and_the_next_gets_its_turn_when_it_is_given_back(first: Turns, second: Turns) -> None:
    order: list[str] = []
    begun = threading.Event()

    def wait_for_it() -> None:
        begun.set()
        with second.taken("readings"):
            order.append("second")

    with first.taken("readings") as turn:
        waiter = threading.Thread(target=wait_for_it)
        waiter.start()
        begun.wait()
        # Longer than a holder may be silent: one that beats is left alone.
        time.sleep(1.2)
        turn.assert_held()
        order.append("first")
    waiter.join()
    assert order == ["first", "second"]


def test_two_tables_do_not_wait_for_each_other(first: Turns, second: Turns) -> None:
    with first.taken("readings") as one, second.taken("events") as other:
        one.assert_held()
        other.assert_held()


def test_a_connection_that_another_thread_takes_first_is_no_harm(database_url: str) -> None:
    class TakenMeanwhile(list[psycopg.Connection]):
        """It was not empty when it was looked at."""

        def __bool__(self) -> bool:
            return True

    turns = Turns(database_url=database_url, holder="third", _idle=TakenMeanwhile())
    with turns.taken("readings") as turn:
        turn.assert_held()
    turns.close()


def test_a_wait_that_lasts_too_long_is_a_fault(first: Turns, second: Turns) -> None:
    with first.taken("readings"), pytest.raises(WarehouseFault, match="busy"), second.taken("readings"):
        pass


def test_a_holder_that_fell_silent_is_ended_by_whoever_waits(database_url: str, second: Turns) -> None:
    # A connection that holds the lock and says nothing more, like that of a process that was stopped.
    silent = Turns(database_url=database_url, holder="silent", silent_seconds_max=1_000)
    connection = silent._connect()
    silent._take(connection, "readings")
    with second.taken("readings") as turn:
        turn.assert_held()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


def test_a_turn_whose_connection_was_ended_is_lost_and_the_next_one_works(first: Turns, database_url: str) -> None:
    with first.taken("readings") as turn:
        with psycopg.connect(database_url) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'first'")
        with pytest.raises(LeaseLost):
            turn.assert_held()
    with first.taken("readings") as turn:
        turn.assert_held()


def test_a_database_that_is_away_is_a_fault_within_two_seconds() -> None:
    turns = Turns(database_url="postgresql://nobody:hidden@127.0.0.1:1/none", holder="first")
    begun = time.monotonic()
    with pytest.raises(WarehouseFault) as caught, turns.taken("readings"):
        pass
    assert time.monotonic() - begun < 2
    assert "hidden" not in str(caught.value)
