"""Dagster's own tables in the platform's PostgreSQL, over pooled connections. The ledger's are not known here."""

import os
from collections.abc import Sequence

import sqlalchemy
from dagster import DagsterInstance
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.pool import QueuePool

SCHEMA = "dagster"
# Stock dagster-postgres opens a connection per event: 2.4 s for a run of 33 events, 0.4 s pooled.
CONNECTIONS_KEPT = 2
# Threads of the webserver and of the daemon ask at once; beyond this they wait for each other.
CONNECTIONS_OVERFLOW_MAX = 14
CONNECTION_SECONDS_MAX = 1800
# Two processes that find no tables would both make them; the second waits instead.
_CREATION_LOCK = 0x1E57_0002

_engines: dict[tuple[int, str], sqlalchemy.Engine] = {}


def engine_url(database_url: str) -> str:
    """Write a PostgreSQL URL for SQLAlchemy: psycopg2, Dagster's schema, and no wait for the disk.

    An event that a crash of the machine loses costs a line in a run's log, never a record of a client.

    >>> engine_url("postgresql://me@db.example:5433/ingest?sslmode=require")
    'postgresql+psycopg2://me@db.example:5433/ingest?options=-csearch_path%3Ddagster+-csynchronous_commit%3Doff&sslmode=require'
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(database_url).items() if value is not None}
    ours = f"-csearch_path={SCHEMA} -csynchronous_commit=off"
    options = f"{parts.pop('options', '')} {ours}".strip()
    # SQLAlchemy 2.1 takes `postgresql://` for psycopg 3, which dagster-postgres does not bring.
    url = sqlalchemy.URL.create(
        "postgresql+psycopg2",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        # The folder of a unix socket is no host name; as a parameter it reaches libpq as it is.
        host=None if parts.get("host", "").startswith("/") else parts.pop("host", None),
        port=int(parts.pop("port")) if parts.get("port") else None,
        database=parts.pop("dbname", None),
        query={"options": options, **parts},
    )
    return url.render_as_string(hide_password=False)


def pooled_engine(url: str) -> sqlalchemy.Engine:
    """Open the one engine that this process has for the URL; a forked child opens its own."""
    mark = (os.getpid(), url)
    if mark not in _engines:
        _engines[mark] = sqlalchemy.create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            poolclass=QueuePool,
            pool_size=CONNECTIONS_KEPT,
            max_overflow=CONNECTIONS_OVERFLOW_MAX,
            pool_recycle=CONNECTION_SECONDS_MAX,
            # The newest first, so that a quiet process keeps one connection busy instead of all of them half alive.
            pool_use_lifo=True,
            # A restart of the database costs one failed ping, not a failed run.
            pool_pre_ping=True,
        )
    return _engines[mark]


class PooledPostgresStorage(DagsterPostgresStorage):
    """dagster-postgres with one pool of connections for its three storages."""

    def __init__(self, database_url: str, *, inst_data: ConfigurableClassData | None = None) -> None:
        url = engine_url(database_url)
        with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(_CREATION_LOCK)))
            connection.execute(sqlalchemy.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            connection.commit()
            super().__init__(postgres_url=url, should_autocreate_tables=True, inst_data=inst_data)
        engine = pooled_engine(url)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public way to it.

    # The instance's parts are made from this class alone, not from dagster.yaml again.
    @property
    def event_storage_data(self) -> None:
        """Name no class for the event log alone."""

    @property
    def run_storage_data(self) -> None:
        """Name no class for the runs alone."""

    @property
    def schedule_storage_data(self) -> None:
        """Name no class for the ticks alone."""


def forget_checks(instance: DagsterInstance, run_ids: Sequence[str]) -> None:
    """Delete what asset checks left of some runs: deleting a run through Dagster leaves those rows for ever."""
    storage, table = instance.event_log_storage, AssetCheckExecutionsTable
    if isinstance(storage, PostgresEventLogStorage):
        with storage.index_connection() as connection:
            connection.execute(table.delete().where(table.c.run_id.in_(list(run_ids))))
