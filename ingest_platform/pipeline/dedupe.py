"""Dedupe: which of the records with one key counts, as SQL made from a table's declaration.

Within a load the record accepted last wins, and so it does against the warehouse: the order of acceptance decides,
never the order of arrival here. Therefore any job may be loaded late or again, and the rows are the same in the end:
the place of a row in that order (`accepted_seq`, `accepted_index`) moves even when a later record says nothing new;
what can be seen of the row stays. In which transaction the statements run is not known here (`load.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingest_platform.domain.feed import Column, KeyedTable
from ingest_platform.domain.outcome import Outcome
from ingest_platform.storage.warehouse import KERNEL_COLUMNS, applied_of, quoted, rows_of

# Names of temporary tables. STAGED: all records; LOSERS: the ones beaten within the load; HITS: the ones whose key is
# stored, with the stored row; JOBS: the load's jobs. The frame's name is seen only while it is staged.
FRAME = "frame"
STAGED = "staged"
JOBS = "jobs"
LOSERS = "losers"
HITS = "hits"


# What they hold, read by `load.py`.
STAGED_ROWS = f"SELECT rowid, submission, record_index FROM {STAGED}"
LOSER_ROWS = f"SELECT staged_row FROM {LOSERS}"
HIT_ROWS = f"SELECT staged_row, staged_outcome, is_written FROM {HITS}"
# Take back the rows of some submissions. The row numbers of the others stay, so there may be holes.
UNSTAGE = f"DELETE FROM {STAGED} WHERE list_contains(CAST(? AS UINTEGER[]), submission)"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeStatements:
    """The statements of one table, in the order in which they run. `?` are the bounds of the load's range column."""

    create_staged: str
    fill_staged: str
    find_losers: str
    bounds: str
    find_hits: str
    delete_hits: str
    insert_fresh: str
    insert_winners: str
    # Parameters: the least and the greatest place in the order of acceptance of the load's jobs.
    find_applied: str
    # Parameter: the load's id; its jobs are seen under the frame's name.
    remember: str


def merge_statements(table: KeyedTable) -> MergeStatements:
    """Make the statements that merge staged records into a keyed table."""
    return MergeStatements(
        create_staged=_create_staged(table),
        fill_staged=_fill_staged(table),
        find_losers=_find_losers(table),
        bounds=_bounds(table),
        find_hits=_find_hits(table),
        delete_hits=_delete_hits(table),
        insert_fresh=f"INSERT INTO {_target(table)} {_winners(table)}",
        insert_winners=f"INSERT INTO {_target(table)} {_winners(table)} {_UNBEATEN} UNION ALL {_moved(table)}",
        find_applied=f"""
            SELECT job_id, records, codes FROM {applied_of(table.name)}
            WHERE accepted_seq BETWEEN ? AND ? AND job_id IN (SELECT job_id FROM {JOBS})
        """,
        remember=f"""
            INSERT INTO {applied_of(table.name)} (load_id, job_id, accepted_seq, records, codes, applied_at)
            SELECT ?, job_id, accepted_seq, records, codes, now() FROM {FRAME}
        """,
    )


def repeated_keys(table: KeyedTable) -> str:
    """Count the keys that have more than one row; there must be none."""
    keys = _listed(_keys(table))
    return f"SELECT count(*) FROM (SELECT {keys} FROM {rows_of(table.name)} GROUP BY {keys} HAVING count(*) > 1)"


def _create_staged(table: KeyedTable) -> str:
    columns = ", ".join(_staged_column(each) for each in table.columns)
    return f"""
        CREATE TEMP TABLE {STAGED} (
            submission UINTEGER NOT NULL,
            record_index BIGINT NOT NULL CHECK (record_index >= 0),
            workspace VARCHAR NOT NULL CHECK (workspace <> ''),
            accepted_seq BIGINT NOT NULL,
            key_hash UBIGINT NOT NULL,
            {columns}
        )
    """


def _staged_column(column: Column) -> str:
    # An infinite value isn't JSON, and poisons every sum and comparison that it enters.
    check = f" CHECK (isfinite({_name(column.name)}))" if column.type in {"DOUBLE", "FLOAT", "TIMESTAMPTZ"} else ""
    return f"{_name(column.name)} {column.type} NOT NULL{check}"


