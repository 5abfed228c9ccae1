"""What the issues of a pattern come to: how many, how bad, how lately. Issues are the lake's, memberships the ledger's.

Risk, 0 to 100, is 50 × severity + 30 × rate + 20 × recency, of the issues that are open (neither resolved nor closed):

- severity: half the worst one's weight, half the mean; p1 weighs 1, p2 0.6, p3 0.3, p4 0.1;
- rate: issues seen within the last day, from 0 for none to 1 for 100 or more, by their logarithm;
- recency: 1 for one that was seen just now, half as much with every three days.

A pattern without open issues has no risk.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, cast

import pyarrow as pa

from ingest_platform.feeds.issues import statuses
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.patterns import revision_of
from ingest_platform.feeds.issues.statuses import Status
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.warehouse import LakeTransaction, Warehouse, rows_of

# One of fewer issues is emerging.
ACTIVE_ISSUES_MIN = 3
STATUSES = ("active", "watching", "resolved")
DONE = (Status.RESOLVED, Status.CLOSED)
# What a list can be sorted by: the expression, and the type of a place in it.
_SORTS = {
    "first_seen_at": ("epoch_us(first_seen_at)", "BIGINT"),
    "last_seen_at": ("epoch_us(last_seen_at)", "BIGINT"),
    "issue_count": ("issue_count", "BIGINT"),
    "risk_score": ("risk_score", "BIGINT"),
}
SORTS = tuple(prefix + name for name in _SORTS for prefix in ("", "-"))
WORDINGS_SHOWN_MAX = 100
# Memberships that a process keeps; each takes some megabytes at most (`Method.wordings_max`).
FRAMES_MAX = 16

Row: TypeAlias = dict[str, object]
Frames: TypeAlias = Mapping[str, pa.Table]
# The value by which the list is sorted, and the id that parts patterns with the same one.
Place: TypeAlias = tuple[int, str]

_PLACED = f"""
    placed AS (
        SELECT i.*, coalesce(p.pattern_id, f.pattern_id) AS pattern_id,
            CASE WHEN p.pattern_id IS NULL THEN f.confidence ELSE 1 END AS confidence,
            d.issue_id IS NULL AS is_open,
            CASE i.severity WHEN 'p1' THEN 1.0 WHEN 'p2' THEN 0.6 WHEN 'p3' THEN 0.3 ELSE 0.1 END AS weight
        FROM {rows_of(TABLE.name)} AS i
        LEFT JOIN memberships AS f ON f.fingerprint = i.fingerprint
        LEFT JOIN pins AS p ON p.issue_id = i.issue_id
        LEFT JOIN done AS d ON d.issue_id = i.issue_id
        WHERE i.workspace = $workspace
    )
"""  # noqa: S608 - the names are ours
_TOLD = f"""
    told AS (
        SELECT pattern_id, count(*) AS issue_count, count(*) FILTER (is_open) AS open_count,
            avg(confidence) AS confidence, min(first_seen_at) AS first_seen_at, max(last_seen_at) AS last_seen_at,
            list_sort(list(DISTINCT source)) AS sources,
            list_sort(list(DISTINCT team) FILTER (team IS NOT NULL)) AS teams,
            coalesce((max(weight) FILTER (is_open) + avg(weight) FILTER (is_open)) / 2, 0) AS severity,
            least(1, ln(1 + count(*) FILTER (is_open AND last_seen_at > $at::TIMESTAMPTZ - INTERVAL 1 DAY)) / ln(101))
                AS rate,
            -- What is seen while the figures are made is no more recent than now.
            coalesce(pow(0.5, epoch($at::TIMESTAMPTZ - least($at::TIMESTAMPTZ, max(last_seen_at) FILTER (is_open)))
                / 259200) * CASE WHEN count(*) FILTER (is_open) = 0 THEN 0 ELSE 1 END, 0) AS recency
        FROM placed WHERE pattern_id IS NOT NULL GROUP BY pattern_id
    ),
    scored AS (
        SELECT *, round(50 * severity + 30 * rate + 20 * recency)::BIGINT AS risk_score,
            CASE WHEN open_count = 0 THEN 'resolved' WHEN issue_count < {ACTIVE_ISSUES_MIN} THEN 'watching'
                ELSE 'active' END AS status
        FROM told
    )
"""  # noqa: S608 - as above


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows of patterns, the place of the last if more follow, the number of all."""

    rows: list[Row]
    last: Place | None
    total: int


@dataclass(slots=True)
class Memberships:
    """Which fingerprints and issues belong to which patterns, as frames; read anew when that has changed."""

    _kept: OrderedDict[str, tuple[int, Frames]] = field(default_factory=OrderedDict[str, tuple[int, Frames]])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def frames(self, tx: Transaction, workspace: str) -> Frames:
        """Read what statistics join."""
        # The number first: what is read after it is as new or newer, and then read again next time.
        revision = revision_of(tx, workspace)
        with self._lock:
            known = self._kept.get(workspace)
        if known is None or known[0] != revision:
            known = (revision, _frames(tx, workspace))
        with self._lock:
            self._kept[workspace] = known
            self._kept.move_to_end(workspace)
            while len(self._kept) > FRAMES_MAX:
                self._kept.popitem(last=False)
        done = statuses.ids_of(tx, workspace=workspace, statuses=DONE)
        return {**known[1], "done": pa.table({"issue_id": pa.array(done, pa.string())})}


