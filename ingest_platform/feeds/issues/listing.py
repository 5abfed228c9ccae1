"""A page of issues: which are meant, in which order, and how the lake is asked for them.

Issues lie in the lake; their statuses and patterns come from the ledger, as frames that the query joins. What a client
sends is a parameter of a statement, or looked up in a list of ours.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import pyarrow as pa

from ingest_platform.feeds.issues import memberships, statuses, stored
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.references import SOURCES
from ingest_platform.feeds.issues.statuses import Status
from ingest_platform.feeds.issues.stored import Row
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.warehouse import LakeSession, Warehouse, rows_of

# What a list can be sorted by: the expression, and the type of a place in it.
_SORTS = {
    "created_at": ("epoch_us(i.created_at)", "BIGINT"),
    "updated_at": ("greatest(epoch_us(i.updated_at), coalesce(c.changed_us, 0))", "BIGINT"),
    "last_seen_at": ("epoch_us(i.last_seen_at)", "BIGINT"),
    "severity": ("i.severity", "VARCHAR"),
    "occurrences": ("i.occurrences", "BIGINT"),
}
SORTS = tuple(prefix + name for name in _SORTS for prefix in ("", "-"))
_JOIN_CHANGES = "LEFT JOIN changes AS c ON c.issue_id = i.issue_id"
_OTHERS = tuple(status for status in Status if status is not Status.OPEN)

# The value by which the list is sorted, and the id that parts issues with the same one.
Place = tuple[int | str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which issues of a workspace are meant, a field that is None does not narrow; and their order.

    `source_key` is a source as in `identity.source_key_of`, `severity` one of the stored words.
    """

    workspace: str
    status: Status | None = None
    severity: str | None = None
    source_key: str | None = None
    team: str | None = None
    pattern_id: str | None = None
    text: str | None = None
    sort: str = "-created_at"

    @property
    def sorted_by(self) -> tuple[str, str]:
        """The expression to sort by, and its type."""
        return _SORTS[self.sort.removeprefix("-")]

    @property
    def descending(self) -> bool:
        """Whether the greatest comes first."""
        return self.sort.startswith("-")

    @property
    def _by_change(self) -> bool:
        return self.sort.removeprefix("-") == "updated_at"

    def frames(self, tx: Transaction) -> dict[str, pa.Table]:
        """Read from the ledger what the query joins, by the names that it uses."""
        found: dict[str, pa.Table] = {}
        if self.status is not None:
            # Of an open issue nobody needs to have said anything, so those that are not are left out.
            asked = _OTHERS if self.status is Status.OPEN else (self.status,)
            ids = statuses.ids_of(tx, workspace=self.workspace, statuses=asked)
            found["statused"] = _texts(issue_id=ids)
        if self._by_change:
            changes = statuses.times_of_change(tx, workspace=self.workspace)
            ids, times = [issue_id for issue_id, _ in changes], [us for _, us in changes]
            found["changes"] = _texts(issue_id=ids).append_column("changed_us", pa.array(times, pa.int64()))
        if self.pattern_id is not None:
            members = memberships.of_pattern(tx, workspace=self.workspace, pattern_id=self.pattern_id)
            found["members"] = _texts(fingerprint=members.fingerprints)
            found["pinned"] = _texts(issue_id=members.pinned)
            found["pinned_elsewhere"] = _texts(issue_id=members.pinned_elsewhere)
        return found

    def _where(self) -> tuple[str, list[object]]:
        conditions, values = ["i.workspace = ?"], list[object]([self.workspace])
        if self.status is not None:
            said = "i.issue_id IN (SELECT issue_id FROM statused)"
            conditions.append(f"NOT {said}" if self.status is Status.OPEN else said)
        if self.pattern_id is not None:
            conditions.append(
                "(i.issue_id IN (SELECT issue_id FROM pinned) OR (i.fingerprint IN (SELECT fingerprint FROM members)"
                " AND i.issue_id NOT IN (SELECT issue_id FROM pinned_elsewhere)))"
            )
        known = "source" if self.source_key in SOURCES else "source_key"
        for column, value in (("severity", self.severity), (known, self.source_key), ("team", self.team)):
            if value is not None:
                conditions.append(f"i.{column} = ?")
                values.append(value)
        if self.text is not None:
            # No pattern, so nothing in the text means anything but itself.
            conditions.append("(contains(lower(i.title), lower(?)) OR contains(lower(i.body), lower(?)))")
            values += [self.text, self.text]
        return " AND ".join(conditions), values

    def query(self, *, behind: Place | None, limit: int) -> tuple[str, list[object]]:
        """Ask for the places of a page and for the number of all, in one scan that holds no more than a page."""
        expression, kind = self.sorted_by
        first, beyond = ("max", "<") if self.descending else ("min", ">")
        where, values = self._where()
        only, place = "", list[object]()
        if behind is not None:
            only = f"FILTER (WHERE ({expression}, i.issue_id) {beyond} (?::{kind}, ?::VARCHAR))"
            place = list(behind)
        # All of it is ours.
        entry = f"{{'place': {expression}, 'issue_id': i.issue_id, 'created_at': i.created_at}}"
        page = f"{first}({entry}, {limit}) {only}"
        joined = f"{rows_of(TABLE.name)} AS i {_JOIN_CHANGES if self._by_change else ''}"
        statement = f"SELECT count(*) AS total, {page} AS page FROM {joined} WHERE {where}"  # noqa: S608
        return statement, [*place, *values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows of the lake in the order that was asked for, the place of the last if more follow, the number of all."""

    rows: list[Row]
    last: Place | None
    total: int


def read_page(
    warehouse: Warehouse, wanted: Wanted, frames: Mapping[str, pa.Table], *, behind: Place | None, limit: int
) -> Page:
    """Read the page behind a place."""
    warehouse.ensure([TABLE])
    with closing(warehouse.session()) as session, ExitStack() as seen:
        for name, frame in frames.items():
            seen.enter_context(session.seeing(name, frame))
        # One more than asked for tells whether there is a next page. Both reads are of one moment.
        with session.transaction() as lake:
            (found,) = lake.fetch(*wanted.query(behind=behind, limit=limit + 1)).to_pylist()
            entries = found["page"] or []
            rows = _rows(lake, wanted.workspace, entries[:limit])
    last = entries[limit - 1] if len(entries) > limit else None
    return Page(rows=rows, last=None if last is None else (last["place"], last["issue_id"]), total=found["total"])


def _rows(lake: LakeSession, workspace: str, entries: Sequence[Row]) -> list[Row]:
    if not entries:
        return []
    ids = [cast("str", entry["issue_id"]) for entry in entries]
    instants = [cast("datetime", entry["created_at"]) for entry in entries]
    created = min(instants), max(instants)
    rows = stored.find_all(lake, workspace=workspace, issue_ids=ids, created=created)
    return [rows[issue_id] for issue_id in ids]


def _texts(**columns: list[str]) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
