"""The warehouse: DuckLake tables (Parquet files, catalog in PostgreSQL), opened by DuckDB. The only importer of duckdb.

How records are merged is not known here (`pipeline/dedupe.py`, `pipeline/fold.py`); that a table has one writer at a
time, and that a writer which lost its turn changes nothing, is.

DuckLake has no unique keys and lets two transactions insert the same new key. Therefore a writer holds the table's turn
(`turns.py`), and as its first statement replaces the one row of the table's fence. A writer that was stopped while it
had the turn, and wakes after another one committed, deletes a row that is gone by then: DuckLake refuses its commit.
"""

import importlib.util
import itertools
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import LiteralString, Self, TypeAlias, cast

import duckdb
import psycopg
import pyarrow as pa
from psycopg import conninfo, sql

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import Fault, LeaseLost, TooCostly, WarehouseFault
from ingest_platform.domain.feed import AppendTable, Column, FoldedTable, Table
from ingest_platform.storage.turns import (
    CONNECT_SECONDS_MAX,
    HELD_SECONDS_MAX,
    SILENT_SECONDS_MAX,
    WAIT_SECONDS_MAX,
    Turns,
)

Values: TypeAlias = Sequence[object]
Rows: TypeAlias = pa.Table | pa.RecordBatchReader

CATALOG_SCHEMA = "lake"
# Attaching and creating tables by two processes at once is a conflict for DuckLake, so they take turns at that too.
SET_UP = "set up"
# Of each table: its rows (and its records, if it is a folded one), the jobs that it has taken in, its fence.
SCHEMAS = ("main", "applied", "fences")
# Rows of one insert that lie in PostgreSQL until they are flushed, instead of in a small file. See docs/decisions/0002.
INLINED_ROWS_MAX = 250
# Small changes of a table by one process after which it flushes them: with as many, look-ups take twice as long as in
# files, because PostgreSQL hands over all of them.
FLUSHED_ROWS_MIN = 20_000
# Files of compaction; a file is rewritten whole when many of its rows are deleted.
FILE_SIZE_TARGET = "128MB"
DELETED_SHARE_MAX = 0.1
# Of files that are sorted by a hash: a look-up of few keys reads few groups. See docs/decisions/0005.
SORTED_GROUP_ROWS = 10_240
# A load touches most groups of them, and reads whole what it touches: LZ4 unpacks in half of Snappy's time.
SORTED_COMPRESSION = "lz4_raw"
# Up to so many keys of a join are compared with the bounds of every group; beyond, that costs more than it saves.
PRUNING_KEYS_MAX = 250
# Snapshots are kept for six times as long as a writer may sleep; by them DuckLake finds that one was overtaken.
SNAPSHOT_AGE = timedelta(hours=1)
# Files merged while a table's turn is held; the others wait for the next upkeep.
MERGED_FILES_MAX = 200

# Days of one load beyond which its rows lie together and not in a file for each day, as a file takes 6 ms to write:
# a file of a client's may name any day of ten thousand years. Of files that are written, DuckDB has 100 open at once.
PARTED_DAYS_MAX = 366
# Days of inlined rows beyond which they stay inlined: flushing takes 20 to 50 ms a day, and all memory for thousands.
FLUSHED_DAYS_MAX = 366

