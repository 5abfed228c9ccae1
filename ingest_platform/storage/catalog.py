"""What was declared, every version of it: a record is judged by the versions that stood when it was accepted."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

from psycopg.rows import class_row

from ingest_platform.storage.ledger import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One version of one declared thing. `revision` is that of the whole catalog since which it stands."""

    workspace: str
    kind: str
    id: str
    version: int
    revision: int
    body: Mapping[str, Any]
    retired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Something as the user wants it from now on; `retired` takes it out of use."""

    workspace: str
    kind: str
    id: str
    body: Mapping[str, Any]
    retired: bool = False


@unique
class ChangeKind(StrEnum):
    """What an apply does to an entry."""

    CREATED = "created"
    CHANGED = "changed"
    RETIRED = "retired"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an apply did to one entry; `version` is the one that stands now."""

    kind: ChangeKind
    declared: Declared
    version: int
    before: Mapping[str, Any] | None


def revision(tx: Transaction) -> int:
    """Read the present revision of the catalog."""
    row = tx.execute("SELECT revision FROM catalog_revision").fetchone()
    assert row is not None
    return int(row[0])


def lock(tx: Transaction) -> None:
    """Make others who declare something wait until the transaction ends."""
    tx.execute("SELECT FROM catalog_revision FOR UPDATE")


def put(tx: Transaction, declared: Sequence[Declared]) -> list[Change]:
    """Declare things in one revision; what is declared as it already stands gets no new version.

    Submissions accepted before the transaction commits are judged by what stood before.
    """
    row = tx.execute("UPDATE catalog_revision SET revision = revision + 1 RETURNING revision").fetchone()
    assert row is not None
    return [_put(tx, each, revision=int(row[0])) for each in declared]


def _put(tx: Transaction, declared: Declared, *, revision: int) -> Change:
    found = tx.execute(
        "SELECT version, body, retired FROM catalog WHERE workspace = %s AND kind = %s AND id = %s"
        " ORDER BY version DESC LIMIT 1",
        (declared.workspace, declared.kind, declared.id),
    ).fetchone()
    version, before, was_retired = found or (0, None, True)
    if found and was_retired == declared.retired and (declared.retired or before == dict(declared.body)):
        return Change(kind=ChangeKind.UNCHANGED, declared=declared, version=version, before=before)
    tx.execute(
        "INSERT INTO catalog (workspace, kind, id, version, revision, body, retired)"
        " VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s)",
        (
            *(declared.workspace, declared.kind, declared.id, version + 1, revision),
            *(json.dumps(dict(declared.body)), declared.retired),
        ),
    )
    kind = ChangeKind.CREATED if was_retired else ChangeKind.RETIRED if declared.retired else ChangeKind.CHANGED
    return Change(kind=kind, declared=declared, version=version + 1, before=None if was_retired else before)


_COLUMNS = "workspace, kind, id, version, revision, body, retired"


def current(tx: Transaction, *, workspace: str, kind: str) -> list[Entry]:
    """List what stands now of one kind in a workspace, by id."""
    with tx.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(
            f"SELECT * FROM (SELECT DISTINCT ON (id) {_COLUMNS} FROM catalog WHERE workspace = %s AND kind = %s"
            " ORDER BY id, version DESC) AS latest WHERE NOT retired ORDER BY id",
            (workspace, kind),
        ).fetchall()


def latest(tx: Transaction, *, workspace: str, kind: str, id_: str) -> Entry | None:
    """Find the last version of one thing, retired or not; None if there never was one."""
    return _last(tx, (workspace, kind, id_), standing=False)


def last_standing(tx: Transaction, *, workspace: str, kind: str, id_: str) -> Entry | None:
    """Find the last version of one thing that was no retirement; None if there never was one."""
    return _last(tx, (workspace, kind, id_), standing=True)


def _last(tx: Transaction, named: tuple[str, str, str], *, standing: bool) -> Entry | None:
    with tx.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM catalog WHERE workspace = %s AND kind = %s AND id = %s AND NOT (%s AND retired)"
            " ORDER BY version DESC LIMIT 1",
            (*named, standing),
        ).fetchone()


def history(tx: Transaction, *, workspaces: Iterable[str], kinds: Iterable[str]) -> list[Entry]:
    """List every version of some kinds in some workspaces."""
    with tx.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM catalog WHERE workspace = ANY(%s) AND kind = ANY(%s)"
            " ORDER BY workspace, kind, id, version",
            (sorted(set(workspaces)), sorted(set(kinds))),
        ).fetchall()


def at_version(tx: Transaction, *, workspace: str, kind: str, id_: str, version: int) -> Entry | None:
    """Find one version of one thing; None if there is none of this number."""
    with tx.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM catalog WHERE workspace = %s AND kind = %s AND id = %s AND version = %s",
            (workspace, kind, id_, version),
        ).fetchone()
