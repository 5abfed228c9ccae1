"""Fold: what all accepted records of a key say together, as SQL made from a folded table's declaration.

Records are taken in order of acceptance. Given fields replace and omitted ones stay; a record whose `newer` is older
than what was said before it is stale and changes nothing. Usually all staged records of a key are later than the row's
last one: then they are folded onto the row. Otherwise the key is folded again, from every record of it that is kept.
So any cut of any order of loads leaves the same rows; and a record that is kept already changes nothing.
Most keys have one record in a load, which a join lays onto the row; windows are for the others.

A table may have many millions of rows, of which a load touches a few anywhere. Therefore its hash alone is read first;
then, if rows are touched, the narrow columns that every fold needs, and those given columns that some record of a
touched row omits: what a row says besides is known by a digest (`said`). In which transaction this happens is not known
here (`load.py`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from ingest_platform.domain.errors import WarehouseFault
from ingest_platform.domain.feed import Column, FoldedTable
from ingest_platform.domain.outcome import Outcome
from ingest_platform.pipeline.staging import (
    FRAME,
    JOBS,
    STAGED,
    STAGED_ROWS,
    Fates,
    keys,
    listed,
    same_key,
)
from ingest_platform.storage.warehouse import (
    KERNEL_COLUMNS,
    RECORD_COLUMNS,
    LakeTransaction,
    columns_of,
    quoted,
    records_of,
    rows_of,
)

# Names of temporary tables. HITS: the hashes of touched rows; STORED: these rows, as far as they are needed; DOUBTED:
# staged records that may be kept already, are stale, or may be earlier than the row's last; KNOWN: those that are kept;
# LATE: keys to be folded again, HISTORY: their records; CROWDED: the hashes of late keys, and of those with several
# staged records; STATES: what a key of these says after each record; WRITTEN: what becomes rows; DERIVED: the derived
# columns of these.
HITS = "hits"
STORED = "stored"
DOUBTED = "doubted"
KNOWN = "known"
LATE = "late"
HISTORY = "history"
CROWDED = "crowded"
STATES = "states"
WRITTEN = "written"
DERIVED = "derived"

# What a table of many rows is joined with is filtered by something that is always true (`is_hit`, `workspace <> ''`):
# DuckDB makes a Bloom filter of a filtered side only. By that the reader of Parquet passes over what is not wanted
# before it decodes the other columns: 1 % of the rows come out of the scan, and without it all of them.

# Rows handed to `derive` at once: a file of a million issues must not be in memory as one frame.
DERIVED_ROWS = 50_000

Deriving = Callable[[pl.DataFrame], pl.DataFrame]

# Of crowded keys, and of the others.
CROWDED_FATES = f"SELECT staged_row, outcome FROM {STATES} WHERE staged_row IS NOT NULL"
SINGLE_FATES = f"SELECT staged_row, outcome FROM {WRITTEN} WHERE is_single"
HIT_COUNT = f"SELECT count(*) FROM {HITS}"
DOUBTED_COUNT = f"SELECT count(*) FROM {DOUBTED}"
LATE_COUNT = f"SELECT count(*) FROM {LATE}"
CROWDED_COUNT = f"SELECT count(*) FROM {CROWDED}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldStatements:
    """The statements of one table, in the order in which they run."""

    find_hits: str
    # How many staged records of touched rows omit each of the columns that may be omitted.
    count_omitted: str
    find_doubted: str
    # Instead of these three where nothing is doubted.
    find_nothing: tuple[str, ...]
    find_known: str
    find_late: str
    find_history: str
    find_crowded: str
    fold_crowded: str
    # The fates of stale records whose keys are not crowded; they are written nowhere else.
    find_stale: str
    # One of them, as the rows found by the hash are all of touched keys, or others have the same hash.
    count_strangers: str
    delete_by_hash: str
    delete_by_key: str
    insert_rows: str
    insert_records: str


def fold_statements(table: FoldedTable) -> FoldStatements:
    """Make the statements that fold staged records into a table."""
    hashed = quoted(table.identity)
    return FoldStatements(
        find_hits=_find_hits(table),
        count_omitted=_count_omitted(table),
        find_doubted=_find_doubted(table),
        find_nothing=_find_nothing(table),
        find_known=f"""
            CREATE TEMP TABLE {KNOWN} AS SELECT d.staged_row FROM {DOUBTED} AS d JOIN {records_of(table)} AS r
            ON r.{hashed} = d.{hashed} AND r.accepted_seq = d.accepted_seq AND r.record_index = d.record_index
                AND {same_key(table, "r", "d")}
        """,
        find_late=f"""
            CREATE TEMP TABLE {LATE} AS SELECT DISTINCT {hashed}, {listed(keys(table))} FROM {DOUBTED}
            WHERE is_early AND staged_row NOT IN (FROM {KNOWN})
        """,
        find_history=f"""
            CREATE TEMP TABLE {HISTORY} AS SELECT r.* FROM {records_of(table)} AS r
            SEMI JOIN {LATE} AS l ON r.{hashed} = l.{hashed} AND {same_key(table, "r", "l")}
        """,
        find_crowded=f"""
            CREATE TEMP TABLE {CROWDED} AS SELECT {hashed} FROM {STAGED} GROUP BY {hashed} HAVING count(*) > 1
            UNION SELECT {hashed} FROM {LATE}
        """,
        fold_crowded=_fold_crowded(table),
        find_stale=f"""
            SELECT d.staged_row, CAST({Outcome.STALE} AS UTINYINT) AS outcome FROM {DOUBTED} AS d
            ANTI JOIN {CROWDED} AS c ON c.{hashed} = d.{hashed}
            WHERE d.is_stale AND d.staged_row NOT IN (FROM {KNOWN})
        """,
        count_strangers=f"SELECT count(*) FROM {STORED} AS r ANTI JOIN {STAGED} AS s ON {same_key(table, 'r', 's')}",
        delete_by_hash=_delete_by_hash(table),
        delete_by_key=_delete_by_key(table),
        insert_rows=_insert_rows(table),
        insert_records=_insert_records(table),
    )


def _find_hits(table: FoldedTable) -> str:
    hashed = quoted(table.identity)
    return f"""
        CREATE TEMP TABLE {HITS} AS SELECT r.{hashed}, TRUE AS is_hit FROM {rows_of(table.name)} AS r
        SEMI JOIN (SELECT {hashed} FROM {STAGED} WHERE workspace <> '') AS s ON r.{hashed} = s.{hashed}
    """


def _delete_by_hash(table: FoldedTable) -> str:
    hashed = quoted(table.identity)
    return f"DELETE FROM {rows_of(table.name)} WHERE {hashed} IN (SELECT {hashed} FROM {WRITTEN} WHERE is_stored)"


def _delete_by_key(table: FoldedTable) -> str:
    hashed = quoted(table.identity)
    return f"""
        DELETE FROM {rows_of(table.name)} AS r USING {WRITTEN} AS w
        WHERE w.is_stored AND r.{hashed} = w.{hashed} AND {same_key(table, "r", "w")}
    """


def fold(lake: LakeTransaction, table: FoldedTable, derive: Deriving | None) -> Fates:
    """Fold what is staged into a table, and keep every record."""
    statements = fold_statements(table)
    row, submission, record_index = (column.to_numpy() for column in lake.fetch(STAGED_ROWS).columns)
    # What is kept already says nothing new; all others are judged.
    fate = np.full(row.max(initial=-1) + 1, Outcome.UNCHANGED, dtype=np.uint8)
    if len(row):
        _find_stored(lake, table, statements)
        doubted = _find_late(lake, statements)
        lake.execute(statements.find_crowded)
        crowded = _count(lake, CROWDED_COUNT) > 0
        if crowded:
            lake.execute(statements.fold_crowded)
        lake.execute(_find_written(table, crowded=crowded))
        told = [SINGLE_FATES, *([statements.find_stale] if doubted else []), *([CROWDED_FATES] if crowded else [])]
        for judged in map(lake.fetch, told):
            fate[judged.column(0).to_numpy()] = judged.column(1).to_numpy()
        _write(lake, table, statements, derive)
    return Fates(submission=submission, record_index=record_index, outcome=fate[row])


def _find_stored(lake: LakeTransaction, table: FoldedTable, statements: FoldStatements) -> None:
    """Read the touched rows; of the columns that records may omit those that some do, usually few and narrow ones."""
    lake.execute(statements.find_hits)
    omitted = lake.fetch(statements.count_omitted)
    wanted = [each for each, count in zip(_optional(table), omitted.columns, strict=True) if count[0].as_py()]
    lake.execute(_read_stored(table, wanted, touched=_count(lake, HIT_COUNT) > 0))


def _find_late(lake: LakeTransaction, statements: FoldStatements) -> bool:
    """Find the records that are kept already, and the keys that must be folded again; whether any was doubted."""
    lake.execute(statements.find_doubted)
    if not _count(lake, DOUBTED_COUNT):
        for statement in statements.find_nothing:
            lake.execute(statement)
        return False
    lake.execute(statements.find_known)
    lake.execute(statements.find_late)
    lake.execute(statements.find_history if _count(lake, LATE_COUNT) else statements.find_nothing[-1])
    return True


def _write(lake: LakeTransaction, table: FoldedTable, statements: FoldStatements, derive: Deriving | None) -> None:
    _derive(lake, table, derive)
    if lake.fetch(f"SELECT 1 FROM {WRITTEN} WHERE is_stored LIMIT 1").num_rows:
        strangers = _count(lake, statements.count_strangers)
        lake.execute(statements.delete_by_key if strangers else statements.delete_by_hash)
    lake.execute(statements.insert_rows)
    lake.execute(statements.insert_records)


def _derive(lake: LakeTransaction, table: FoldedTable, derive: Deriving | None) -> None:
    """Let the feed work out the derived columns of the rows that are to be written, some at a time."""
    columns = ", ".join(f"{quoted(each.name)} {each.type}" for each in table.derived)
    lake.execute(f"CREATE TEMP TABLE {DERIVED} (written_row BIGINT NOT NULL{', ' + columns if columns else ''})")
    if derive is None:
        if table.derived:
            raise WarehouseFault(f"nobody derives {', '.join(each.name for each in table.derived)} of {table.name}")
        return
    names = ["written_row", *(each.name for each in table.derived)]
    shown = [each.name for each in columns_of(table) if each not in table.derived]
    chunk = f"SELECT written_row, {listed(shown)} FROM {WRITTEN} WHERE written_row BETWEEN ? AND ?"
    for begin in range(1, 1 + _count(lake, f"SELECT count(*) FROM {WRITTEN}"), DERIVED_ROWS):
        rows = _frame(lake.fetch(chunk, [begin, begin + DERIVED_ROWS - 1]))
        derived = derive(rows).select(names)
        if derived.height != rows.height:
            raise WarehouseFault(f"{derived.height} of {rows.height} rows of {table.name} were derived")
        with lake.seeing(FRAME, derived.to_arrow(compat_level=pl.CompatLevel.newest())):
            lake.execute(f"INSERT INTO {DERIVED} ({listed(names)}) SELECT {listed(names)} FROM {FRAME}")


def _frame(rows: pa.Table) -> pl.DataFrame:
    made = pl.from_arrow(rows)
    assert isinstance(made, pl.DataFrame)
    return made


def _count(lake: LakeTransaction, query: str) -> int:
    return lake.fetch(query).column(0)[0].as_py()


# What every fold needs of a stored row; the rest is known by its digest.
_NARROW = ("accepted_seq", "occurrences", "first_seen_at", "said")


def _narrow(table: FoldedTable) -> Sequence[str]:
    return (table.identity, *keys(table), table.newer, *_NARROW)


def _optional(table: FoldedTable) -> Sequence[Column]:
    """List the given columns that a record may omit and that are not read anyway."""
    given = set(table.given) - {table.newer}
    return [each for each in table.columns if each.name in given and each.nullable]


def _find_doubted(table: FoldedTable) -> str:
    newer = quoted(table.newer)
    return f"""
        CREATE TEMP TABLE {DOUBTED} AS
        SELECT s.rowid AS staged_row, s.{quoted(table.identity)}, {listed(keys(table), of="s")}, s.accepted_seq,
            s.record_index, s.accepted_seq <= r.accepted_seq AS is_early,
            coalesce(s.{newer} < r.{newer}, FALSE) AS is_stale
        FROM {STAGED} AS s JOIN {STORED} AS r ON {same_key(table, "s", "r")}
        WHERE s.accepted_seq <= r.accepted_seq OR s.{newer} < r.{newer}
    """


def _find_nothing(table: FoldedTable) -> tuple[str, ...]:
    columns = listed((*(each.name for each in table.columns), *(each.name for each in RECORD_COLUMNS)))
    return (
        f"CREATE TEMP TABLE {KNOWN} AS SELECT staged_row FROM {DOUBTED} LIMIT 0",
        f"CREATE TEMP TABLE {LATE} AS SELECT {quoted(table.identity)}, {listed(keys(table))} FROM {DOUBTED} LIMIT 0",
        f"CREATE TEMP TABLE {HISTORY} AS SELECT {columns} FROM {records_of(table)} LIMIT 0",
    )


def _count_omitted(table: FoldedTable) -> str:
    hashed = quoted(table.identity)
    counts = ", ".join(f"count(*) FILTER (s.{quoted(each.name)} IS NULL)" for each in _optional(table))
    # Without such a column there is nothing to count, and SQL wants something.
    return f"SELECT {counts or 'NULL'} FROM {STAGED} AS s SEMI JOIN {HITS} AS h ON s.{hashed} = h.{hashed}"


def _read_stored(table: FoldedTable, wanted: Sequence[Column], *, touched: bool) -> str:
    """Make a table with every optional column, of which only the wanted ones are read."""
    hashed = quoted(table.identity)
    read = [*_narrow(table), *(each.name for each in wanted)]
    nulls = "".join(
        f", CAST(NULL AS {each.type}) AS {quoted(each.name)}" for each in _optional(table) if each not in wanted
    )
    hits = f"(SELECT {hashed} FROM {HITS} WHERE is_hit) AS h"
    found = f"SEMI JOIN {hits} ON r.{hashed} = h.{hashed}" if touched else "LIMIT 0"
    return f"CREATE TEMP TABLE {STORED} AS SELECT {listed(read, of='r')}{nulls} FROM {rows_of(table.name)} AS r {found}"


def _events(table: FoldedTable) -> str:
    """Lay out, of every crowded key, the row or the kept records, and the staged records that are new."""
    hashed = quoted(table.identity)
    columns = [each.name for each in table.columns]
    base = {
        **dict.fromkeys(columns, "NULL"),
        **{name: f"r.{quoted(name)}" for name in (table.identity, *table.key, table.newer) if name != "workspace"},
        **{each.name: f"r.{quoted(each.name)}" for each in _optional(table)},
    }
    once = "CAST(1 AS BIGINT) AS occurrences, accepted_at AS first_seen_at, CAST(NULL AS UBIGINT) AS said"
    return f"""
        SELECT s.rowid AS staged_row, {listed(columns, of="s")}, s.workspace, j.job_id, s.record_index, s.accepted_seq,
            s.record_index AS accepted_index, j.accepted_at, {once}
        FROM {STAGED} AS s JOIN {JOBS} AS j USING (submission) SEMI JOIN {CROWDED} AS c ON c.{hashed} = s.{hashed}
        WHERE s.rowid NOT IN (FROM {KNOWN})
        UNION ALL
        SELECT NULL, {listed(columns)}, workspace, job_id, record_index, accepted_seq, record_index, accepted_at, {once}
        FROM {HISTORY}
        UNION ALL
        SELECT NULL, {", ".join(base[name] for name in columns)}, r.workspace, NULL, NULL, r.accepted_seq, -1, NULL,
            r.occurrences, r.first_seen_at, r.said
        FROM {STORED} AS r SEMI JOIN {CROWDED} AS c ON c.{hashed} = r.{hashed}
        SEMI JOIN {STAGED} AS s ON {same_key(table, "r", "s")}
        ANTI JOIN {LATE} AS l ON {same_key(table, "r", "l")}
    """


def _fold_crowded(table: FoldedTable) -> str:
    """Say what each crowded key says after each of its records, and what that makes of the record."""
    given = set(table.given)
    key, newer = listed(keys(table)), quoted(table.newer)
    others = [each.name for each in table.columns if each.name not in given]
    kept = ["staged_row", *others, "workspace", "job_id", "record_index", "accepted_seq", "accepted_index"]
    seen = ["accepted_at", "place", "is_stale"]
    return f"""
        CREATE TEMP TABLE {STATES} AS
        WITH placed AS (
            SELECT *, row_number() OVER ordered AS place,
                coalesce({newer} < max({newer}) OVER (
                    PARTITION BY {key} ORDER BY accepted_seq, accepted_index
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ), FALSE) AS is_stale
            FROM ({_events(table)})
            WINDOW ordered AS (PARTITION BY {key} ORDER BY accepted_seq, accepted_index)
        ), folded AS (
            SELECT {listed((*kept, *seen))}, said AS said_stored,
                CAST(sum(occurrences) FILTER (NOT is_stale) OVER past AS BIGINT) AS occurrences,
                first_value(first_seen_at) OVER past AS first_seen_at,
                {", ".join(_folded(table, each) for each in table.given)}
            FROM placed
            WINDOW past AS (
                PARTITION BY {key} ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            )
        ), digested AS (SELECT *, coalesce(said_stored, {_digest(table)}) AS said FROM folded)
        SELECT *,
            place = max(place) FILTER (NOT is_stale) OVER whole
                AND count(staged_row) FILTER (NOT is_stale) OVER whole > 0 AS is_written,
            CAST(CASE
                WHEN is_stale THEN {Outcome.STALE}
                WHEN place = 1 THEN CASE WHEN EXISTS (FROM {LATE} AS l WHERE {same_key(table, "l", "digested")})
                    THEN {Outcome.UPDATED} ELSE {Outcome.CREATED} END
                WHEN said = lag(said) OVER (PARTITION BY {key} ORDER BY place) THEN {Outcome.UNCHANGED}
                ELSE {Outcome.UPDATED}
            END AS UTINYINT) AS outcome
        FROM digested WINDOW whole AS (PARTITION BY {key})
    """


def _folded(table: FoldedTable, name: str) -> str:
    last = f"last_value(CASE WHEN NOT is_stale THEN {quoted(name)} END IGNORE NULLS) OVER past"
    return _or_default(table, name, last)


def _or_default(table: FoldedTable, name: str, said: str) -> str:
    """Name what is said of a column, or else what its fallback or its default says."""
    column = quoted(name)
    if name in table.fallbacks:
        return f"coalesce({said}, {quoted(table.fallbacks[name])}) AS {column}"
    default = table.defaults.get(name)
    return f"{said} AS {column}" if default is None else f"coalesce({said}, {_literal(default)}) AS {column}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _digest(table: FoldedTable) -> str:
    """Digest what is given, so that no two rows which say different things are alike."""
    types = {each.name: each.type for each in table.columns}
    parts = [_said(quoted(name), types[name]) for name in table.given]
    return f"md5_number_lower(concat({', '.join(parts)}))"


def _said(column: str, kind: str) -> str:
    # A number for an instant, as the text of one depends on settings.
    text = f"CAST(epoch_us({column}) AS VARCHAR)" if kind == "TIMESTAMPTZ" else f"CAST({column} AS VARCHAR)"
    return f"coalesce(length({text}) || ':' || {text}, '-')"


def _find_written(table: FoldedTable, *, crowded: bool) -> str:
    """Lay single records onto their rows, and add the state of each changed crowded key after its last fresh record."""
    names = [each.name for each in columns_of(table) if each not in table.derived and each.name not in _SEEN]
    columns = listed(("staged_row", *names, "outcome", "is_stored", "is_single"))
    # Not `rowid`, which does not count from 0 in a table of the same transaction.
    return f"""
        CREATE TEMP TABLE {WRITTEN} AS
        SELECT row_number() OVER () AS written_row, {columns},
            accepted_at AS last_seen_at, first_seen_at AS created_at, accepted_at AS updated_at
        FROM (SELECT {columns} FROM ({_lay_singles(table)}) {_written_crowded(table, columns) if crowded else ""})
    """


# What a row says of the records that were seen, as far as it follows from the first and the last of them.
_SEEN = {"last_seen_at", "created_at", "updated_at"}


def _written_crowded(table: FoldedTable, columns: str) -> str:
    return f"""
        UNION ALL SELECT {columns} FROM (
            SELECT w.*, EXISTS (FROM {STORED} AS r WHERE {same_key(table, "r", "w")}) AS is_stored, FALSE AS is_single
            FROM {STATES} AS w WHERE is_written
        )
    """


def _lay_singles(table: FoldedTable) -> str:
    """Lay each record that is new, not stale and alone with its key onto the row, if there is one."""
    hashed, newer = quoted(table.identity), quoted(table.newer)
    kept = {table.newer, *(each.name for each in _optional(table))}
    laid = ", ".join(
        f"coalesce(s.{quoted(name)}, r.{quoted(name)}) AS {quoted(name)}" if name in kept else f"s.{quoted(name)}"
        for name in (each.name for each in table.columns)
    )
    given = set(table.given)
    others = [each.name for each in table.columns if each.name not in given]
    kernel = listed((*(each.name for each in KERNEL_COLUMNS), "staged_row", "occurrences", "first_seen_at"))
    return f"""
        SELECT *, CAST(CASE
            WHEN NOT is_stored THEN {Outcome.CREATED} WHEN said = said_stored THEN {Outcome.UNCHANGED}
            ELSE {Outcome.UPDATED}
        END AS UTINYINT) AS outcome
        FROM (SELECT *, {_digest(table)} AS said FROM (
            SELECT {kernel}, said_stored, is_stored, TRUE AS is_single, {listed(others)},
                {", ".join(_or_default(table, name, quoted(name)) for name in table.given)}
            FROM (
                SELECT s.rowid AS staged_row, {laid}, s.workspace, j.job_id, s.record_index, s.accepted_seq,
                    s.record_index AS accepted_index, j.accepted_at, coalesce(r.occurrences, 0) + 1 AS occurrences,
                    coalesce(r.first_seen_at, j.accepted_at) AS first_seen_at, r.said AS said_stored,
                    r.accepted_seq IS NOT NULL AS is_stored
                FROM {STAGED} AS s JOIN {JOBS} AS j USING (submission)
                LEFT JOIN {STORED} AS r ON {same_key(table, "s", "r")}
                ANTI JOIN {CROWDED} AS c ON c.{hashed} = s.{hashed}
                WHERE s.rowid NOT IN (FROM {KNOWN}) AND NOT coalesce(s.{newer} < r.{newer}, FALSE)
            )
        ))
    """


def _insert_rows(table: FoldedTable) -> str:
    names = [each.name for each in columns_of(table)]
    derived = {each.name for each in table.derived}
    values = ", ".join(f"{'d' if name in derived else 'w'}.{quoted(name)}" for name in names)
    join = f"JOIN {DERIVED} AS d USING (written_row)" if derived else ""
    return f"INSERT INTO {rows_of(table.name)} ({listed(names)}) SELECT {values} FROM {WRITTEN} AS w {join}"


def _insert_records(table: FoldedTable) -> str:
    columns = [each.name for each in table.columns]
    names: Iterable[str] = (*columns, *(each.name for each in RECORD_COLUMNS))
    return f"""
        INSERT INTO {records_of(table)} ({listed(names)})
        SELECT {listed(columns, of="s")}, s.workspace, j.job_id, s.record_index, s.accepted_seq, j.accepted_at
        FROM {STAGED} AS s JOIN {JOBS} AS j USING (submission) WHERE s.rowid NOT IN (FROM {KNOWN})
    """
