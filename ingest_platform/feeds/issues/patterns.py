"""Patterns in the ledger: every fingerprint belongs to one. What people change is `pattern_changes.py`'s.

Grouping goes on in memory (`grouping.py`), from what the ledger holds, by one process at a time for each workspace.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString
from weakref import WeakKeyDictionary

import msgspec

from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.issues.grouping import Assignment, Groups, Method
from ingest_platform.storage.ledger import Ledger, Transaction

PREFIX = "pat_"
# Fingerprints that a process remembers to be in the ledger; about 100 bytes each.
KNOWN_MAX = 1_000_000
# Workspaces whose groups a process keeps in memory; a large one takes 200 MB (`Method.wordings_max`).
INDEXES_MAX = 8
# Bringing the groups of a large workspace into memory takes some seconds, and so do tens of thousands of new wordings.
GROUPING_SECONDS_MAX = 120.0
METHOD = Method()
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Index:
    """The groups of a workspace as of a revision."""

    groups: Groups
    revision: int = 0
    generation: int = 0


class Book:
    """What one process knows of the patterns in one ledger. For any number of threads."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._lock = threading.Lock()
        # Fingerprints are never taken out of the ledger, so what was found there once is there.
        self._known: set[tuple[str, str]] = set()
        self._indexes: OrderedDict[str, _Index] = OrderedDict()

    def assign(self, ledger: Ledger, workspace: str, wordings: Mapping[str, str]) -> None:
        """Make sure that each fingerprint, given with its wording, belongs to a pattern; idempotent.

        Raises LedgerFault; then some may belong to none.
        """
        unknown = {each: wording for each, wording in wordings.items() if (workspace, each) not in self._known}
        if not unknown:
            return
        with ledger.connection() as tx:
            missing = _missing(tx, workspace, unknown)
        if missing:
            with self._lock:
                self._group(ledger, workspace, missing)
        if len(self._known) > KNOWN_MAX:
            self._known.clear()
        self._known.update((workspace, each) for each in unknown)

    def _group(self, ledger: Ledger, workspace: str, wordings: Mapping[str, str]) -> None:
        try:
            with ledger.transaction(idle_seconds_max=GROUPING_SECONDS_MAX) as tx:
                revision = begin_change(tx, workspace)
                missing = _missing(tx, workspace, wordings)
                index = self._current(tx, workspace, revision=revision.before, generation=revision.generation)
                _write(tx, workspace, index.groups, missing, revision=revision.now)
                index.revision = revision.now
        except BaseException:
            # What the index has taken in may not be in the ledger.
            self._indexes.pop(workspace, None)
            raise
        while len(self._indexes) > INDEXES_MAX:
            self._indexes.popitem(last=False)

    def _current(self, tx: Transaction, workspace: str, *, revision: int, generation: int) -> _Index:
        """Bring the index up to date: by what is new, or from nothing if what was known has changed."""
        index = self._indexes.get(workspace)
        if index is not None and (index.generation != generation or _moved_since(tx, workspace, index.revision)):
            index = None
        if index is None:
            index = _Index(Groups(self._method, new_group=lambda: new_id(PREFIX)), generation=generation)
            self._indexes[workspace] = index
        if index.revision != revision:
            index.groups.restore(found_since(tx, workspace, index.revision))
            index.revision = revision
        self._indexes.move_to_end(workspace)
        return index


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The revision that a change makes, the one before it, and how often the workspace was grouped anew."""

    before: int
    now: int
    generation: int


def begin_change(tx: Transaction, workspace: str, *, regrouped: bool = False) -> Revision:
    """Let nobody else change the workspace's patterns until the transaction ends, and count the change."""
    row = tx.execute(
        """
        INSERT INTO pattern_revisions AS known (workspace, revision, generation)
        VALUES (%(workspace)s, 1, %(regrouped)s::int)
        ON CONFLICT (workspace) DO UPDATE
        SET revision = known.revision + 1, generation = known.generation + %(regrouped)s::int
        RETURNING revision, generation
        """,
        {"workspace": workspace, "regrouped": regrouped},
    ).fetchone()
    assert row is not None
    now, generation = row
    return Revision(before=now - 1, now=now, generation=generation)