# What every table has besides its own columns. `accepted_seq` and `accepted_index` are the place in the order of
# acceptance of the last record that said what the row says; the others are of the record that first said so.
KERNEL_COLUMNS = (
    Column(name="workspace", type="VARCHAR"),
    Column(name="job_id", type="VARCHAR"),
    Column(name="record_index", type="BIGINT"),
    Column(name="accepted_seq", type="BIGINT"),
    Column(name="accepted_index", type="BIGINT"),
    Column(name="accepted_at", type="TIMESTAMPTZ"),
)
# What the fold counts of each row of a folded table. `said` is a digest of the given columns, by which a record that
# says nothing new is known without reading them.
FOLD_COLUMNS = (
    Column(name="occurrences", type="BIGINT"),
    Column(name="first_seen_at", type="TIMESTAMPTZ"),
    Column(name="last_seen_at", type="TIMESTAMPTZ"),
    Column(name="created_at", type="TIMESTAMPTZ"),
    Column(name="updated_at", type="TIMESTAMPTZ"),
    Column(name="said", type="UBIGINT"),
)
# What a folded table's records have besides its own columns: the place of each, which nothing moves.
RECORD_COLUMNS = tuple(column for column in KERNEL_COLUMNS if column.name != "accepted_index")
APPLIED_COLUMNS = (
    Column(name="load_id", type="VARCHAR"),
    Column(name="job_id", type="VARCHAR"),
    Column(name="accepted_seq", type="BIGINT"),
    Column(name="records", type="BIGINT"),
    Column(name="codes", type="BLOB"),
    Column(name="applied_at", type="TIMESTAMPTZ"),
)
# What DuckDB is made of here besides itself; each comes as a wheel for exactly one version of it.
EXTENSIONS = ("ducklake", "postgres_scanner", "httpfs")
FENCE_COLUMNS = (Column(name="fence", type="BIGINT"),)
# Names that no column can have, in whatever case: where rows lie in PostgreSQL, DuckLake and PostgreSQL have such
# columns of their own besides; and those that are words of PostgreSQL's but not of DuckDB's, DuckLake does not quote.
KEPT_NAMES = frozenset(
    {
        *("row_id", "begin_snapshot", "end_snapshot", "_ducklake_internal_row_id", "_ducklake_internal_snapshot_id"),
        *("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"),
        *("current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp"),
        *("current_user", "localtime", "localtimestamp", "session_user", "system_user"),
    }
)


def quoted(name: str) -> str:
    """Quote a name for SQL.

    >>> quoted('a "name"!')
    '"a ""name""!"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for SQL, where no parameter is possible.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def stored_name(name: str, *, prefix: str) -> str:
    """Name the column in which a table keeps what a client calls by a name; no client's name begins with the prefix.

    >>> stored_name("amount", prefix="__"), stored_name("ctid", prefix="__")
    ('amount', '__ctid')
    """
    return prefix + name if name.lower() in KEPT_NAMES else name


def rows_of(table: str) -> str:
    """Name the lake table that holds a table's rows."""
    return f"lake.main.{quoted(table)}"


def records_of(table: FoldedTable) -> str:
    """Name the lake table that keeps every accepted record of a folded table."""
    return rows_of(table.records_name)


def columns_of(table: Table) -> tuple[Column, ...]:
    """List the columns of a table's rows, in their order."""
    if isinstance(table, FoldedTable):
        return (*table.columns, *FOLD_COLUMNS, *table.derived, *KERNEL_COLUMNS)
    if isinstance(table, AppendTable):
        return _appended_columns(table)
    return (*table.columns, *KERNEL_COLUMNS)


def prefix_of(table: Table) -> str:
    """Tell what the names of the kernel's columns begin with in a table."""
    return table.prefix if isinstance(table, AppendTable) else ""


def _appended_columns(table: AppendTable) -> tuple[Column, ...]:
    return (
        Column(name=table.id_column, type="VARCHAR"),
        *(column for column, _ in table.constants),
        *(Column(name=stored_name(each.name, prefix=table.prefix), type=each.type) for each in table.columns),
        Column(name=table.accepted_column, type="TIMESTAMPTZ"),
        Column(name=table.request_column, type="VARCHAR"),
        *(Column(name=table.prefix + column.name, type=column.type) for column in RECORD_COLUMNS),
        Column(name=day_of(table), type="DATE"),
    )


def day_of(table: AppendTable) -> str:
    """Name the column with the day, in UTC, by which a table's files are parted.

    A column of its own, because parting by year, month and day of a time takes twice as long.
    """
    return f"{table.prefix}day"


def applied_of(table: str) -> str:
    """Name the lake table that remembers which jobs a table has taken in, and with what outcome."""
    return f"lake.applied.{quoted(table)}"


def fence_of(table: str) -> str:
    """Name the lake table with the one row that every writer of a table replaces.

    It is a table of its own, because DuckLake finds conflicts by table: writers of two tables must not meet.
    """
    return f"lake.fences.{quoted(table)}"


