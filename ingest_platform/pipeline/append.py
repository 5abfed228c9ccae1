"""Append: every accepted record as a row of its own, known by its place in the order of acceptance, as SQL.

Nothing is compared and nothing replaced. Only a day that is worked again finds its records there by their places, and
leaves them. In which transaction the statements run is not known here (`load.py`).
"""

import numpy as np

from ingest_platform.domain.contract import column_of
from ingest_platform.domain.feed import AppendTable, Column
from ingest_platform.domain.outcome import Outcome
from ingest_platform.pipeline.staging import JOBS, STAGED, STAGED_ROWS, Fates, listed
from ingest_platform.storage.warehouse import (
    PARTED_DAYS_MAX,
    LakeSession,
    LakeTransaction,
    day_of,
    literal,
    quoted,
    rows_of,
    stored_name,
)

ULID_LENGTH = 26
_DAY_US = 24 * 60 * 60 * 1_000_000


def is_spread(lake: LakeSession, table: AppendTable) -> bool:
    """Tell whether what is staged has more days than are worth a file each."""
    day = f"epoch_us({quoted(column_of(table.day_column))}) // {_DAY_US}"
    return lake.fetch(f"SELECT count(DISTINCT {day}) FROM {STAGED}").column(0)[0].as_py() > PARTED_DAYS_MAX


def append(lake: LakeTransaction, table: AppendTable, *, again: bool) -> Fates:
    """Append what is staged. `again`: leave out what is there already."""
    _, submission, record_index = (column.to_numpy() for column in lake.fetch(STAGED_ROWS).columns)
    if again and len(submission):
        lake.execute(_leave_out_known(table))
    if len(submission):
        lake.execute(_insert(table))
    return Fates(
        submission=submission,
        record_index=record_index,
        outcome=np.full(len(submission), Outcome.CREATED, dtype=np.uint8),
    )


def _leave_out_known(table: AppendTable) -> str:
    place = f"r.{quoted(table.prefix + 'accepted_seq')}"
    return f"""
        DELETE FROM {STAGED} AS s USING {rows_of(table.name)} AS r
        WHERE {place} BETWEEN (SELECT min(accepted_seq) FROM {STAGED}) AND (SELECT max(accepted_seq) FROM {STAGED})
            AND s.accepted_seq = {place} AND s.record_index = r.{quoted(table.prefix + "record_index")}
    """


def _insert(table: AppendTable) -> str:
    given = {stored_name(each.name, prefix=table.prefix): f"s.{quoted(column_of(each.name))}" for each in table.columns}
    ours = {
        # A function of the place: the same record has the same id, whoever works it and however often. Of a job's id
        # the ULID is taken.
        table.id_column: f"{literal(table.id_prefix)} || right(j.job_id, {ULID_LENGTH}) || '-' || s.record_index",
        table.accepted_column: "j.accepted_at",
        table.request_column: "j.request_id",
        **{column.name: _constant(column, value) for column, value in table.constants},
        table.prefix + "workspace": "s.workspace",
        table.prefix + "job_id": "j.job_id",
        table.prefix + "record_index": "s.record_index",
        table.prefix + "accepted_seq": "s.accepted_seq",
        table.prefix + "accepted_at": "j.accepted_at",
        day_of(table): f"CAST(s.{quoted(column_of(table.day_column))} AT TIME ZONE 'UTC' AS DATE)",
    }
    columns = {**given, **ours}
    return f"""
        INSERT INTO {rows_of(table.name)} ({listed(columns)})
        SELECT {", ".join(columns.values())} FROM {STAGED} AS s JOIN {JOBS} AS j USING (submission)
    """


def _constant(column: Column, value: str | int) -> str:
    return f"CAST({literal(str(value))} AS {column.type})"
