"""Dagster's tables: where they are, how they are reached, and what is forgotten with a run."""

from collections.abc import Iterator

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.definitions.asset_key import AssetCheckKey

from ingest_platform.orchestration.history import PooledPostgresStorage, engine_url, forget_checks
from ingest_platform_tests.making import at_once


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql:///ingest?host=/run/pg", {"host": "/run/pg", "dbname": "ingest"}),
        ("postgresql://u:p%40ss@db:5433/x?sslmode=disable", {"host": "db", "port": "5433", "password": "p@ss"}),
        ("host=db dbname=x user=u", {"host": "db", "user": "u"}),
    ],
)
def test_every_form_of_a_url_reaches_the_driver(url: str, expected: dict[str, str]) -> None:
    engine = sqlalchemy.create_engine(engine_url(url))
    _, found = engine.dialect.create_connect_args(engine.url)
    assert expected.items() <= {name: str(value) for name, value in found.items()}.items()


def test_options_of_the_url_are_kept() -> None:
    options = sqlalchemy.make_url(engine_url("postgresql:///x?options=-cstatement_timeout%3D5")).query["options"]
    assert options == "-cstatement_timeout=5 -csearch_path=dagster -csynchronous_commit=off"


def test_processes_that_start_at_once_make_the_tables_once(empty_database_url: str) -> None:
    storages = at_once(lambda _: PooledPostgresStorage(empty_database_url), times=4)
    assert [storage.run_storage.get_runs_count() for storage in storages] == [0, 0, 0, 0]


def test_the_tables_are_in_a_schema_of_their_own(instance: dg.DagsterInstance, database_url: str) -> None:
    assert instance.get_runs_count() == 0
    with sqlalchemy.create_engine(engine_url(database_url)).connect() as connection:
        schemas = connection.execute(
            sqlalchemy.text("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename IN ('runs', 'event_logs')")
        )
        assert schemas.scalars().all() == ["dagster"]


def test_the_results_of_checks_are_forgotten_with_their_run(instance: dg.DagsterInstance) -> None:
    key = AssetCheckKey(dg.AssetKey("a"), "c")

    @dg.multi_asset(specs=[dg.AssetSpec("a")], check_specs=[dg.AssetCheckSpec("c", asset="a")])
    def checked() -> Iterator[dg.MaterializeResult[object]]:
        result = dg.AssetCheckResult(asset_key="a", check_name="c", passed=True)
        yield dg.MaterializeResult(asset_key="a", check_results=[result])

    done = dg.materialize([checked], instance=instance)
    assert len(instance.event_log_storage.get_asset_check_execution_history(key, limit=5)) == 1
    forget_checks(instance, [done.run_id])
    assert instance.event_log_storage.get_asset_check_execution_history(key, limit=5) == []
