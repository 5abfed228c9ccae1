"""Connections and migrations, against a real PostgreSQL."""

import time

import psycopg
import pytest

from ingest_platform.domain.errors import LedgerFault
from ingest_platform.storage.ledger import (
    CONNECT_SECONDS_MAX,
    Ledger,
    Migration,
    connect,
    migrate,
    migrations,
)
from ingest_platform_tests.making import at_once, make_workspace

# Nothing listens on the discard port of the loopback address.
NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"


def test_migrations_are_numbered_without_a_gap_in_every_folder() -> None:
    by_folder: dict[str, list[int]] = {}
    for each in migrations():
        by_folder.setdefault(each.name.rpartition("/")[0], []).append(each.number)
    for numbers in by_folder.values():
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_platforms_own_migrations_come_before_those_of_feeds() -> None:
    of_feeds = ["/" in each.name for each in migrations()]
    assert of_feeds == sorted(of_feeds)


def test_migrations_are_applied_once_each(empty_database_url: str) -> None:
    assert migrate(empty_database_url) == [each.name for each in migrations()]
    assert migrate(empty_database_url) == []


def test_two_that_migrate_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    done = at_once(lambda _: migrate(empty_database_url), times=4)
    assert sorted(name for names in done for name in names) == [each.name for each in migrations()]


def test_a_migration_that_fails_leaves_nothing_behind(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "CREATE TABLE half (one integer); SELECT * FROM missing;"
    broken = [*migrations(), Migration(name="0099_broken.sql", number=99, text=text)]
    monkeypatch.setattr("ingest_platform.storage.ledger.migrations", lambda: broken)
    with pytest.raises(psycopg.errors.UndefinedTable):
        migrate(empty_database_url)
    with connect(empty_database_url, application="test") as connection:
        (half,) = connection.execute("SELECT to_regclass('half')").fetchone() or ()
        applied = connection.execute("SELECT count(*) FROM migrations").fetchone()
    assert half is None
    assert applied == (len(broken) - 1,)


def test_a_connection_speaks_utc_in_our_schema_under_its_name(ledger: Ledger) -> None:
    with ledger.connection() as connection:
        told = connection.execute(
            "SELECT current_schema(), current_setting('timezone'), current_setting('application_name')"
        ).fetchone()
    assert told == ("ingest", "UTC", "test")


def test_an_exception_rolls_the_transaction_back(ledger: Ledger) -> None:
    def change_my_mind() -> None:
        with ledger.transaction() as tx:
            tx.execute("INSERT INTO workspaces (name) VALUES ('acme')")
            raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        change_my_mind()
    with ledger.connection() as connection:
        assert connection.execute("SELECT count(*) FROM workspaces").fetchone() == (0,)


def test_a_statement_that_takes_too_long_is_a_fault_and_the_ledger_goes_on(database_url: str) -> None:
    with Ledger(database_url, application="test", statement_seconds_max=0.2) as ledger:
        with pytest.raises(LedgerFault), ledger.connection() as connection:
            connection.execute("SELECT pg_sleep(20)")
        with ledger.connection() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_process_that_stops_in_the_middle_of_a_transaction_loses_it_and_its_locks(
    database_url: str, ledger: Ledger
) -> None:
    make_workspace(ledger)
    lock = "SELECT FROM workspaces FOR UPDATE"
    with Ledger(database_url, application="stopped", idle_seconds_max=0.2) as stopped:
        with pytest.raises(LedgerFault), stopped.transaction() as held:
            held.execute(lock)
            with ledger.transaction() as tx:
                tx.execute("SET LOCAL lock_timeout = '5s'")
                tx.execute(lock)
            held.execute("SELECT 1")
        # Who says that there is more to do between two statements may take longer.
        with stopped.transaction(idle_seconds_max=60) as patient:
            time.sleep(0.5)
            patient.execute(lock)


def test_a_server_that_is_away_is_a_fault_within_two_seconds() -> None:
    begun = time.monotonic()
    with Ledger(NOWHERE, application="test") as ledger:
        with pytest.raises(LedgerFault), ledger.connection():
            pass
        assert time.monotonic() - begun < CONNECT_SECONDS_MAX + 0.5
    with pytest.raises(LedgerFault):
        connect(NOWHERE, application="test")


@pytest.mark.parametrize("address", ["postgresql://user:hunter2@[::1", "password=hunter2 nonsense"])
def test_an_address_that_can_not_be_read_is_told_without_its_password(address: str) -> None:
    for opening in (lambda: connect(address, application="test"), lambda: Ledger(address, application="test")):
        with pytest.raises(LedgerFault) as told:
            opening()
        assert "hunter2" not in str(told.value)


def test_connections_that_the_server_cut_are_replaced(ledger: Ledger, database_url: str) -> None:
    with ledger.connection() as connection:
        connection.execute("SELECT 1")
    with connect(database_url, application="killer") as killer:
        killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'test' AND datname = current_database()"
        )
    with ledger.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
