"""Dedupe: which of the records with one key counts, as SQL made from a keyed table's declaration.

Within a load the record accepted last wins, and so it does against the warehouse: the order of acceptance decides,
never the order of arrival here. Therefore any job may be loaded late or again, and the rows are the same in the end:
the place of a row in that order (`accepted_seq`, `accepted_index`) moves even when a later record says nothing new;
what can be seen of the row stays. In which transaction the statements run is not known here (`load.py`).
"""

from dataclasses import dataclass

import numpy as np

from ingest_platform.domain.feed import KeyedTable, Table
from ingest_platform.domain.outcome import Outcome
from ingest_platform.pipeline.staging import (
    JOBS,
    KEY_HASH,
    STAGED,
    STAGED_ROWS,
    Fates,
    identity,
    keys,
    listed,
    same_key,
)
from ingest_platform.storage.warehouse import LakeTransaction, columns_of, quoted, rows_of

# Names of temporary tables. LOSERS: the records beaten within the load; HITS: the ones whose key is stored, with the
# stored row.
LOSERS = "losers"
HITS = "hits"

# What they hold.
LOSER_ROWS = f"SELECT staged_row FROM {LOSERS}"
HIT_ROWS = f"SELECT staged_row, staged_outcome, is_written FROM {HITS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeStatements:
    """The statements of one table, in the order in which they run. `?` are the bounds of the load's range column."""

    find_losers: str
    bounds: str
    find_hits: str
    delete_hits: str
    insert_fresh: str
    insert_winners: str


def merge_statements(table: KeyedTable) -> MergeStatements:
    """Make the statements that merge staged records into a keyed table."""
    return MergeStatements(
        find_losers=_find_losers(table),
        bounds=_bounds(table),
        find_hits=_find_hits(table),
        delete_hits=_delete_hits(table),
        insert_fresh=f"INSERT INTO {_target(table)} {_winners(table)}",
        insert_winners=f"INSERT INTO {_target(table)} {_winners(table)} {_UNBEATEN} UNION ALL {_moved(table)}",
    )


def merge(lake: LakeTransaction, table: KeyedTable) -> Fates:
    """Merge what is staged into a keyed table."""
    statements = merge_statements(table)
    low, high = (column[0].as_py() for column in lake.fetch(statements.bounds).columns)
    row, submission, record_index = (column.to_numpy() for column in lake.fetch(STAGED_ROWS).columns)
    fate = np.full(row.max(initial=-1) + 1, Outcome.CREATED, dtype=np.uint8)
    if len(row):
        lake.execute(statements.find_losers)
        losers = lake.fetch(LOSER_ROWS)
        lake.execute(statements.find_hits, [low, high])
        hits = lake.fetch(HIT_ROWS)
        fate[losers.column(0).to_numpy()] = Outcome.SUPERSEDED
        fate[hits.column(0).to_numpy()] = hits.column(1).to_numpy()
        if np.any(hits.column(2).to_numpy()):
            lake.execute(statements.delete_hits, [low, high])
        lake.execute(statements.insert_winners if len(losers) or len(hits) else statements.insert_fresh)
    return Fates(submission=submission, record_index=record_index, outcome=fate[row])


def repeated_keys(table: Table) -> str:
    """Count the keys that have more than one row; there must be none."""
    key = listed(identity(table))
    return f"SELECT count(*) FROM (SELECT {key} FROM {rows_of(table.name)} GROUP BY {key} HAVING count(*) > 1)"


def _find_losers(table: KeyedTable) -> str:
    # The hash is compared first: for a load without repeats, which is the rule, that is all that there is to do.
    return f"""
        CREATE TEMP TABLE {LOSERS} AS
        SELECT staged_row FROM (
            SELECT rowid AS staged_row, row_number() OVER (
                PARTITION BY {listed(keys(table))} ORDER BY accepted_seq DESC, record_index DESC
            ) AS place
            FROM {STAGED}
            WHERE {KEY_HASH} IN (SELECT {KEY_HASH} FROM {STAGED} GROUP BY {KEY_HASH} HAVING count(*) > 1)
        ) WHERE place > 1
    """


def _bounds(table: KeyedTable) -> str:
    column = quoted(table.range_column)
    return f"SELECT min({column}) AS low, max({column}) AS high FROM {STAGED}"


def _find_hits(table: KeyedTable) -> str:
    ours, theirs = "(s.accepted_seq, s.record_index)", "(r.accepted_seq, r.accepted_index)"
    same = " AND ".join(f"r.{quoted(each)} IS NOT DISTINCT FROM s.{quoted(each)}" for each in table.compared)
    return f"""
        CREATE TEMP TABLE {HITS} AS
        SELECT s.rowid AS staged_row, r.*,
            CAST(CASE
                WHEN {theirs} > {ours} THEN {Outcome.SUPERSEDED}
                WHEN {theirs} = {ours} OR ({same}) THEN {Outcome.UNCHANGED}
                ELSE {Outcome.UPDATED}
            END AS UTINYINT) AS staged_outcome,
            {theirs} < {ours} AS is_written
        FROM {rows_of(table.name)} AS r JOIN {STAGED} AS s ON {same_key(table, "r", "s")}
        WHERE {_in_range(table, "r")} AND s.rowid NOT IN (SELECT staged_row FROM {LOSERS})
    """


def _delete_hits(table: KeyedTable) -> str:
    return f"""
        DELETE FROM {rows_of(table.name)} AS r USING {HITS} AS h
        WHERE h.is_written AND {same_key(table, "r", "h")} AND {_in_range(table, "r")}
    """


def _target(table: KeyedTable) -> str:
    return f"{rows_of(table.name)} ({listed(each.name for each in columns_of(table))})"


def _winners(table: KeyedTable) -> str:
    columns = listed((each.name for each in table.columns), of="s")
    return f"""
        SELECT {columns}, s.workspace, j.job_id, s.record_index, s.accepted_seq, s.record_index, j.accepted_at
        FROM {STAGED} AS s JOIN {JOBS} AS j USING (submission)
    """


_UNBEATEN = f"""
    WHERE s.rowid NOT IN (SELECT staged_row FROM {LOSERS})
        AND s.rowid NOT IN (SELECT staged_row FROM {HITS} WHERE staged_outcome <> {Outcome.UPDATED})
"""


def _moved(table: KeyedTable) -> str:
    columns = listed((each.name for each in table.columns), of="h")
    return f"""
        SELECT {columns}, h.workspace, h.job_id, h.record_index, s.accepted_seq, s.record_index, h.accepted_at
        FROM {HITS} AS h JOIN {STAGED} AS s ON s.rowid = h.staged_row
        WHERE h.is_written AND h.staged_outcome = {Outcome.UNCHANGED}
    """


def _in_range(table: KeyedTable, alias: str) -> str:
    return f"{alias}.{quoted(table.range_column)} BETWEEN ? AND ?"
