"""What people decide about patterns: merge, split, pin, and undo. Each is one transaction, and kept for ever.

What was found is never touched (`issue_fingerprints.found_in`): decisions lie over it, so grouping goes on and may be
done anew while they stand.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import msgspec
from psycopg.rows import class_row

from ingest_platform.domain.errors import Conflict, NotFound
from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.issues.patterns import PREFIX, begin_change, ends_of, settle
from ingest_platform.storage.ledger import Transaction

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a pattern: `changed_by` is the id of a key, None if it was found to be so."""

    change: int
    kind: str
    pattern_id: str
    other_id: str | None
    before: Mapping[str, str | None]
    changed_by: str | None
    changed_at: datetime
    undone_by: str | None
    undone_at: datetime | None


def find(tx: Transaction, *, workspace: str, pattern_id: str) -> str:
    """Tell which pattern an id means by now: itself, or the one that it went into. Raises NotFound."""
    row = tx.execute("SELECT FROM patterns WHERE workspace = %s AND id = %s", (workspace, pattern_id)).fetchone()
    if row is None:
        raise NotFound("There is no such pattern.")
    return ends_of(tx, [pattern_id])[pattern_id]


def merge(tx: Transaction, *, workspace: str, pattern_ids: Sequence[str], into: str, by: str) -> str:
    """Merge patterns into one; the id of that. Raises NotFound for an unknown one, Conflict if all are one already."""
    begin_change(tx, workspace)
    kept = find(tx, workspace=workspace, pattern_id=into)
    gone = {find(tx, workspace=workspace, pattern_id=each): None for each in pattern_ids}
    gone.pop(kept, None)
    if not gone:
        raise Conflict("These are one pattern already.")
    for each in gone:
        tx.execute("UPDATE patterns SET merged_into = %s WHERE id = %s", (kept, each))
        _record(tx, workspace, kind="merged", pattern_id=kept, other_id=each, by=by)
    settle(tx, workspace)
    return kept


def split(
    tx: Transaction, *, workspace: str, pattern_id: str, fingerprints: Sequence[str], name: str | None, by: str
) -> str:
    """Take wordings out of a pattern into a new one; the id of that.

    Raises NotFound if there is no such pattern, Conflict if a fingerprint is not of it or none would be left.
    """
    begin_change(tx, workspace)
    old = find(tx, workspace=workspace, pattern_id=pattern_id)
    rows = tx.execute(
        "SELECT fingerprint, moved_to, wording FROM issue_fingerprints"
        " WHERE workspace = %s AND pattern_id = %s ORDER BY seq",
        (workspace, old),
    ).fetchall()
    before = {fingerprint: moved_to for fingerprint, moved_to, _ in rows}
    wanted = list(dict.fromkeys(fingerprints))
    strange = [each for each in wanted if each not in before]
    if strange:
        raise Conflict(f"{strange[0]} is no fingerprint of this pattern.", param="fingerprints")
    if len(wanted) == len(before):
        raise Conflict("A pattern can't be split into all of its wordings and none.", param="fingerprints")
    named = name or next(wording for fingerprint, _, wording in rows if fingerprint in wanted).replace("\n", ": ")
    new = new_id(PREFIX)
    tx.execute("INSERT INTO patterns (id, workspace, name) VALUES (%s, %s, %s)", (new, workspace, named))
    tx.execute(
        "UPDATE issue_fingerprints SET moved_to = %s WHERE workspace = %s AND fingerprint = ANY(%s)",
        (new, workspace, wanted),
    )
    _record(
        tx, workspace, kind="split", pattern_id=old, other_id=new, before={each: before[each] for each in wanted}, by=by
    )
    settle(tx, workspace)
    return new


def pin(tx: Transaction, *, workspace: str, pattern_id: str, issue_ids: Sequence[str], by: str) -> str:
    """Put issues into a pattern, whatever their wording is; the pattern's id. Raises NotFound."""
    begin_change(tx, workspace)
    kept = find(tx, workspace=workspace, pattern_id=pattern_id)
    before = _pins(tx, workspace, issue_ids)
    _put_pins(tx, workspace, dict.fromkeys(issue_ids, kept), by=by)
    _record(tx, workspace, kind="pinned", pattern_id=kept, before=before, by=by)
    settle(tx, workspace)
    return kept


def unpin(tx: Transaction, *, workspace: str, pattern_id: str, issue_ids: Sequence[str], by: str) -> str:
    """Let issues belong to the pattern of their wording again. Raises NotFound; Conflict if one is not pinned here."""
    begin_change(tx, workspace)
    kept = find(tx, workspace=workspace, pattern_id=pattern_id)
    before = _pins(tx, workspace, issue_ids)
    ends = ends_of(tx, [pinned_to for pinned_to in before.values() if pinned_to is not None])
    for issue_id, pinned_to in before.items():
        if pinned_to is None or ends[pinned_to] != kept:
            raise Conflict(f"{issue_id} is not pinned to this pattern.", param="issue_ids")
    _put_pins(tx, workspace, dict.fromkeys(issue_ids), by=by)
    _record(tx, workspace, kind="unpinned", pattern_id=kept, before=before, by=by)
    settle(tx, workspace)
    return kept


