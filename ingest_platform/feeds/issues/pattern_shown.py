"""Patterns as clients see them. What is true of them is found elsewhere (`pattern_stats.py`, `pattern_changes.py`)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.issues.pattern_changes import Change
from ingest_platform.feeds.issues.pattern_stats import Row
from ingest_platform.storage.ledger import Transaction

Shown = dict[str, object]

# A pattern whose issues are not stored yet, or have all gone elsewhere.
_NOTHING: Row = {
    "status": "watching",
    "issue_count": 0,
    "confidence": 1.0,
    "risk_score": 0,
    "first_seen_at": None,
    "last_seen_at": None,
    "sources": [],
    "teams": [],
    "severity": 0.0,
    "rate": 0.0,
    "recency": 0.0,
}


def pattern_object(pattern_id: str, name: str, row: Row | None) -> Shown:
    """Show a pattern: its name and its figures."""
    figures = row or _NOTHING
    return {
        "id": pattern_id,
        "name": name,
        "status": figures["status"],
        "issue_count": figures["issue_count"],
        "confidence": round(cast("float", figures["confidence"]), 4),
        "risk_score": figures["risk_score"],
        "first_seen_at": _instant(figures["first_seen_at"]),
        "last_seen_at": _instant(figures["last_seen_at"]),
        "sources": figures["sources"] or [],
        "teams": figures["teams"] or [],
    }


def explained(shown: Shown, row: Row | None, *, wordings: Sequence[Shown], of: int, changes: Iterable[Change]) -> Shown:
    """Add what a pattern is made of and why."""
    figures = row or _NOTHING
    risk = {name: round(cast("float", figures[name]), 4) for name in ("severity", "rate", "recency")}
    return {
        **shown,
        "risk": risk,
        "fingerprints": list(wordings),
        "fingerprint_count": of,
        "changes": [change_object(change) for change in changes],
    }


def wordings_of(
    tx: Transaction, *, workspace: str, pattern_id: str, counted: Sequence[Row], limit: int
) -> tuple[list[Shown], int]:
    """Explain the wordings of a pattern, those of most issues first; and how many there are."""
    rows = tx.execute(
        """
        SELECT fingerprint, wording, found_in, found_by, confidence, terms, moved_to, count(*) OVER ()
        FROM issue_fingerprints WHERE workspace = %(workspace)s AND pattern_id = %(pattern_id)s
        ORDER BY array_position(%(first)s::text[], fingerprint), seq LIMIT %(limit)s
        """,
        {
            "workspace": workspace,
            "pattern_id": pattern_id,
            "first": [row["fingerprint"] for row in counted],
            "limit": limit,
        },
    ).fetchall()
    counts = {row["fingerprint"]: row["issue_count"] for row in counted}
    shown = [
        {
            "fingerprint": fingerprint,
            "wording": wording,
            "issue_count": counts.get(fingerprint, 0),
            **assignment(pattern_id, found_in, found_by, confidence, terms, moved_to),
        }
        for fingerprint, wording, found_in, found_by, confidence, terms, moved_to, _ in rows
    ]
    return shown, (rows[0][7] if rows else 0)


def assignment(
    pattern_id: str,
    found_in: str,
    found_by: str,
    confidence: float,
    terms: Sequence[tuple[str, float]],
    moved_to: str | None,
) -> Shown:
    """Show how a wording came to its pattern: found, or because people merged or split patterns."""
    how = "split" if moved_to is not None else "matched" if found_in == pattern_id else "merged"
    return {
        "how": how,
        "matched_by": found_by,
        "confidence": round(confidence, 4),
        "terms": [{"term": term, "weight": weight} for term, weight in terms],
    }


def issue_assignment(tx: Transaction, *, workspace: str, issue_id: str, fingerprint: str) -> Shown:
    """Show which pattern an issue belongs to and why; nulls where it has none yet."""
    row = tx.execute(
        "SELECT wording, pattern_id, found_in, found_by, confidence, terms, moved_to FROM issue_fingerprints"
        " WHERE workspace = %s AND fingerprint = %s",
        (workspace, fingerprint),
    ).fetchone()
    shown: Shown = {"issue_id": issue_id, "pattern_id": None, "fingerprint": fingerprint, "wording": None}
    shown |= {"how": None, "matched_by": None, "confidence": None, "terms": []}
    if row is not None:
        wording, pattern_id, *found = row
        shown |= {"pattern_id": pattern_id, "wording": wording, **assignment(pattern_id, *found)}
    pinned = tx.execute(
        "SELECT pattern_id FROM issue_pins WHERE workspace = %s AND issue_id = %s", (workspace, issue_id)
    ).fetchone()
    if pinned is not None:
        shown |= {"pattern_id": pinned[0], "how": "pinned", "matched_by": None, "confidence": 1.0, "terms": []}
    return shown


def change_object(change: Change) -> Shown:
    """Show a change of a pattern."""
    return {
        "id": change.change,
        "kind": change.kind,
        "pattern_id": change.pattern_id,
        "other_pattern_id": change.other_id,
        "subjects": list(cast("Mapping[str, object]", change.before)),
        "by": change.changed_by,
        "at": _instant(change.changed_at),
        "undone_by": change.undone_by,
        "undone_at": _instant(change.undone_at),
    }


def names_of(tx: Transaction, pattern_ids: Sequence[str]) -> dict[str, str]:
    """Read the names of patterns."""
    return dict(tx.execute("SELECT id, name FROM patterns WHERE id = ANY(%s)", (list(pattern_ids),)).fetchall())


def _instant(value: object) -> str | None:
    return None if value is None else format_instant(cast("datetime", value))