class LakeSession:
    """One conversation with the engine; its temporary tables are its own. Not for two threads at once."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, fault: Callable[[duckdb.Error], Fault]) -> None:
        self._cursor = cursor
        self._fault = fault

    def execute(self, statement: str, values: Values = ()) -> int:
        """Run a statement; the number of rows that it changed, 0 if it changes none."""
        with self._translated():
            done = self._cursor.execute(statement, list(values))
            row = done.fetchone() if done.description else None
        return row[0] if row and isinstance(row[0], int) else 0

    def fetch(self, query: str, values: Values = ()) -> pa.Table:
        """Run a query to its end."""
        with self._translated():
            return self._cursor.execute(query, list(values)).to_arrow_table()

    def ask(self, query: str, values: Values, *, seconds_max: float, bytes_max: int) -> pa.Table:
        """Run somebody's question, within limits of time and of the answer's size. Raises TooCostly."""
        timer = threading.Timer(seconds_max, self._interrupt)
        timer.daemon = True
        timer.start()
        try:
            with self._translated():
                answer = self._cursor.execute(query, list(values)).to_arrow_table()
        finally:
            timer.cancel()
        if answer.nbytes > bytes_max:
            raise TooCostly(f"The answer has {answer.nbytes:,} bytes; the limit is {bytes_max:,}")
        return answer

    def _interrupt(self) -> None:
        # It may have come to its end, and been closed, in this very moment.
        with suppress(duckdb.Error):
            self._cursor.interrupt()

    @contextmanager
    def seeing(self, name: str, rows: Rows) -> Generator[None]:
        """Let statements of a with block read Arrow rows under a name."""
        with self._translated():
            self._cursor.register(name, rows)
        try:
            yield
        finally:
            with self._translated():
                self._cursor.unregister(name)

    @contextmanager
    def transaction(self) -> "Generator[LakeTransaction]":
        """Run a with block inside BEGIN … COMMIT; an exception rolls back."""
        transaction = LakeTransaction(self._cursor, self._fault)
        transaction.execute("BEGIN")
        try:
            yield transaction
            transaction.execute("COMMIT")
        except BaseException:
            # Without a transaction (a failed COMMIT has ended it) or a connection nothing is left to roll back.
            with suppress(WarehouseFault, LeaseLost):
                transaction.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Give back what the session holds, temporary tables included."""
        self._cursor.close()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except duckdb.Error as error:
            # The original may hold the connection string, and a chained exception would show it.
            raise self._fault(error) from None


class LakeTransaction(LakeSession):
    """A session inside BEGIN … COMMIT."""

    # Rows changed by each of its statements.
    changed: list[int]

    def __init__(self, cursor: duckdb.DuckDBPyConnection, fault: Callable[[duckdb.Error], Fault]) -> None:
        super().__init__(cursor, fault)
        self.changed = []

    def execute(self, statement: str, values: Values = ()) -> int:
        """Run a statement; the number of rows that it changed, 0 if it changes none."""
        changed = super().execute(statement, values)
        self.changed.append(changed)
        return changed


