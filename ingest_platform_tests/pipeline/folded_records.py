"""A folded table for tests of the way into the warehouse, which belongs to no feed; and the fold as plain Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ingest_platform.domain.feed import Column, FoldedTable
from ingest_platform.domain.outcome import Outcome
from ingest_platform.storage.warehouse import Warehouse, records_of, rows_of
from ingest_platform_tests.pipeline.lake_records import EPOCH

# The name and one column would be syntax if they were not quoted.
TABLE = FoldedTable(
    name='note "one"',
    columns=(
        Column(name="note", type="VARCHAR"),
        Column(name="note_hash", type="BIGINT"),
        Column(name="title", type="VARCHAR"),
        Column(name='select "x"', type="VARCHAR", nullable=True),
        Column(name="level", type="VARCHAR", nullable=True),
        Column(name="edited_at", type="TIMESTAMPTZ", nullable=True),
    ),
    key=("note",),
    identity="note_hash",
    given=("title", 'select "x"', "level", "edited_at"),
    newer="edited_at",
    defaults={"level": "it's low"},
    derived=(Column(name="shout", type="VARCHAR"),),
)
TEXT = 'select "x"'
# Two notes with one hash are two notes.
HASHES = {"a": 1, "b": 1, "c": -3, "d": 4}


@dataclass(frozen=True, slots=True)
class Note:
    """What a record says: null is omitted, `edited` is in minutes."""

    note: str
    title: str
    text: str | None = None
    level: str | None = None
    edited: int | None = None


# Jobs by their place in the order of acceptance; a record that was rejected is None.
Jobs = Mapping[int, Sequence[Note | None]]
Row = dict[str, Any]


def _instant(minutes: int | None) -> datetime | None:
    return None if minutes is None else EPOCH + timedelta(minutes=minutes)


def frame(jobs: Jobs) -> pl.DataFrame:
    """Lay out the records of jobs, each under its ordinal among them."""
    said = [
        (ordinal, index, note)
        for ordinal, records in enumerate(jobs.values())
        for index, note in enumerate(records)
        if note is not None
    ]
    notes = [note for _, _, note in said]
    return pl.DataFrame(
        {
            "submission": pl.Series([ordinal for ordinal, _, _ in said], dtype=pl.UInt32),
            "record_index": pl.Series([index for _, index, _ in said], dtype=pl.Int64),
            "note": pl.Series([each.note for each in notes], dtype=pl.String),
            "note_hash": pl.Series([HASHES[each.note] for each in notes], dtype=pl.Int64),
            "title": pl.Series([each.title for each in notes], dtype=pl.String),
            'select "x"': pl.Series([each.text for each in notes], dtype=pl.String),
            "level": pl.Series([each.level for each in notes], dtype=pl.String),
            "edited_at": pl.Series([_instant(each.edited) for each in notes], dtype=pl.Datetime("us", "UTC")),
        }
    )


def derive(rows: pl.DataFrame) -> pl.DataFrame:
    """Derive what the tests' table has derived, in another order than the rows came in."""
    text = pl.col('select "x"').fill_null("")
    return rows.reverse().with_columns(shout=(pl.col("title") + text + pl.col("level")).str.to_uppercase())


def fold_plainly(jobs: Jobs) -> dict[str, Row]:
    """Fold all records of some jobs, one after the other in order of acceptance; the row of each note."""
    rows: dict[str, Row] = {}
    for seq in sorted(jobs):
        for index, note in enumerate(jobs[seq]):
            if note is not None:
                take(rows, note, seq=seq, index=index)
    return rows


def take(rows: dict[str, Row], note: Note, *, seq: int, index: int) -> Outcome:
    """Fold one record that comes after all others; what that makes of it."""
    at = EPOCH + timedelta(minutes=seq)
    stored = rows.get(note.note)
    before = stored or {'select "x"': None, "level": "it's low", "edited_at": None}
    edited = _instant(note.edited)
    if edited and before["edited_at"] and edited < before["edited_at"]:
        return Outcome.STALE
    given = {
        "title": note.title,
        'select "x"': note.text or before['select "x"'],
        "level": note.level or before["level"],
        "edited_at": edited or before["edited_at"],
    }
    rows[note.note] = {
        "note": note.note,
        "note_hash": HASHES[note.note],
        **given,
        "occurrences": (stored["occurrences"] if stored else 0) + 1,
        "first_seen_at": stored["first_seen_at"] if stored else at,
        "last_seen_at": at,
        "created_at": stored["created_at"] if stored else at,
        "updated_at": at,
        "shout": "".join((given["title"], given[TEXT] or "", given["level"])).upper(),
        "job_id": f"job_{seq}",
        "record_index": index,
        "accepted_seq": seq,
        "accepted_index": index,
        "accepted_at": at,
    }
    if stored is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if all(stored[name] == value for name, value in given.items()) else Outcome.UPDATED


def rows_of_lake(lake: Warehouse, *, workspace: str) -> dict[str, Row]:
    """Read everything that the table holds for a workspace, by note; not the digest, which is the fold's own."""
    query = f"SELECT * EXCLUDE (workspace, said) FROM {rows_of(TABLE.name)} WHERE workspace = ?"
    rows = lake.query(query, [workspace]).to_pylist()
    found = {row["note"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def places_of_lake(lake: Warehouse, *, workspace: str) -> list[tuple[int, int, str, str]]:
    """List where each kept record of a workspace stands and what it says."""
    query = f"""
        SELECT accepted_seq, record_index, note, title FROM {records_of(TABLE)} WHERE workspace = ? ORDER BY ALL
    """
    return [tuple(row.values()) for row in lake.query(query, [workspace]).to_pylist()]  # type: ignore[misc]


def places_of(jobs: Jobs) -> list[tuple[int, int, str, str]]:
    """List where each record of some jobs stands and what it says."""
    return sorted(
        (seq, index, note.note, note.title)
        for seq, records in jobs.items()
        for index, note in enumerate(records)
        if note is not None
    )
