"""Issues as the lake holds them, looked up by id. What was sent since is not known here (`pending.py`)."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias

from ingest_platform.feeds.issues.identity import key_hash_of
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.storage.warehouse import LakeSession, applied_of, records_of, rows_of

# A row of the lake by the names of its columns: times as datetimes in UTC, metadata as the text that was sent.
Row: TypeAlias = dict[str, object]
# A record's place in the order of acceptance: the number of its job, its index in it.
Place: TypeAlias = tuple[int, int]

# The hash finds the few row groups to read; the id and the workspace decide.
_THE_ISSUE = "key_hash = ? AND issue_id = ? AND workspace = ?"


def find(lake: LakeSession, *, workspace: str, issue_id: str) -> Row | None:
    """Look up an issue of a workspace; None if the lake has none."""
    found = lake.fetch(
        f"SELECT * FROM {rows_of(TABLE.name)} WHERE {_THE_ISSUE}",  # noqa: S608 - the names are ours
        [key_hash_of(issue_id), issue_id, workspace],
    ).to_pylist()
    assert len(found) <= 1, issue_id
    return found[0] if found else None


def find_all(
    lake: LakeSession, *, workspace: str, issue_ids: Sequence[str], created: tuple[datetime, datetime]
) -> dict[str, Row]:
    """Look up issues of a workspace that are known to be stored, by id; all were created between two instants."""
    marks = ", ".join("?" for _ in issue_ids)
    # Every file has rows of every hash, so many hashes alone would read all files nearly whole; new issues lie in the
    # newest ones. (25 of a million in ten files: 60 ms of a core instead of 550.)
    found = lake.fetch(
        f"SELECT * FROM {rows_of(TABLE.name)} WHERE created_at BETWEEN ? AND ? AND key_hash IN ({marks})"  # noqa: S608 - as above
        f" AND issue_id IN ({marks}) AND workspace = ?",
        [*created, *map(key_hash_of, issue_ids), *issue_ids, workspace],
    )
    return {row["issue_id"]: row for row in found.to_pylist()}


def place_of(row: Row) -> Place:
    """Tell the place of the last record that a row holds."""
    seq, index = row["accepted_seq"], row["accepted_index"]
    assert isinstance(seq, int)
    assert isinstance(index, int)
    return seq, index


def taken_in(lake: LakeSession, *, seqs: Iterable[int]) -> set[int]:
    """Tell which jobs, by their numbers, the lake has taken in."""
    wanted = sorted(set(seqs))
    marks = ", ".join("?" for _ in wanted)
    found = lake.fetch(
        f"SELECT accepted_seq FROM {applied_of(TABLE.name)} WHERE accepted_seq IN ({marks})",  # noqa: S608 - as above
        wanted,
    )
    return set(found.column(0).to_pylist())


def records(lake: LakeSession, *, workspace: str, issue_id: str) -> list[Row]:
    """Read all that was ever accepted of an issue, in order of acceptance."""
    return lake.fetch(
        f"SELECT * FROM {records_of(TABLE)} WHERE {_THE_ISSUE} ORDER BY accepted_seq, record_index",  # noqa: S608 - as above
        [key_hash_of(issue_id), issue_id, workspace],
    ).to_pylist()


def latest_records(
    lake: LakeSession, *, workspace: str, issue_id: str, before: tuple[datetime, int, int] | None, limit: int
) -> list[Row]:
    """Read what was accepted of an issue, the latest first, before a time, a job's number and an index."""
    where, values = _THE_ISSUE, list[object]([key_hash_of(issue_id), issue_id, workspace])
    if before is not None:
        where += " AND (accepted_at, accepted_seq, record_index) < (?::TIMESTAMPTZ, ?::BIGINT, ?::BIGINT)"
        values += before
    return lake.fetch(
        f"SELECT * FROM {records_of(TABLE)} WHERE {where}"  # noqa: S608 - as above
        " ORDER BY accepted_at DESC, accepted_seq DESC, record_index DESC LIMIT ?",
        [*values, limit],
    ).to_pylist()


def count_records(lake: LakeSession, *, workspace: str, issue_id: str) -> int:
    """Count what was accepted of an issue."""
    found = lake.fetch(
        f"SELECT count(*) AS records FROM {records_of(TABLE)} WHERE {_THE_ISSUE}",  # noqa: S608 - as above
        [key_hash_of(issue_id), issue_id, workspace],
    )
    return int(found.column(0)[0].as_py())
