"""Staging: where a load's records wait before they are merged, and what is remembered of a load, as SQL for any table.

How staged records become rows is not known here (`dedupe.py` for keyed tables, `fold.py` for folded ones, `append.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ingest_platform.domain.contract import column_of
from ingest_platform.domain.feed import AppendTable, Column, FoldedTable, KeyedTable, Table
from ingest_platform.storage.warehouse import applied_of, quoted

# Names of temporary tables. STAGED: all records; JOBS: the load's jobs. The frame's name is seen only while it is used.
FRAME = "frame"
STAGED = "staged"
JOBS = "jobs"
# The hash of a keyed table's key, for this load only; a folded table brings its own.
KEY_HASH = "key_hash"

STAGED_ROWS = f"SELECT rowid, submission, record_index FROM {STAGED}"
# Take back the rows of some submissions. The row numbers of the others stay, so there may be holes.
UNSTAGE = f"DELETE FROM {STAGED} WHERE list_contains(CAST(? AS UINTEGER[]), submission)"


# Tables whose rows have an identity besides their place.
Keyed = KeyedTable | FoldedTable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fates:
    """What became of every staged record, in no order: where it was sent, and its outcome."""

    submission: npt.NDArray[np.uint32]
    record_index: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingStatements:
    """The statements of one table that come before and after its merge."""

    create_staged: str
    fill_staged: str
    # Parameters: the least and the greatest place in the order of acceptance of the load's jobs.
    find_applied: str
    # Parameter: the load's id; its jobs are seen under the frame's name.
    remember: str


def staging_statements(table: Table) -> StagingStatements:
    """Make the statements that stage a table's records, and remember its loads."""
    return StagingStatements(
        create_staged=_create_staged(table),
        fill_staged=_fill_staged(table),
        find_applied=f"""
            SELECT job_id, records, codes FROM {applied_of(table.name)}
            WHERE accepted_seq BETWEEN ? AND ? AND job_id IN (SELECT job_id FROM {JOBS})
        """,
        remember=f"""
            INSERT INTO {applied_of(table.name)} (load_id, job_id, accepted_seq, records, codes, applied_at)
            SELECT ?, job_id, accepted_seq, records, codes, now() FROM {FRAME}
        """,
    )


def _create_staged(table: Table) -> str:
    hashed = f"{KEY_HASH} UBIGINT NOT NULL," if isinstance(table, KeyedTable) else ""
    return f"""
        CREATE TEMP TABLE {STAGED} (
            submission UINTEGER NOT NULL,
            record_index BIGINT NOT NULL CHECK (record_index >= 0),
            workspace VARCHAR NOT NULL CHECK (workspace <> ''),
            accepted_seq BIGINT NOT NULL,
            {hashed}
            {", ".join(_staged_column(each) for each in table.columns)}
        )
    """


def _staged_column(column: Column) -> str:
    null = "" if column.nullable else " NOT NULL"
    # An infinite value isn't JSON, and poisons every sum and comparison that it enters.
    name = quoted(column_of(column.name))
    check = f" CHECK (isfinite({name}))" if column.type in {"DOUBLE", "FLOAT", "TIMESTAMPTZ"} else ""
    return f"{name} {column.type}{null}{check}"


def _fill_staged(table: Table) -> str:
    # An outer join: a submission that is no job of the load gives NULL, which the table refuses.
    names = [column_of(each.name) for each in table.columns]
    keyed = isinstance(table, KeyedTable)
    name = f"{KEY_HASH}," if keyed else ""
    value = f"hash(j.workspace, {listed(own_keys(table), of='f')})," if keyed else ""
    return f"""
        INSERT INTO {STAGED} (submission, record_index, workspace, accepted_seq, {name} {listed(names)})
        SELECT f.submission, f.record_index, j.workspace, j.accepted_seq, {value} {listed(names, of="f")}
        FROM {FRAME} AS f LEFT JOIN {JOBS} AS j ON j.submission = f.submission
    """


def keys(table: Keyed) -> Sequence[str]:
    """List the columns of a row's identity, the workspace first."""
    return ("workspace", *own_keys(table))


def identity(table: Table) -> Sequence[str]:
    """List the columns of which no two rows say the same: the key, or the place in the order of acceptance."""
    if isinstance(table, AppendTable):
        return (table.prefix + "accepted_seq", table.prefix + "record_index")
    return keys(table)


def own_keys(table: Keyed) -> Sequence[str]:
    """List the columns of a row's identity besides the workspace."""
    return tuple(each for each in table.key if each != "workspace")


def same_key(table: Keyed, left: str, right: str) -> str:
    """Compare the whole keys of two relations."""
    return " AND ".join(f"{left}.{quoted(each)} = {right}.{quoted(each)}" for each in keys(table))


def listed(names: Iterable[str], *, of: str | None = None) -> str:
    """List columns for SQL.

    >>> listed(["a", "b"], of="r")
    'r."a", r."b"'
    """
    return ", ".join(f"{of}.{quoted(each)}" if of else quoted(each) for each in names)