def revision_of(tx: Transaction, workspace: str) -> int:
    """Tell the number of changes of a workspace's patterns so far."""
    row = tx.execute("SELECT revision FROM pattern_revisions WHERE workspace = %s", (workspace,)).fetchone()
    return 0 if row is None else int(row[0])


def _missing(tx: Transaction, workspace: str, wordings: Mapping[str, str]) -> dict[str, str]:
    rows = tx.execute(
        "SELECT fingerprint FROM issue_fingerprints WHERE workspace = %s AND fingerprint = ANY(%s)",
        (workspace, list(wordings)),
    )
    stored = {fingerprint for (fingerprint,) in rows}
    return {each: wording for each, wording in wordings.items() if each not in stored}


def _moved_since(tx: Transaction, workspace: str, revision: int) -> bool:
    row = tx.execute(
        "SELECT EXISTS (SELECT FROM issue_fingerprints WHERE workspace = %s AND moved_revision > %s)",
        (workspace, revision),
    ).fetchone()
    assert row is not None
    return bool(row[0])


def found_since(tx: Transaction, workspace: str, revision: int = 0) -> list[tuple[str, str, str]]:
    """Read fingerprints with wordings and the groups that were found, the oldest first."""
    return tx.execute(
        "SELECT fingerprint, wording, found_in FROM issue_fingerprints"
        " WHERE workspace = %s AND created_revision > %s ORDER BY seq",
        (workspace, revision),
    ).fetchall()


def _write(tx: Transaction, workspace: str, groups: Groups, wordings: Mapping[str, str], *, revision: int) -> None:
    """Group wordings, and write what that has changed."""
    change = groups.add(wordings)
    put_patterns(tx, workspace, change.names)
    put_assignments(tx, workspace, change.assignments, wordings, revision=revision)
    if unite(tx, workspace, change.merged):
        settle(tx, workspace)


def put_patterns(tx: Transaction, workspace: str, names: Mapping[str, str]) -> None:
    """Make sure that groups are patterns in the ledger, and that those read as their wordings do by now."""
    # Ids sort by the time they were made, so the oldest gets the least number.
    ids = sorted(names)
    tx.execute(
        """
        INSERT INTO patterns AS known (id, workspace, name) SELECT id, %s, name
        FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS new (id, name, place) ORDER BY place
        ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE known.name <> excluded.name
        """,
        (workspace, ids, [names[each] for each in ids]),
    )


def put_assignments(
    tx: Transaction,
    workspace: str,
    assignments: Mapping[str, Assignment],
    wordings: Mapping[str, str],
    *,
    revision: int,
) -> None:
    """Write which group was found for fingerprints; `wordings` has those of new ones."""
    ends = ends_of(tx, {each.group for each in assignments.values()})
    new, moved = dict[str, Assignment](), dict[str, Assignment]()
    for fingerprint, assignment in assignments.items():
        (new if fingerprint in wordings else moved)[fingerprint] = assignment
    tx.execute(
        f"""
        INSERT INTO issue_fingerprints
            (workspace, fingerprint, wording, found_in, found_by, confidence, terms, pattern_id, created_revision)
        SELECT %s, a.fingerprint, w.wording, a.found_in, a.found_by, a.confidence, a.terms, a.pattern_id, %s
        FROM {_ASSIGNED} JOIN unnest(%s::text[]) WITH ORDINALITY AS w (wording, place) USING (place)
        ORDER BY place
        ON CONFLICT (workspace, fingerprint) DO NOTHING
        """,  # noqa: S608 - the names are ours
        (workspace, revision, *_columns(new, ends), [wordings[each] for each in new]),
    )
    if moved:
        tx.execute(
            f"""
            UPDATE issue_fingerprints AS f SET found_in = a.found_in, found_by = a.found_by,
                confidence = a.confidence, terms = a.terms, moved_revision = %s,
                pattern_id = CASE WHEN f.moved_to IS NULL THEN a.pattern_id ELSE f.pattern_id END
            FROM {_ASSIGNED} WHERE f.workspace = %s AND f.fingerprint = a.fingerprint
            """,  # noqa: S608 - as above
            (revision, *_columns(moved, ends), workspace),
        )