class Warehouse:
    """The lake of one process, attached at first use. Readers and writers may be any threads."""

    def __init__(
        self,
        database_url: str,
        *,
        lake_path: str,
        memory_bytes_max: int,
        threads: int = 2,
        s3: Mapping[str, str] | None = None,
        spill_path: str | None = None,
        silent_seconds_max: float = SILENT_SECONDS_MAX,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
        idle_seconds_max: float = HELD_SECONDS_MAX,
        inlined_rows_max: int = INLINED_ROWS_MAX,
        flushed_rows_min: int = FLUSHED_ROWS_MIN,
    ) -> None:
        self._database_url = database_url
        self._remote = "://" in lake_path
        self._lake_path = (lake_path if self._remote else str(Path(lake_path).absolute())).rstrip("/") + "/"
        self._memory_bytes_max = memory_bytes_max
        self._threads = threads
        self._s3 = dict(s3 or {})
        self._idle_seconds_max = idle_seconds_max
        self._inlined_rows_max = inlined_rows_max
        self._flushed_rows_min = flushed_rows_min
        self._holder = f"ingest-lake-{secrets.token_hex(8)}"
        # A folder for each engine: DuckDB names its files alike in every process.
        self._spill_path = str(Path(spill_path).absolute() / self._holder) if spill_path else ""
        self._turns = Turns(
            database_url=database_url,
            holder=self._holder,
            silent_seconds_max=silent_seconds_max,
            wait_seconds_max=wait_seconds_max,
        )
        # Reentrant: opening may fail, and a failure may give the engine up.
        self._lock = threading.RLock()
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._ensured: set[str] = set()
        self._small_changes: Counter[str] = Counter()

    def session(self) -> LakeSession:
        """Begin a conversation; close it after use."""
        return LakeSession(self._cursor(), self._fault)

    def query(self, query: str, params: Values = ()) -> pa.Table:
        """Read, from any thread; never waits for a writer."""
        with closing(self.session()) as session:
            return session.fetch(query, params)

    def ensure(self, tables: Sequence[Table]) -> None:
        """Create the lake's tables that are missing; safe when two processes do it at once."""
        missing = [table for table in tables if table.name not in self._ensured]
        if not missing:
            return
        folded = [table for table in missing if isinstance(table, FoldedTable)]
        with closing(self.session()) as session, self._turns.taken(SET_UP):
            with session.transaction() as transaction:
                for schema in SCHEMAS:
                    transaction.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{schema}")
                for table in missing:
                    if isinstance(table, FoldedTable):
                        _create_sorted(transaction, table)
                    elif isinstance(table, AppendTable):
                        _create_partitioned(transaction, table)
                    else:
                        _create(transaction, rows_of(table.name), columns_of(table))
                    _create(transaction, applied_of(table.name), APPLIED_COLUMNS)
                    _create(transaction, fence_of(table.name), FENCE_COLUMNS)
                    _begin_fence(transaction, table.name)
            # DuckLake takes options of tables that are committed only.
            for table in folded:
                _shape_files(session, table)
        for table in missing:
            if isinstance(table, AppendTable):
                self._part(table)
        self._ensured.update(table.name for table in missing)

    @contextmanager
    def writing(
        self,
        table: str,
        *,
        fence: int,
        session: LakeSession | None = None,
        still_ours: Callable[[], bool] | None = None,
    ) -> Generator[LakeTransaction]:
        """Have a table's turn and a transaction for a with block, which commits at its end.

        `session` brings its temporary tables along. `still_ours` is asked once the fence is ours: whoever takes the
        work away from us after that must take the turn as well, and then our commit is refused. Raises LeaseLost if the
        turn or the work was lost, WarehouseFault for whatever else; then nothing was changed.
        """
        own = self.session() if session is None else None
        used = session or own
        assert used is not None
        try:
            with self._turns.taken(table) as turn:
                try:
                    with used.transaction() as transaction:
                        _replace_fence(transaction, table, fence)
                        if still_ours is not None and not still_ours():
                            raise LeaseLost(f"the work on {table} is another worker's by now")
                        yield transaction
                        turn.assert_held()
                        reach("load.before_commit")
                except WarehouseFault as fault:
                    # Whoever took the turn has ended our connections; that is no fault of the lake.
                    turn.assert_held()
                    raise fault from None
                reach("load.after_commit")
                self._flush_when_many(table, transaction.changed)
        finally:
            if own is not None:
                own.close()

    @contextmanager
    def unparted(self, table: AppendTable) -> Generator[None]:
        """Let what a with block writes lie together, whatever its days are. The turn is not held in between.

        DuckLake does not let one transaction do both. Whoever dies in between leaves a table that is parted again by
        the next process that uses it; until then its rows are found all the same.
        """
        # If it can't be parted again now, whoever uses it next tries.
        self._ensured.discard(table.name)
        with self._turns.taken(table.name), closing(self.session()) as session:
            if self._day_column(table.name) is not None:
                _unpart(session, table.name)
        yield
        self._part(table)
        self._ensured.add(table.name)

    def _part(self, table: AppendTable) -> None:
        """Make sure that a table's files are parted by day."""
        with self._turns.taken(table.name), closing(self.session()) as session:
            if self._day_column(table.name) != day_of(table):
                _part(session, table)

    def _day_column(self, table: str) -> str | None:
        """Tell by which column's days a table's files are parted; None if they are not."""
        # DuckLake keeps a partition without columns for a table that is no longer parted.
        rows = self._look_up(
            """
            SELECT c.column_name FROM {0}.ducklake_partition_column AS pc
            JOIN {0}.ducklake_partition_info AS p USING (partition_id)
            JOIN {0}.ducklake_table AS t ON t.table_id = p.table_id
            JOIN {0}.ducklake_schema AS s USING (schema_id)
            JOIN {0}.ducklake_column AS c ON c.table_id = t.table_id AND c.column_id = pc.column_id
            WHERE t.table_name = %s AND s.schema_name = 'main' AND p.end_snapshot IS NULL
                AND t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND c.end_snapshot IS NULL
            """,
            table,
        )
        return str(rows[0][0]) if rows else None

    def _inlined_days(self, table: str, day_column: str) -> int:
        """Count the days of a table's inlined rows; those of one day in two places count twice."""
        places = self._look_up(
            """
            SELECT i.table_name FROM {0}.ducklake_inlined_data_tables AS i
            JOIN {0}.ducklake_table AS t USING (table_id) JOIN {0}.ducklake_schema AS s USING (schema_id)
            WHERE t.table_name = %s AND s.schema_name = 'main' AND t.end_snapshot IS NULL AND s.end_snapshot IS NULL
            """,
            table,
        )
        count = sql.SQL("SELECT count(DISTINCT {}) FROM {}")
        found = 0
        for (place,) in places:
            counted = count.format(sql.Identifier(day_column), sql.Identifier(CATALOG_SCHEMA, str(place)))
            found += cast("int", self._look_up(counted)[0][0])
        return found

    def _look_up(self, query: LiteralString | sql.Composed, *values: str) -> list[tuple[object, ...]]:
        """Ask the lake's catalog directly; `{0}` is its schema."""
        composed = sql.SQL(query).format(sql.Identifier(CATALOG_SCHEMA)) if isinstance(query, str) else query
        try:
            with closing(self._connect()) as connection:
                return connection.execute(composed, values).fetchall()
        except psycopg.Error:
            # The original may hold the connection string.
            raise WarehouseFault("the lake's catalog can't be asked") from None

    def inlined_rows(self) -> dict[str, int]:
        """Count the rows of each table that lie in PostgreSQL and not yet in files, its bookkeeping included."""
        listed = """
            SELECT t.table_name, i.table_name FROM {0}.ducklake_inlined_data_tables AS i
            JOIN {0}.ducklake_table AS t USING (table_id) WHERE t.end_snapshot IS NULL
        """
        self._opened()
        counts: dict[str, int] = {}
        schema = sql.Identifier(CATALOG_SCHEMA)
        try:
            with self._connect() as connection:
                for table, inlined in connection.execute(sql.SQL(listed).format(schema)).fetchall():
                    count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(CATALOG_SCHEMA, inlined))
                    row = connection.execute(count).fetchone()
                    counts[table] = counts.get(table, 0) + (row[0] if row else 0)
        except psycopg.Error as error:
            raise WarehouseFault("inlined rows can't be counted") from error
        return counts

    def flush_inlined(self, table: str) -> int:
        """Write a table's inlined rows, and those of its bookkeeping, to files; returns how many."""
        with self._turns.taken(table):
            return self._flush(table)

    def maintain(
        self,
        *,
        snapshot_age: timedelta = SNAPSHOT_AGE,
        applied_age: timedelta = timedelta(days=1),
        applied_before: int | None = None,
        orphan_age: timedelta = timedelta(days=1),
    ) -> dict[str, int]:
        """Flush, rewrite, merge, forget and clean up; returns how much of each was done.

        A table's turn is held while its files change, never all of the time. Jobs are forgotten by age, and none from
        `applied_before` on in the order of acceptance: one that was loaded and not settled will be loaded again.
        """
        done: dict[str, int] = {"rows flushed": 0, "files rewritten": 0, "files merged": 0, "jobs forgotten": 0}
        with closing(self.session()) as session:
            names = session.fetch(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'fences'"
            )
            tables: list[str] = names.column(0).to_pylist()
            for table in tables:
                done["jobs forgotten"] += self._forget_applied(table, applied_age, before=applied_before)
                done["rows flushed"] += self.flush_inlined(table)
                for schema, name in _tables_of(session, table):
                    with self._turns.taken(table):
                        done["files rewritten"] += _rewrite(session, schema, name)
                        done["files merged"] += _merge_files(session, schema, name)
            done["snapshots expired"] = _count(
                session, f"CALL ducklake_expire_snapshots('lake', older_than => now() - {_interval(snapshot_age)})"
            )
            done["files deleted"] = _count(
                session, f"CALL ducklake_cleanup_old_files('lake', older_than => now() - {_interval(snapshot_age)})"
            )
            done["orphans deleted"] = self._delete_orphans(session, tables, orphan_age)
        return done

    def close(self) -> None:
        """Close the engine and its connections; a later use opens them again."""
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None
            self._turns.close()

    def __enter__(self) -> Self:
        """Use the warehouse in a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _flush_when_many(self, table: str, changed: Sequence[int]) -> None:
        """Flush a table, while it is still our turn, once our small changes have made look-ups slow."""
        self._small_changes[table] += sum(rows for rows in changed if rows <= self._inlined_rows_max)
        if self._small_changes[table] >= self._flushed_rows_min:
            self._small_changes[table] = 0
            # The load is committed and must be settled; what hinders flushing, upkeep meets as well, and fails of it.
            with suppress(WarehouseFault, LeaseLost):
                self._flush(table)

    def _flush(self, table: str) -> int:
        """Flush what can be. Rows of very many days stay where they are, and are found there as well."""
        day_column = self._day_column(table)
        stays = day_column is not None and self._inlined_days(table, day_column) > FLUSHED_DAYS_MAX
        with closing(self.session()) as session:
            return sum(
                _flush(session, schema, name)
                for schema, name in _tables_of(session, table)
                if not (stays and schema == "main")
            )

    def _forget_applied(self, table: str, age: timedelta, *, before: int | None) -> int:
        statement = (
            f"DELETE FROM {applied_of(table)} WHERE applied_at < now() - {_interval(age)}"
            " AND (?::BIGINT IS NULL OR accepted_seq < ?::BIGINT)"
        )
        with self._turns.taken(table), closing(self.session()) as session:
            return session.execute(statement, [before, before])

    def _delete_orphans(self, session: LakeSession, tables: Sequence[str], age: timedelta) -> int:
        """Delete files that no commit knows, while nobody writes: a clock that jumped must not make new files old."""
        if tables:
            with self._turns.taken(tables[0]):
                return self._delete_orphans(session, tables[1:], age)
        return _count(session, f"CALL ducklake_delete_orphaned_files('lake', older_than => now() - {_interval(age)})")

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        try:
            return self._opened().cursor()
        except duckdb.Error as error:
            raise self._fault(error) from None

    def _opened(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def _open(self) -> duckdb.DuckDBPyConnection:
        if not self._remote:
            Path(self._lake_path).mkdir(parents=True, exist_ok=True)
        if self._spill_path:
            # DuckDB makes the last folder only, and removes it at the end.
            Path(self._spill_path).parent.mkdir(parents=True, exist_ok=True)
        engine: duckdb.DuckDBPyConnection | None = None
        try:
            with self._turns.taken(SET_UP):
                self._create_catalog()
                engine = duckdb.connect(":memory:", config=self._configuration())
                for statement in self._opening():
                    engine.execute(statement)
        except duckdb.Error as error:
            if engine is not None:
                engine.close()
            raise self._fault(error) from None
        return engine

    def _configuration(self) -> dict[str, str | bool | int | float | list[str]]:
        return {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": f"{self._memory_bytes_max}B",
            "threads": self._threads,
            "temp_directory": self._spill_path,
        }

    def _opening(self) -> list[str]:
        """Attach the lake, then lock the engine down: from there on it reads and writes the lake's files only."""
        names = ["ducklake", "postgres_scanner", *(["httpfs"] if self._remote else [])]
        options = (
            f"DATA_PATH {literal(self._lake_path)}, META_SCHEMA {literal(CATALOG_SCHEMA)},"
            f" DATA_INLINING_ROW_LIMIT {self._inlined_rows_max}"
        )
        allowed = [self._lake_path, *([self._spill_path + "/"] if self._spill_path else [])]
        return [
            *(f"LOAD {literal(_extension(name))}" for name in names),
            *([self._secret()] if self._s3 else []),
            f"ATTACH {literal('ducklake:postgres:' + self._dsn())} AS lake ({options})",
            f"SET GLOBAL ducklake_target_file_size = {literal(FILE_SIZE_TARGET)}",
            "SET GLOBAL TimeZone = 'UTC'",
            f"SET GLOBAL dynamic_or_filter_threshold = {PRUNING_KEYS_MAX}",
            # A load scans a table several times. Files never change, and the cache gives way when memory is short.
            "SET GLOBAL parquet_metadata_cache = true",
            f"SET GLOBAL allowed_directories = [{', '.join(map(literal, allowed))}]",
            "SET GLOBAL enable_external_access = false",
            "SET GLOBAL lock_configuration = true",
        ]

    def _secret(self) -> str:
        options = ", ".join(f"{name} {literal(value)}" for name, value in self._s3.items())
        return f"CREATE SECRET lake_files (TYPE s3, {options})"

    def _dsn(self) -> str:
        # DuckLake finds conflicts by what the snapshots since a transaction's begin have changed, so it is blind once
        # they are expired. PostgreSQL ends a transaction that sleeps, long before that.
        idle = f"-c idle_in_transaction_session_timeout={round(self._idle_seconds_max * 1000)}"
        given = conninfo.conninfo_to_dict(self._database_url).get("options")
        return conninfo.make_conninfo(
            self._database_url,
            connect_timeout=CONNECT_SECONDS_MAX,
            application_name=self._holder,
            options=f"{given} {idle}" if given else idle,
        )

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._dsn(), autocommit=True)

    def _create_catalog(self) -> None:
        """Create the schema of the lake's catalog; DuckLake creates its tables, but not that."""
        statement = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(CATALOG_SCHEMA))
        try:
            with closing(self._connect()) as connection:
                connection.execute(statement)
        except psycopg.Error:
            # The original may hold the connection string.
            raise WarehouseFault("PostgreSQL is away: the lake can't be attached") from None

    def _fault(self, error: duckdb.Error) -> Fault:
        if isinstance(error, duckdb.FatalException | duckdb.InternalException):
            # The engine is beyond use; the next one to ask gets a new one.
            with self._lock:
                self._engine = None
        message = str(error)
        for secret in self._secrets():
            message = message.replace(secret, "***")
        if isinstance(error, duckdb.InterruptException):
            return TooCostly("It took more time than it may")
        if isinstance(error, duckdb.OutOfMemoryException):
            return TooCostly("It took more memory than it may")
        if "Transaction conflict" in message:
            # Whoever has the turn meets no conflict, so we have lost it.
            return LeaseLost(message)
        return WarehouseFault(message)

    def _secrets(self) -> list[str]:
        password = conninfo.conninfo_to_dict(self._database_url).get("password")
        return [str(each) for each in (self._dsn(), password, self._s3.get("SECRET")) if each]


