"""Connections to PostgreSQL and its migrations. Which statements run on them is the other modules' of this folder."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import LiteralString, Self, TypeAlias, cast

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from ingest_platform.domain.errors import LedgerFault

Transaction: TypeAlias = psycopg.Connection[TupleRow]

SCHEMA = "ingest"
# "Database down: 503 within 2 s" (promise 15): waiting for a connection and a statement must both fit in.
CONNECT_SECONDS_MAX = 1.5
# A statement of the path takes milliseconds; one that takes this long holds a lock that somebody waits for.
STATEMENT_SECONDS_MAX = 60
# A process that is stopped in the middle of a transaction, or whose machine is gone, would hold its locks for ever, and
# nobody else could claim the jobs that it was settling. The server ends such a transaction after so long.
IDLE_SECONDS_MAX = 30.0
_MIGRATION_LOCK = 0x1E57_0001


def connect(
    database_url: str, *, application: str, statement_seconds_max: float = STATEMENT_SECONDS_MAX
) -> Transaction:
    """Open one connection of its own, in autocommit, with our schema on the search path.

    Raises LedgerFault when PostgreSQL can't be reached.
    """
    try:
        address = _address(database_url, application, statement_seconds_max=statement_seconds_max)
        return psycopg.connect(address, autocommit=True)
    except psycopg.Error as error:
        raise LedgerFault(f"PostgreSQL can't be reached: {error}") from error


def _address(
    database_url: str, application: str, *, statement_seconds_max: float, idle_seconds_max: float = IDLE_SECONDS_MAX
) -> str:
    """Add to the address what every connection of ours needs. Raises LedgerFault if it is no address."""
    limits = {"statement_timeout": statement_seconds_max, "idle_in_transaction_session_timeout": idle_seconds_max}
    options = [f"-c {name}={round(seconds * 1000)}" for name, seconds in limits.items()]
    try:
        return make_conninfo(
            database_url,
            application_name=application,
            connect_timeout=2,
            options=" ".join([f"-c search_path={SCHEMA} -c timezone=UTC", *options]),
            # A server that vanished without a word is noticed by the kernel, not by a hung statement.
            keepalives_idle=10,
            tcp_user_timeout=10_000,
        )
    except psycopg.ProgrammingError:
        # The original shows the address, and a password may be in it.
        raise LedgerFault("The address of PostgreSQL can't be read.") from None


@contextmanager
def within(tx: Transaction, *, seconds_max: float) -> Generator[None]:
    """Let no statement of a with block take longer than this; one that would is ended as psycopg's QueryCanceled."""
    with tx.transaction():
        tx.execute("SELECT set_config('statement_timeout', %s, true)", (str(max(1, round(seconds_max * 1000))),))
        yield


class Ledger:
    """A pool of connections; every statement of the platform but the landing and listening ones goes through it."""

    def __init__(
        self,
        database_url: str,
        *,
        application: str,
        connections_max: int = 8,
        statement_seconds_max: float = STATEMENT_SECONDS_MAX,
        idle_seconds_max: float = IDLE_SECONDS_MAX,
    ) -> None:
        self.database_url = database_url
        self.application = application
        self._pool: ConnectionPool[Transaction] = ConnectionPool(
            _address(
                database_url,
                application,
                statement_seconds_max=statement_seconds_max,
                idle_seconds_max=idle_seconds_max,
            ),
            min_size=0,
            max_size=connections_max,
            timeout=CONNECT_SECONDS_MAX,
            max_idle=300,
            kwargs={"autocommit": True},
            # One cheap round trip finds a connection that died with the server, so that recovery needs no restart.
            check=ConnectionPool.check_connection,
            # An attempt to reconnect that fails is retried at the next use, not for minutes in the background.
            reconnect_timeout=CONNECT_SECONDS_MAX,
            open=True,
        )

    @contextmanager
    def connection(self) -> Generator[Transaction]:
        """Lend a connection in autocommit; database errors leave as LedgerFault."""
        try:
            with self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InternalError, PoolTimeout) as error:
            raise LedgerFault(f"PostgreSQL: {error}") from error

    @contextmanager
    def transaction(self, *, idle_seconds_max: float | None = None) -> Generator[Transaction]:
        """Lend a connection inside BEGIN … COMMIT; an exception rolls back.

        Between two statements there may be `idle_seconds_max`, if the work there takes longer than is usual.
        """
        with self.connection() as connection, connection.transaction():
            if idle_seconds_max is not None:
                milliseconds = str(round(idle_seconds_max * 1000))
                connection.execute(
                    "SELECT set_config('idle_in_transaction_session_timeout', %s, true)", (milliseconds,)
                )
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self._pool.close(timeout=2)

    def __enter__(self) -> Self:
        """Use the ledger in a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A numbered SQL file. It is known by `name`, its path from the folder of all migrations or of a feed's."""

    name: str
    number: int
    text: str


def migrations() -> list[Migration]:
    """List the numbered SQL files: the platform's beside this module, then each feed's own, in order."""
    package = resources.files("ingest_platform")
    found = _numbered(package / "storage" / "migrations", prefix="")
    for feed in sorted((package / "feeds").iterdir(), key=lambda entry: entry.name):
        found += _numbered(feed / "migrations", prefix=f"{feed.name}/")
    return found


def _numbered(folder: Traversable, *, prefix: str) -> list[Migration]:
    if not folder.is_dir():
        return []
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [
        Migration(name=prefix + entry.name, number=int(entry.name[:4]), text=entry.read_text(encoding="utf-8"))
        for entry in files
    ]


def migrate(database_url: str) -> list[str]:
    """Apply the migrations that are missing, each in a transaction of its own; return their names.

    Safe when two start at once: an advisory lock lets the second wait and find nothing to do.
    """
    done: list[str] = []
    with connect(database_url, application="ingest-migrate") as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        # Dagster's tables and the lake's catalog live beside ours, each in a schema of its own.
        connection.execute("CREATE SCHEMA IF NOT EXISTS dagster")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        known = {name for (name,) in connection.execute("SELECT name FROM migrations")}
        for each in migrations():
            if each.name in known:
                continue
            with connection.transaction():
                # The files are ours, shipped in the package; nothing of a client's is in them.
                connection.execute(cast("LiteralString", each.text))
                connection.execute("INSERT INTO migrations (name) VALUES (%s)", (each.name,))
            done.append(each.name)
    return done
