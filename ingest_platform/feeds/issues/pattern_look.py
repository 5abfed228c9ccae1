"""What Dagster shows of patterns: those that a run's issues belong to, and whether each of them has one.

Which pattern an issue belongs to is decided elsewhere (`patterns.py`, `pattern_changes.py`); nothing is changed here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import pyarrow as pa

from ingest_platform.domain.feed import FeedAspect, Look
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.warehouse import quoted, records_of, rows_of

ONE_PATTERN_EACH = "one_pattern_each"
# A page with more rows is not read.
TOP_MAX = 10
NAME_CHARACTERS_MAX = 120
# Wordings of one question to the ledger: some megabytes.
WORDINGS_TOGETHER = 10_000

_KEY = ", ".join(quoted(name) for name in ("workspace", *TABLE.key))


class _Wording(NamedTuple):
    """Issues of one wording in one workspace that are pinned alike."""

    workspace: str
    fingerprint: str
    pinned_to: str | None
    issues: int


class _Placed(NamedTuple):
    """Issues and the pattern that they belong to; `pattern_id` is None if there is no such pattern."""

    workspace: str
    issues: int
    pattern_id: str | None
    name: str | None


def look(platform: Platform, job_ids: Sequence[str] | None) -> Look:
    """Look at the patterns of the issues that some jobs touched, or of all issues."""
    placed = list(_placed(platform, job_ids))
    counts: Counter[str] = Counter()
    told: dict[str, tuple[str, str]] = {}
    without = 0
    for each in placed:
        if each.pattern_id is None:
            without += each.issues
            continue
        counts[each.pattern_id] += each.issues
        told[each.pattern_id] = (str(each.name)[:NAME_CHARACTERS_MAX], each.workspace)
    top = [
        {"pattern": told[pattern_id][0], "issues": issues, "workspace": told[pattern_id][1], "id": pattern_id}
        for pattern_id, issues in counts.most_common(TOP_MAX)
    ]
    return Look(
        figures={
            "issues": sum(each.issues for each in placed),
            "patterns": len(counts),
            "issues without a pattern": without,
            "top patterns": top,
        },
        passed={ONE_PATTERN_EACH: without == 0},
    )


def _placed(platform: Platform, job_ids: Sequence[str] | None) -> Iterator[_Placed]:
    with platform.ledger.connection() as tx:
        pins = tx.execute("SELECT workspace, issue_id, pattern_id FROM issue_pins").fetchall()
    wordings = _wordings(platform, job_ids, pins)
    for start in range(0, len(wordings), WORDINGS_TOGETHER):
        with platform.ledger.connection() as tx:
            yield from _patterns(tx, wordings[start : start + WORDINGS_TOGETHER])


def _wordings(
    platform: Platform, job_ids: Sequence[str] | None, pins: Sequence[tuple[str, str, str]]
) -> list[_Wording]:
    """Count the issues of each wording, in the lake."""
    if job_ids is not None and not job_ids:
        return []
    touched, values = "", list[str]()
    if job_ids is not None:
        values = list(job_ids)
        marks = ", ".join("?" * len(values))
        touched = f"SEMI JOIN (SELECT {_KEY} FROM {records_of(TABLE)} WHERE job_id IN ({marks})) USING ({_KEY})"  # noqa: S608 - the names are ours
    query = f"""
        SELECT i.workspace, i.fingerprint, pins.pattern_id, count(*)
        FROM (SELECT workspace, fingerprint, issue_id FROM {rows_of(TABLE.name)} {touched}) AS i
        LEFT JOIN pins ON pins.workspace = i.workspace AND pins.issue_id = i.issue_id
        GROUP BY ALL ORDER BY ALL
    """  # noqa: S608 - as above
    names = ("workspace", "issue_id", "pattern_id")
    frame = pa.table({name: pa.array([row[at] for row in pins], pa.string()) for at, name in enumerate(names)})
    platform.warehouse.ensure([TABLE])
    with closing(platform.warehouse.session()) as session, session.seeing("pins", frame):
        found = session.fetch(query, values)
    return [_Wording(*row) for row in zip(*(column.to_pylist() for column in found.columns), strict=True)]


def _patterns(tx: Transaction, wordings: Sequence[_Wording]) -> list[_Placed]:
    """Find the pattern of each wording: one of its workspace that has not gone into another."""
    rows = tx.execute(
        """
        SELECT told.workspace, told.issues, p.id, p.name
        FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[])
            AS told (workspace, fingerprint, pinned_to, issues)
        LEFT JOIN issue_fingerprints AS f ON f.workspace = told.workspace AND f.fingerprint = told.fingerprint
        LEFT JOIN patterns AS p ON p.id = CASE WHEN f.pattern_id IS NOT NULL THEN coalesce(told.pinned_to, f.pattern_id)
            END AND p.workspace = told.workspace AND p.merged_into IS NULL
        """,
        [list(column) for column in zip(*wordings, strict=True)],
    ).fetchall()
    return [_Placed(*row) for row in rows]


PATTERNS = FeedAspect(
    name="patterns",
    title="Groups with the same root wording.",
    checks={ONE_PATTERN_EACH: "Every issue belongs to one pattern of its workspace: a living one, and no other."},
    look=look,
)