def _create(session: LakeSession, name: str, columns: Sequence[Column]) -> None:
    listed = ", ".join(f"{quoted(column.name)} {column.type}" for column in columns)
    session.execute(f"CREATE TABLE IF NOT EXISTS {name} ({listed})")


def _create_sorted(session: LakeSession, table: FoldedTable) -> None:
    """Create what a folded table is sorted in. Sorting an old one again is a change that writers collide with."""
    columns = {table.name: columns_of(table), table.records_name: (*table.columns, *RECORD_COLUMNS)}
    for name, listed in columns.items():
        if not _exists(session, name):
            _create(session, rows_of(name), listed)
            session.execute(f"ALTER TABLE {rows_of(name)} SET SORTED BY ({quoted(table.identity)})")


def _create_partitioned(session: LakeSession, table: AppendTable) -> None:
    """Create what an append table's files are parted in: a day of it is read without opening the others."""
    day = day_of(table)
    if not _exists(session, table.name):
        _create(session, rows_of(table.name), columns_of(table))
        _part(session, table)
    elif not _has_column(session, table.name, day):
        # One of before the day had a column of its own; it is parted by it once this is committed.
        time = quoted(stored_name(table.day_column, prefix=table.prefix))
        session.execute(f"ALTER TABLE {rows_of(table.name)} ADD COLUMN {quoted(day)} DATE")
        session.execute(f"UPDATE {rows_of(table.name)} SET {quoted(day)} = CAST({time} AT TIME ZONE 'UTC' AS DATE)")


