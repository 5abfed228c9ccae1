"""Whose turn it is to write to a warehouse table: one holder at a time, across processes and machines.

A turn is a session advisory lock of PostgreSQL, so it ends with its holder's connection. A holder that is alive says so
every second; one that has fallen silent (stopped, or cut off) is ended by whoever waits. The lock alone would not stop
such a holder from committing when it wakes: that is the fence's business (`warehouse.py`).
"""

import threading
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import conninfo

from ingest_platform.domain.errors import LeaseLost, WarehouseFault

# The first of the two numbers of our advisory locks, so that nobody else's mean the same: "lake" in ASCII.
LOCK_CLASS = 0x6C616B65
# A database that doesn't answer within this is away (promise 15).
CONNECT_SECONDS_MAX = 2
# How often a holder shows that it is alive.
BEAT_SECONDS = 1.0
# Five missed beats. Ending a holder that was merely slow costs a repeated load; waiting longer eats into the lease.
SILENT_SECONDS_MAX = 5.0
# A load of 1 M rows takes about a second and upkeep of 10 M rows less than a minute; ten minutes are a hang.
HELD_SECONDS_MAX = 600.0
# Longer than upkeep holds a table.
WAIT_SECONDS_MAX = 120.0

_TAKE = "SELECT pg_advisory_lock(%s, %s)"
_MINE = """
    SELECT EXISTS (SELECT FROM pg_locks
        WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid = 2 AND granted
            AND classid = %s::oid AND objid = %s::oid)
"""
# The connections of a silent holder, with those of its engine: they bear the holder's name.
_END_SILENT = """
    SELECT count(pg_terminate_backend(theirs.pid))
    FROM pg_locks AS lock
    JOIN pg_stat_activity AS holder USING (pid)
    JOIN pg_stat_activity AS theirs ON theirs.application_name = holder.application_name
        AND theirs.datname = holder.datname
    WHERE lock.locktype = 'advisory' AND lock.objsubid = 2 AND lock.granted AND holder.datname = current_database()
        AND lock.classid = %s::oid AND lock.objid = %s::oid
        AND lock.pid <> pg_backend_pid()
        AND clock_timestamp() - holder.state_change > make_interval(secs => %s)
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """A table's turn while it is held."""

    table: str
    _connection: psycopg.Connection

    def assert_held(self) -> None:
        """Raise LeaseLost unless the turn is still ours."""
        try:
            row = self._connection.execute(_MINE, (LOCK_CLASS, _number(self.table))).fetchone()
        except psycopg.Error as error:
            msg = f"the turn to write to {self.table} was lost with its connection"
            raise LeaseLost(msg) from error
        if row is None or not row[0]:
            msg = f"the turn to write to {self.table} is not ours any more"
            raise LeaseLost(msg)


@dataclass(slots=True, kw_only=True)
class Turns:
    """Takes turns for one holder; its name is also the one under which its engine connects."""

    database_url: str
    holder: str
    silent_seconds_max: float = SILENT_SECONDS_MAX
    wait_seconds_max: float = WAIT_SECONDS_MAX
    _idle: list[psycopg.Connection] = field(default_factory=list[psycopg.Connection])

    @contextmanager
    def taken(self, table: str) -> Generator[Turn]:
        """Wait for a table's turn and hold it for a with block."""
        connection = self._connect()
        done = threading.Event()
        beat = threading.Thread(target=self._beat, args=(connection, done), name=f"turn-{table}", daemon=True)
        try:
            self._take(connection, table)
            beat.start()
            yield Turn(table, connection)
        finally:
            done.set()
            if beat.ident is not None:
                beat.join()
            self._give_back(connection)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while (connection := self._kept()) is not None:
            connection.close()

    def _kept(self) -> psycopg.Connection | None:
        # Asking first whether there is one would let another thread take the last in between.
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> psycopg.Connection:
        while (connection := self._kept()) is not None:
            if _answers(connection):
                return connection
            connection.close()
        try:
            return psycopg.connect(
                conninfo.make_conninfo(self.database_url, connect_timeout=CONNECT_SECONDS_MAX),
                autocommit=True,
                application_name=self.holder,
                # The wait is cut into pieces, between which we look whether the holder is alive.
                options=f"-c lock_timeout={max(1, round(min(BEAT_SECONDS, self.silent_seconds_max) * 1000))}",
            )
        except psycopg.Error as error:
            raise WarehouseFault("PostgreSQL is away: no turn can be taken") from error

    def _take(self, connection: psycopg.Connection, table: str) -> None:
        lock = (LOCK_CLASS, _number(table))
        pieces = max(1, round(self.wait_seconds_max / min(BEAT_SECONDS, self.silent_seconds_max)))
        for _ in range(pieces):
            try:
                connection.execute(_TAKE, lock)
            except psycopg.errors.LockNotAvailable:
                connection.execute(_END_SILENT, (*lock, self.silent_seconds_max))
            except psycopg.Error as error:
                msg = f"the turn to write to {table} can't be taken"
                raise WarehouseFault(msg) from error
            else:
                return
        msg = f"{table} was busy for {self.wait_seconds_max:g} s"
        raise WarehouseFault(msg)

    def _beat(self, connection: psycopg.Connection, done: threading.Event) -> None:
        pause = min(BEAT_SECONDS, self.silent_seconds_max / 5)
        for _ in range(round(HELD_SECONDS_MAX / pause)):
            if done.wait(pause):
                return
            try:
                connection.execute("SELECT 1")
            except psycopg.Error:
                # The turn is lost; its holder learns it when it asks before its commit.
                return

    def _give_back(self, connection: psycopg.Connection) -> None:
        try:
            connection.execute("SELECT pg_advisory_unlock_all()")
        except psycopg.Error:
            # The lock ended with the connection.
            connection.close()
        else:
            self._idle.append(connection)


def _answers(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _number(table: str) -> int:
    """Name a table by a 31-bit number, as advisory locks want it; a collision only makes two tables wait."""
    return zlib.crc32(table.encode()) & 0x7FFF_FFFF
