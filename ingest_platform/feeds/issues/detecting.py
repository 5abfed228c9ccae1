"""Tell those who asked that a pattern is more than a single case: once in its life."""

from collections.abc import Mapping

from ingest_platform.feeds.issues.pattern_stats import Memberships, active_ids
from ingest_platform.pipeline.announce import announce
from ingest_platform.pipeline.platform import Platform

PATTERN_DETECTED = "pattern.detected"


def detect_all(platform: Platform) -> Mapping[str, object]:
    """Announce the patterns of all workspaces that have become active; figures for people."""
    with platform.ledger.connection() as tx:
        rows = tx.execute("SELECT workspace FROM pattern_revisions ORDER BY workspace").fetchall()
    detected = [detect(platform, workspace) for (workspace,) in rows]
    return {"workspaces": len(detected), "detected": sum(detected)}


def detect(platform: Platform, workspace: str) -> int:
    """Announce the patterns of a workspace that have become active, and remember that; how many."""
    with platform.ledger.connection() as tx:
        frames = Memberships().frames(tx, workspace)
    counts = active_ids(platform.warehouse, frames, workspace=workspace)
    with platform.ledger.transaction() as tx:
        new = tx.execute(
            "UPDATE patterns SET announced_at = clock_timestamp()"
            " WHERE workspace = %s AND id = ANY(%s) AND announced_at IS NULL AND merged_into IS NULL"
            " RETURNING id, name",
            (workspace, list(counts)),
        ).fetchall()
        for pattern_id, name in sorted(new):
            shown = {"id": pattern_id, "name": name, "issue_count": counts[pattern_id]}
            announce(tx, workspace=workspace, type=PATTERN_DETECTED, body={"pattern": shown})
    return len(new)