def _part(session: LakeSession, table: AppendTable) -> None:
    session.execute(f"ALTER TABLE {rows_of(table.name)} SET PARTITIONED BY ({quoted(day_of(table))})")


def _unpart(session: LakeSession, table: str) -> None:
    session.execute(f"ALTER TABLE {rows_of(table)} RESET PARTITIONED BY")


def _exists(session: LakeSession, name: str) -> bool:
    known = "SELECT 1 FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'main' AND table_name = ?"
    return session.fetch(known, [name]).num_rows > 0


def _has_column(session: LakeSession, table: str, column: str) -> bool:
    known = (
        "SELECT 1 FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = 'main' AND table_name = ?"
        " AND column_name = ?"
    )
    return session.fetch(known, [table, column]).num_rows > 0


def _shape_files(session: LakeSession, table: FoldedTable) -> None:
    options = {"parquet_row_group_size": str(SORTED_GROUP_ROWS), "parquet_compression": SORTED_COMPRESSION}
    for name, (option, value) in itertools.product((table.name, table.records_name), options.items()):
        told = session.fetch(
            "SELECT 1 FROM lake.options() WHERE option_name = ? AND scope_entry = ? AND value = ?",
            [option, f"main.{name}", value],
        )
        if told.num_rows == 0:
            session.execute(
                f"CALL lake.set_option({literal(option)}, {literal(value)}, schema => 'main',"
                f" table_name => {literal(name)})"
            )