def _fill_staged(table: KeyedTable) -> str:
    # An outer join: a submission that is no job of the load gives NULL, which the table refuses.
    columns = _listed(each.name for each in table.columns)
    of_frame = _listed((each.name for each in table.columns), of="f")
    return f"""
        INSERT INTO {STAGED} (submission, record_index, workspace, accepted_seq, key_hash, {columns})
        SELECT f.submission, f.record_index, j.workspace, j.accepted_seq,
            hash(j.workspace, {_listed(_own_keys(table), of="f")}), {of_frame}
        FROM {FRAME} AS f LEFT JOIN {JOBS} AS j ON j.submission = f.submission
    """


def _find_losers(table: KeyedTable) -> str:
    # The hash is compared first: for a load without repeats, which is the rule, that is all that there is to do.
    return f"""
        CREATE TEMP TABLE {LOSERS} AS
        SELECT staged_row FROM (
            SELECT rowid AS staged_row, row_number() OVER (
                PARTITION BY {_listed(_keys(table))} ORDER BY accepted_seq DESC, record_index DESC
            ) AS place
            FROM {STAGED}
            WHERE key_hash IN (SELECT key_hash FROM {STAGED} GROUP BY key_hash HAVING count(*) > 1)
        ) WHERE place > 1
    """


def _bounds(table: KeyedTable) -> str:
    column = _name(table.range_column)
    return f"SELECT min({column}) AS low, max({column}) AS high FROM {STAGED}"


def _find_hits(table: KeyedTable) -> str:
    ours, theirs = "(s.accepted_seq, s.record_index)", "(r.accepted_seq, r.accepted_index)"
    same = " AND ".join(f"r.{_name(each)} IS NOT DISTINCT FROM s.{_name(each)}" for each in table.compared)
    return f"""
        CREATE TEMP TABLE {HITS} AS
        SELECT s.rowid AS staged_row, r.*,
            CAST(CASE
                WHEN {theirs} > {ours} THEN {Outcome.SUPERSEDED}
                WHEN {theirs} = {ours} OR ({same}) THEN {Outcome.UNCHANGED}
                ELSE {Outcome.UPDATED}
            END AS UTINYINT) AS staged_outcome,
            {theirs} < {ours} AS is_written
        FROM {rows_of(table.name)} AS r JOIN {STAGED} AS s ON {_same_key(table, "r", "s")}
        WHERE {_in_range(table, "r")} AND s.rowid NOT IN (SELECT staged_row FROM {LOSERS})
    """


def _delete_hits(table: KeyedTable) -> str:
    return f"""
        DELETE FROM {rows_of(table.name)} AS r USING {HITS} AS h
        WHERE h.is_written AND {_same_key(table, "r", "h")} AND {_in_range(table, "r")}
    """


def _target(table: KeyedTable) -> str:
    names = (*(each.name for each in table.columns), *(each.name for each in KERNEL_COLUMNS))
    return f"{rows_of(table.name)} ({_listed(names)})"


def _winners(table: KeyedTable) -> str:
    columns = _listed((each.name for each in table.columns), of="s")
    return f"""
        SELECT {columns}, s.workspace, j.job_id, s.record_index, s.accepted_seq, s.record_index, j.accepted_at
        FROM {STAGED} AS s JOIN {JOBS} AS j USING (submission)
    """


_UNBEATEN = f"""
    WHERE s.rowid NOT IN (SELECT staged_row FROM {LOSERS})
        AND s.rowid NOT IN (SELECT staged_row FROM {HITS} WHERE staged_outcome <> {Outcome.UPDATED})
"""


def _moved(table: KeyedTable) -> str:
    columns = _listed((each.name for each in table.columns), of="h")
    return f"""
        SELECT {columns}, h.workspace, h.job_id, h.record_index, s.accepted_seq, s.record_index, h.accepted_at
        FROM {HITS} AS h JOIN {STAGED} AS s ON s.rowid = h.staged_row
        WHERE h.is_written AND h.staged_outcome = {Outcome.UNCHANGED}
    """


def _in_range(table: KeyedTable, alias: str) -> str:
    return f"{alias}.{_name(table.range_column)} BETWEEN ? AND ?"


def _same_key(table: KeyedTable, left: str, right: str) -> str:
    return " AND ".join(f"{left}.{_name(each)} = {right}.{_name(each)}" for each in _keys(table))


def _keys(table: KeyedTable) -> Sequence[str]:
    return ("workspace", *_own_keys(table))


def _own_keys(table: KeyedTable) -> Sequence[str]:
    return tuple(each for each in table.key if each != "workspace")


def _listed(names: Iterable[str], *, of: str | None = None) -> str:
    return ", ".join(f"{of}.{_name(each)}" if of else _name(each) for each in names)


_name = quoted