def _frames(tx: Transaction, workspace: str) -> Frames:
    members = tx.execute(
        "SELECT fingerprint, pattern_id, confidence FROM issue_fingerprints WHERE workspace = %s", (workspace,)
    ).fetchall()
    pins = tx.execute("SELECT issue_id, pattern_id FROM issue_pins WHERE workspace = %s", (workspace,)).fetchall()
    return {
        "memberships": pa.table(
            {
                "fingerprint": pa.array([row[0] for row in members], pa.string()),
                "pattern_id": pa.array([row[1] for row in members], pa.string()),
                "confidence": pa.array([row[2] for row in members], pa.float64()),
            }
        ),
        "pins": pa.table(
            {
                "issue_id": pa.array([row[0] for row in pins], pa.string()),
                "pattern_id": pa.array([row[1] for row in pins], pa.string()),
            }
        ),
    }


def read_page(
    warehouse: Warehouse,
    frames: Frames,
    *,
    workspace: str,
    at: datetime,
    status: str | None,
    sort: str,
    behind: Place | None,
    limit: int,
) -> Page:
    """Read the page behind a place, of the patterns that have issues; `at` is the moment that risk is of."""
    expression, kind = _SORTS[sort.removeprefix("-")]
    descending = sort.startswith("-")
    values: dict[str, object] = {"workspace": workspace, "at": at}
    chosen, beyond = "true", "true"
    if status is not None:
        chosen, values["status"] = "status = $status", status
    if behind is not None:
        beyond = f"({expression}, pattern_id) {'<' if descending else '>'} ($value::{kind}, $id::VARCHAR)"
        values |= {"value": behind[0], "id": behind[1]}
    order = "DESC" if descending else "ASC"
    query = f"""
        WITH {_PLACED}, {_TOLD}, chosen AS MATERIALIZED (SELECT * FROM scored WHERE {chosen})
        SELECT page.*, every.total FROM (SELECT count(*) AS total FROM chosen) AS every LEFT JOIN (
            SELECT *, {expression} AS place FROM chosen WHERE {beyond}
            ORDER BY place {order}, pattern_id {order} LIMIT {limit + 1}
        ) AS page ON true ORDER BY place {order}, pattern_id {order}
    """  # noqa: S608 - as above
    (found,) = _fetch(warehouse, frames, [(query, values)])
    rows = [row for row in found if row["pattern_id"] is not None]
    last = None
    if len(rows) > limit:
        last = cast("int", rows[limit - 1]["place"]), cast("str", rows[limit - 1]["pattern_id"])
    return Page(rows=rows[:limit], last=last, total=cast("int", found[0]["total"]))


def read_one(
    warehouse: Warehouse, frames: Frames, *, workspace: str, pattern_id: str, at: datetime
) -> tuple[Row | None, list[Row]]:
    """Read the figures of a pattern, None if it has no issues; and those of its wordings, the commonest first."""
    values: dict[str, object] = {"workspace": workspace, "pattern_id": pattern_id}
    one = f"WITH {_PLACED}, {_TOLD} SELECT * FROM scored WHERE pattern_id = $pattern_id"  # noqa: S608 - as above
    wordings = f"""
        WITH {_PLACED}
        SELECT fingerprint, count(*) AS issue_count, min(first_seen_at) AS first_seen_at,
            max(last_seen_at) AS last_seen_at
        FROM placed WHERE pattern_id = $pattern_id
        GROUP BY fingerprint ORDER BY issue_count DESC, fingerprint LIMIT {WORDINGS_SHOWN_MAX}
    """  # noqa: S608 - as above
    found, counted = _fetch(warehouse, frames, [(one, {**values, "at": at}), (wordings, values)])
    return (found[0] if found else None), counted


def active_ids(warehouse: Warehouse, frames: Frames, *, workspace: str) -> dict[str, int]:
    """List the patterns that are more than emerging, with the number of their issues."""
    query = f"""
        WITH {_PLACED}
        SELECT pattern_id, count(*) AS issue_count FROM placed WHERE pattern_id IS NOT NULL
        GROUP BY pattern_id HAVING issue_count >= {ACTIVE_ISSUES_MIN} ORDER BY pattern_id
    """  # noqa: S608 - as above
    (rows,) = _fetch(warehouse, frames, [(query, {"workspace": workspace})])
    return {cast("str", row["pattern_id"]): cast("int", row["issue_count"]) for row in rows}


def _fetch(
    warehouse: Warehouse, frames: Frames, queries: Sequence[tuple[str, Mapping[str, object]]]
) -> list[list[Row]]:
    """Ask the lake, with the ledger's frames beside it; all of one moment."""
    warehouse.ensure([TABLE])
    with closing(warehouse.session()) as session, ExitStack() as seen:
        for name, frame in frames.items():
            seen.enter_context(session.seeing(name, frame))
        with session.transaction() as lake:
            return [_rows(lake, query, values) for query, values in queries]


def _rows(lake: LakeTransaction, query: str, values: Mapping[str, object]) -> list[Row]:
    return lake.fetch(*_numbered(query, values)).to_pylist()


def _numbered(query: str, values: Mapping[str, object]) -> tuple[str, list[object]]:
    """Number the parameters of a query, which a session takes by place.

    >>> _numbered("$b = $a", {"a": 1, "b": 2})
    ('$2 = $1', [1, 2])
    """
    for place, name in enumerate(values, start=1):
        query = query.replace(f"${name}", f"${place}")
    return query, list(values.values())