def _begin_fence(session: LakeSession, table: str) -> None:
    session.execute(f"INSERT INTO {fence_of(table)} SELECT 0 WHERE NOT EXISTS (FROM {fence_of(table)})")


def _replace_fence(session: LakeSession, table: str, fence: int) -> None:
    deleted = session.execute(f"DELETE FROM {fence_of(table)}")
    # Two writers of which neither deletes anything would not conflict.
    if deleted != 1:
        raise WarehouseFault(f"the fence of {table} has {deleted} rows; it must have one")
    session.execute(f"INSERT INTO {fence_of(table)} VALUES (?)", [fence])


def _tables_of(session: LakeSession, table: str) -> list[tuple[str, str]]:
    """List what the lake has of a table, by schema: its rows and bookkeeping, and its records if it is a folded one."""
    found = session.fetch(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'lake'"
        " AND (table_name = $1 OR (schema_name = 'main' AND table_name = $1 || '_records'))",
        [table],
    )
    return list(zip(found.column(0).to_pylist(), found.column(1).to_pylist(), strict=True))


def _flush(session: LakeSession, schema: str, table: str) -> int:
    done = session.fetch(
        f"CALL ducklake_flush_inlined_data('lake', schema_name => {literal(schema)}, table_name => {literal(table)})"
    )
    return sum(int(count) for count in done.column(2).to_pylist())