def undo(tx: Transaction, *, workspace: str, pattern_id: str, change: int | None, by: str) -> str:
    """Undo a change of a pattern, the last one if none is named; the id of the pattern that it was a change of.

    Raises NotFound if there is no such pattern or change, Conflict if it was undone already, was not a person's, or
    what it did has been changed since (that is to be undone first).
    """
    begin_change(tx, workspace)
    find(tx, workspace=workspace, pattern_id=pattern_id)
    known = [each for each in changes_of(tx, workspace=workspace, pattern_id=pattern_id) if each.changed_by is not None]
    if change is None:
        meant = next((each for each in known if each.undone_at is None), None)
    else:
        meant = next((each for each in known if each.change == change), None)
    if meant is None:
        raise NotFound("There is no such change that a person made.")
    if meant.undone_at is not None:
        raise Conflict("This change was undone already.")
    _UNDO[meant.kind](tx, workspace, meant)
    tx.execute(
        "UPDATE pattern_changes SET undone_by = %s, undone_at = clock_timestamp() WHERE change = %s", (by, meant.change)
    )
    settle(tx, workspace)
    return meant.pattern_id


def changes_of(tx: Transaction, *, workspace: str, pattern_id: str, limit: int = 100) -> list[Change]:
    """Read the changes of a pattern, the latest first."""
    with tx.cursor(row_factory=class_row(Change)) as cursor:
        return cursor.execute(
            """
            SELECT change, kind, pattern_id, other_id, before, changed_by, changed_at, undone_by, undone_at
            FROM pattern_changes
            WHERE workspace = %(workspace)s AND (pattern_id = %(id)s OR other_id = %(id)s)
            ORDER BY change DESC LIMIT %(limit)s
            """,
            {"workspace": workspace, "id": pattern_id, "limit": limit},
        ).fetchall()


def _undo_merge(tx: Transaction, workspace: str, change: Change) -> None:
    done = tx.execute(
        "UPDATE patterns SET merged_into = NULL WHERE workspace = %s AND id = %s AND merged_into = %s",
        (workspace, change.other_id, change.pattern_id),
    )
    if done.rowcount != 1:
        raise _changed_since()


def _undo_split(tx: Transaction, workspace: str, change: Change) -> None:
    assert change.other_id is not None
    rows = tx.execute(
        "SELECT fingerprint FROM issue_fingerprints WHERE workspace = %s AND moved_to = %s",
        (workspace, change.other_id),
    )
    if {fingerprint for (fingerprint,) in rows} != set(change.before):
        raise _changed_since()
    # Whatever has gone into the new pattern meanwhile has nowhere to go.
    later = tx.execute(
        "SELECT (SELECT count(*) FROM patterns WHERE workspace = %(workspace)s AND merged_into = %(id)s)"
        " + (SELECT count(*) FROM issue_pins WHERE workspace = %(workspace)s AND pinned_to = %(id)s)"
        " + (SELECT count(*) FROM patterns WHERE id = %(id)s AND merged_into IS NOT NULL)",
        {"workspace": workspace, "id": change.other_id},
    ).fetchone()
    if later != (0,):
        raise _changed_since()
    tx.execute(
        "UPDATE issue_fingerprints AS f SET moved_to = old.moved_to"
        " FROM unnest(%s::text[], %s::text[]) AS old (fingerprint, moved_to)"
        " WHERE f.workspace = %s AND f.fingerprint = old.fingerprint",
        (list(change.before), list(change.before.values()), workspace),
    )
    # Its id goes on leading somewhere.
    tx.execute("UPDATE patterns SET merged_into = %s WHERE id = %s", (change.pattern_id, change.other_id))


def _undo_pin(tx: Transaction, workspace: str, change: Change) -> None:
    left = change.pattern_id if change.kind == "pinned" else None
    if any(pinned_to != left for pinned_to in _pins(tx, workspace, change.before).values()):
        raise _changed_since()
    assert change.changed_by is not None
    _put_pins(tx, workspace, change.before, by=change.changed_by)


_UNDO = {"merged": _undo_merge, "split": _undo_split, "pinned": _undo_pin, "unpinned": _undo_pin}


def _changed_since() -> Conflict:
    return Conflict("What this change did has been changed since; undo that first.")


def _pins(tx: Transaction, workspace: str, issue_ids: Iterable[str]) -> dict[str, str | None]:
    wanted = list(issue_ids)
    rows = tx.execute(
        "SELECT issue_id, pinned_to FROM issue_pins WHERE workspace = %s AND issue_id = ANY(%s)", (workspace, wanted)
    )
    return dict.fromkeys(wanted) | dict(rows.fetchall())


def _put_pins(tx: Transaction, workspace: str, pins: Mapping[str, str | None], *, by: str) -> None:
    """Pin issues, or let them go where it says None."""
    tx.execute(
        "DELETE FROM issue_pins WHERE workspace = %s AND issue_id = ANY(%s)",
        (workspace, [issue_id for issue_id, pinned_to in pins.items() if pinned_to is None]),
    )
    pinned = {issue_id: pinned_to for issue_id, pinned_to in pins.items() if pinned_to is not None}
    tx.execute(
        """
        INSERT INTO issue_pins (workspace, issue_id, pinned_to, pattern_id, pinned_by)
        SELECT %s, issue_id, pinned_to, pinned_to, %s FROM unnest(%s::text[], %s::text[]) AS new (issue_id, pinned_to)
        ON CONFLICT (workspace, issue_id) DO UPDATE
        SET pinned_to = excluded.pinned_to, pattern_id = excluded.pattern_id, pinned_by = excluded.pinned_by,
            pinned_at = clock_timestamp()
        """,
        (workspace, by, list(pinned), list(pinned.values())),
    )


def _record(
    tx: Transaction,
    workspace: str,
    *,
    kind: str,
    pattern_id: str,
    other_id: str | None = None,
    before: Mapping[str, str | None] | None = None,
    by: str,
) -> None:
    tx.execute(
        "INSERT INTO pattern_changes (workspace, kind, pattern_id, other_id, before, changed_by)"
        " VALUES (%s, %s, %s, %s, %s::jsonb, %s)",
        (workspace, kind, pattern_id, other_id, _encode(cast("object", before or {})).decode(), by),
    )
