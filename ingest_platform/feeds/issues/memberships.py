"""Which pattern an issue belongs to: the one it is pinned to, else the one of its fingerprint. Only read here."""

from collections.abc import Mapping
from dataclasses import dataclass

from ingest_platform.feeds.issues.patterns import ends_of
from ingest_platform.storage.ledger import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """What belongs to a pattern: issues of these fingerprints that are not pinned elsewhere, and pinned ones."""

    fingerprints: list[str]
    pinned: list[str]
    pinned_elsewhere: list[str]


def of_pattern(tx: Transaction, *, workspace: str, pattern_id: str) -> Members:
    """Read what belongs to a pattern, or to the one that it went into; nothing, if there is no such pattern."""
    pattern_id = ends_of(tx, [pattern_id]).get(pattern_id, pattern_id)
    fingerprints = tx.execute(
        "SELECT fingerprint FROM issue_fingerprints WHERE workspace = %s AND pattern_id = %s", (workspace, pattern_id)
    ).fetchall()
    pins = tx.execute("SELECT issue_id, pattern_id FROM issue_pins WHERE workspace = %s", (workspace,)).fetchall()
    return Members(
        fingerprints=[fingerprint for (fingerprint,) in fingerprints],
        pinned=[issue_id for issue_id, pinned_to in pins if pinned_to == pattern_id],
        pinned_elsewhere=[issue_id for issue_id, pinned_to in pins if pinned_to != pattern_id],
    )


def patterns_of(tx: Transaction, *, workspace: str, issues: Mapping[str, str]) -> dict[str, str]:
    """Read the patterns of issues, given by id with their fingerprints; those of which it is not known are left out."""
    by_fingerprint = dict(
        tx.execute(
            "SELECT fingerprint, pattern_id FROM issue_fingerprints WHERE workspace = %s AND fingerprint = ANY(%s)",
            (workspace, list(set(issues.values()))),
        ).fetchall()
    )
    pinned = dict(
        tx.execute(
            "SELECT issue_id, pattern_id FROM issue_pins WHERE workspace = %s AND issue_id = ANY(%s)",
            (workspace, list(issues)),
        ).fetchall()
    )
    known = {each: by_fingerprint[fingerprint] for each, fingerprint in issues.items() if fingerprint in by_fingerprint}
    return known | pinned