def _rewrite(session: LakeSession, schema: str, table: str) -> int:
    done = session.fetch(
        f"CALL ducklake_rewrite_data_files('lake', {literal(table)}, schema => {literal(schema)},"
        f" delete_threshold => {DELETED_SHARE_MAX})"
    )
    return sum(int(count) for count in done.column(2).to_pylist())


def _merge_files(session: LakeSession, schema: str, table: str) -> int:
    done = session.fetch(
        f"CALL ducklake_merge_adjacent_files('lake', {literal(table)}, schema => {literal(schema)},"
        f" max_compacted_files => {MERGED_FILES_MAX})"
    )
    return sum(int(count) for count in done.column(2).to_pylist())


def _count(session: LakeSession, call: str) -> int:
    return session.fetch(call).num_rows


def _interval(age: timedelta) -> str:
    return f"INTERVAL {round(age.total_seconds())} SECONDS"


def try_extension(name: str) -> str:
    """Load an extension into an engine of its own; the version of DuckDB that took it. Raises WarehouseFault."""
    path = _extension(name)
    try:
        with closing(duckdb.connect(":memory:")) as engine:
            engine.load_extension(path)
    except duckdb.Error as error:
        raise WarehouseFault(str(error).partition("\n")[0]) from None
    return duckdb.__version__


def _extension(name: str) -> str:
    """Find an extension inside its wheel, so that nothing is downloaded and nothing written to the home directory."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or spec.origin is None:
        raise WarehouseFault(f"the wheel duckdb-extension-{name.replace('_', '-')} is not installed")
    file = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not file.is_file():
        raise WarehouseFault(f"the wheel of the extension {name} is for another DuckDB than {duckdb.__version__}")
    return os.fspath(file)