_ASSIGNED = """
    unnest(%s::text[], %s::text[], %s::text[], %s::real[], %s::jsonb[], %s::text[]) WITH ORDINALITY
    AS a (fingerprint, found_in, found_by, confidence, terms, pattern_id, place)
"""


def _columns(assignments: Mapping[str, Assignment], ends: Mapping[str, str]) -> Sequence[list[object]]:
    told = assignments.values()
    return (
        list(assignments),
        [each.group for each in told],
        [each.by for each in told],
        [each.confidence for each in told],
        [_encode(each.terms).decode() for each in told],
        [ends[each.group] for each in told],
    )


def ends_of(tx: Transaction, ids: Iterable[str]) -> dict[str, str]:
    """Tell where patterns have gone: by id the one at the end of all merges, often itself."""
    rows = tx.execute(
        """
        WITH RECURSIVE way (id, at) AS (
            SELECT id, id FROM patterns WHERE id = ANY(%s)
            UNION ALL
            SELECT way.id, p.merged_into FROM way JOIN patterns AS p ON p.id = way.at WHERE p.merged_into IS NOT NULL
        )
        SELECT way.id, way.at FROM way JOIN patterns AS p ON p.id = way.at WHERE p.merged_into IS NULL
        """,
        (sorted(set(ids)),),
    )
    return dict(rows.fetchall())


def unite(tx: Transaction, workspace: str, merged: Mapping[str, str]) -> bool:
    """Merge patterns of which it was found that they are one, by id; whether any was.

    What people merged stays merged, so the patterns that they have gone into are united; the older one stays.
    """
    done = False
    for gone, kept in merged.items():
        ends = ends_of(tx, (gone, kept))
        if gone not in ends or ends[gone] == ends[kept]:
            # It was found and lost in one go, or is there already.
            continue
        done = True
        older, younger = _by_age(tx, (ends[gone], ends[kept]))
        tx.execute("UPDATE patterns SET merged_into = %s WHERE id = %s", (older, younger))
        tx.execute(
            "INSERT INTO pattern_changes (workspace, kind, pattern_id, other_id) VALUES (%s, 'grouped', %s, %s)",
            (workspace, older, younger),
        )
    return done


def _by_age(tx: Transaction, ids: Sequence[str]) -> list[str]:
    rows = tx.execute("SELECT id FROM patterns WHERE id = ANY(%s) ORDER BY seq", (list(ids),))
    return [pattern_id for (pattern_id,) in rows]


def settle(tx: Transaction, workspace: str) -> None:
    """Let fingerprints and pins follow the merges and splits, after those have changed."""
    settled: tuple[tuple[LiteralString, LiteralString, LiteralString], ...] = (
        ("issue_fingerprints", "coalesce(t.moved_to, t.found_in)", "fingerprint"),
        ("issue_pins", "t.pinned_to", "issue_id"),
    )
    for table, place, key in settled:
        tx.execute(
            f"""
            WITH RECURSIVE way (id, at) AS (
                SELECT id, merged_into FROM patterns WHERE workspace = %(workspace)s AND merged_into IS NOT NULL
                UNION ALL
                SELECT way.id, p.merged_into FROM way JOIN patterns AS p ON p.id = way.at
                WHERE p.merged_into IS NOT NULL
            ), ends AS (SELECT way.id, way.at FROM way JOIN patterns AS p ON p.id = way.at WHERE p.merged_into IS NULL),
            placed AS (
                SELECT t.{key}, coalesce(ends.at, {place}) AS pattern_id FROM {table} AS t
                LEFT JOIN ends ON ends.id = {place} WHERE t.workspace = %(workspace)s
            )
            UPDATE {table} AS t SET pattern_id = placed.pattern_id FROM placed
            WHERE t.workspace = %(workspace)s AND t.{key} = placed.{key} AND t.pattern_id <> placed.pattern_id
            """,  # noqa: S608 - as above
            {"workspace": workspace},
        )


_books: WeakKeyDictionary[Ledger, Book] = WeakKeyDictionary()


def book_of(ledger: Ledger) -> Book:
    """Give what this process knows of the patterns in a ledger."""
    return _books.setdefault(ledger, Book(METHOD))
