"""Datasets and their schemas, as the ledger keeps them: made, found, listed, changed, deleted. HTTP is not known here.

Whoever changes the datasets of a workspace locks it first and then looks, so that of two who do the same at once the
second sees what the first has done.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from ingest_platform.domain.errors import Conflict
from ingest_platform.storage.ledger import Transaction

# A table each; the lake and the pages that list them are made for some hundreds.
DATASETS_MAX = 1_000
SLUG_CHARACTERS_MAX = 63
# Of a name in which nothing can stand in a slug.
_SLUG_OF_NOTHING = "dataset"
# The dataset that a schema makes which is registered for a project without one.
DEFAULT_NAME = "default"
NAME_CHARACTERS_MAX, DESCRIPTION_CHARACTERS_MAX = 100, 1_000
# No control characters, and no white space around it. Written so that Python, browsers and JSON schemas read it alike.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_BLANKS = r" \xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
NAME_PATTERN = f"^[^{_CONTROLS}{_BLANKS}](?:[^{_CONTROLS}]{{0,{NAME_CHARACTERS_MAX - 2}}}[^{_CONTROLS}{_BLANKS}])?$"
# PostgreSQL keeps no NUL.
TEXT_PATTERN = r"^[^\x00]*$"
ID_PATTERN = "^[1-9][0-9]{0,17}$"
is_name = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z").match
NAME_RULE = f"must have 1 to {NAME_CHARACTERS_MAX} characters, no control characters, and no white space around it"
_is_id = re.compile(ID_PATTERN.removesuffix("$") + r"\Z").match


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset that is not deleted; `fields` (in the order declared) is None until its schema is registered."""

    id: int
    workspace: str
    project: str
    name: str
    slug: str
    description: str
    is_default: bool
    created_at: datetime
    fields: Mapping[str, str] | None


def read_id(text: str) -> int | None:
    """Read an id as it stands in a path; None unless it is a positive integer.

    >>> read_id("13"), read_id("0"), read_id("-1"), read_id("1.0"), read_id("١")
    (13, None, None, None, None)
    """
    return int(text) if _is_id(text) else None


def slug_of(name: str) -> str:
    """Make of a name what can stand in an address.

    >>> slug_of("Bestellungen 2026 (bezahlt)"), slug_of("Café"), slug_of("データ")
    ('bestellungen-2026-bezahlt', 'cafe', 'dataset')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return slug[:SLUG_CHARACTERS_MAX].rstrip("-") or _SLUG_OF_NOTHING


def lock(tx: Transaction, workspace: str) -> None:
    """Keep others from changing the datasets of a workspace until the transaction ends."""
    # Not FOR UPDATE: whoever accepts submissions of the workspace refers to this row, and must not wait.
    tx.execute("SELECT FROM workspaces WHERE name = %s FOR NO KEY UPDATE", (workspace,))


def has_project(tx: Transaction, *, workspace: str, project: str) -> bool:
    """Tell whether a project is one of the workspace's."""
    found = tx.execute("SELECT %s = ANY(projects) FROM workspaces WHERE name = %s", (project, workspace)).fetchone()
    return found is not None and bool(found[0])


def find(tx: Transaction, *, workspace: str, project: str, dataset_id: int) -> Dataset | None:
    """Look up a dataset of a project."""
    with tx.cursor(row_factory=class_row(Dataset)) as cursor:
        return cursor.execute(
            "SELECT * FROM standing_datasets WHERE id = %s AND workspace = %s AND project = %s",
            (dataset_id, workspace, project),
        ).fetchone()


def find_anywhere(tx: Transaction, *, workspace: str, dataset_id: int) -> Dataset | None:
    """Look up a dataset of a workspace, in whichever of its projects."""
    with tx.cursor(row_factory=class_row(Dataset)) as cursor:
        return cursor.execute(
            "SELECT * FROM standing_datasets WHERE id = %s AND workspace = %s", (dataset_id, workspace)
        ).fetchone()


def find_named(tx: Transaction, *, workspace: str, project: str, name: str) -> Dataset | None:
    """Look up a dataset of a project by its name."""
    with tx.cursor(row_factory=class_row(Dataset)) as cursor:
        return cursor.execute(
            "SELECT * FROM standing_datasets WHERE workspace = %s AND project = %s AND name = %s",
            (workspace, project, name),
        ).fetchone()


def default_of(tx: Transaction, *, workspace: str, project: str) -> Dataset | None:
    """Look up the default dataset of a project: the first one made, unless it was deleted before the next was."""
    with tx.cursor(row_factory=class_row(Dataset)) as cursor:
        return cursor.execute(
            "SELECT * FROM standing_datasets WHERE workspace = %s AND project = %s AND is_default", (workspace, project)
        ).fetchone()


def list_datasets(tx: Transaction, *, workspace: str, project: str, after: int, limit: int) -> list[Dataset]:
    """List the datasets of a project with greater ids, in the order in which they were made."""
    with tx.cursor(row_factory=class_row(Dataset)) as cursor:
        return cursor.execute(
            "SELECT * FROM standing_datasets WHERE workspace = %s AND project = %s AND id > %s ORDER BY id LIMIT %s",
            (workspace, project, after, limit),
        ).fetchall()


def count(tx: Transaction, *, workspace: str, project: str) -> int:
    """Count the datasets of a project."""
    row = tx.execute(
        "SELECT count(*) FROM standing_datasets WHERE workspace = %s AND project = %s", (workspace, project)
    ).fetchone()
    assert row is not None
    return int(row[0])


def create(tx: Transaction, *, workspace: str, project: str, name: str, description: str) -> Dataset:
    """Make a dataset; the first of a project without a default is its default. Raises Conflict if the name is taken."""
    lock(tx, workspace)
    _require_free(tx, workspace=workspace, project=project, name=name)
    if count(tx, workspace=workspace, project=project) >= DATASETS_MAX:
        raise Conflict(f"A project may have {DATASETS_MAX} datasets")
    is_default = default_of(tx, workspace=workspace, project=project) is None
    row = tx.execute(
        "INSERT INTO datasets (workspace, project, name, slug, description, is_default)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
        (workspace, project, name, _free_slug(tx, workspace, project, name), description, is_default),
    ).fetchone()
    assert row is not None
    return _standing(tx, row[0])


def default_or_new(tx: Transaction, *, workspace: str, project: str) -> Dataset:
    """Find the default dataset of a project, or make it: one that is called `default`."""
    lock(tx, workspace)
    found = default_of(tx, workspace=workspace, project=project)
    if found is not None:
        return found
    named = find_named(tx, workspace=workspace, project=project, name=DEFAULT_NAME)
    if named is None:
        return create(tx, workspace=workspace, project=project, name=DEFAULT_NAME, description="")
    tx.execute("UPDATE datasets SET is_default = true WHERE id = %s", (named.id,))
    return _standing(tx, named.id)


def change(tx: Transaction, dataset: Dataset, *, name: str | None = None, description: str | None = None) -> Dataset:
    """Give a dataset another name or description; what is None stays, and so does the slug.

    Raises Conflict if the name is taken. The dataset was found under the lock.
    """
    if name is not None and name != dataset.name:
        _require_free(tx, workspace=dataset.workspace, project=dataset.project, name=name)
    tx.execute(
        "UPDATE datasets SET name = coalesce(%s, name), description = coalesce(%s, description) WHERE id = %s",
        (name, description, dataset.id),
    )
    return _standing(tx, dataset.id)


def delete(tx: Transaction, dataset: Dataset) -> None:
    """Delete a dataset that was found under the lock: nobody finds it any more, nor what lies in it."""
    tx.execute("UPDATE datasets SET deleted_at = now() WHERE id = %s AND deleted_at IS NULL", (dataset.id,))


def register_schema(tx: Transaction, dataset: Dataset, fields: Mapping[str, str]) -> bool:
    """Register a dataset's schema; False if these fields were registered before, in whatever order.

    Raises Conflict if others were. The dataset was found under the lock.
    """
    made = tx.execute(
        "INSERT INTO dataset_schemas (dataset_id, fields) VALUES (%s, %s::json) ON CONFLICT DO NOTHING RETURNING true",
        (dataset.id, json.dumps(dict(fields))),
    ).fetchone()
    if made is not None:
        return True
    row = tx.execute("SELECT fields FROM dataset_schemas WHERE dataset_id = %s", (dataset.id,)).fetchone()
    assert row is not None
    if row[0] != dict(fields):
        raise Conflict("Dataset schema is already registered with other fields, and can't be changed")
    return False


def _standing(tx: Transaction, dataset_id: int) -> Dataset:
    with tx.cursor(row_factory=class_row(Dataset)) as cursor:
        found = cursor.execute("SELECT * FROM standing_datasets WHERE id = %s", (dataset_id,)).fetchone()
    assert found is not None, dataset_id
    return found


def _require_free(tx: Transaction, *, workspace: str, project: str, name: str) -> None:
    if find_named(tx, workspace=workspace, project=project, name=name) is not None:
        raise Conflict(f"Dataset name already exists: {name}")


def _free_slug(tx: Transaction, workspace: str, project: str, name: str) -> str:
    """Make a slug that is the dataset's own, with a number behind it if others' names make the same."""
    rows = tx.execute("SELECT slug FROM standing_datasets WHERE workspace = %s AND project = %s", (workspace, project))
    taken = {slug for (slug,) in rows}
    slug, number = slug_of(name), 1
    free = slug
    while free in taken:
        number += 1
        free = f"{slug[: SLUG_CHARACTERS_MAX - len(str(number)) - 1].rstrip('-')}-{number}"
    return free
