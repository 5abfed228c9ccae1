"""Secrets: those that all processes share (the key that signs cursors), and those of what `ingest apply` declares.

None is ever shown again, and none is a part of the catalog, whose entries are.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg.rows import class_row

from ingest_platform.storage.ledger import Transaction


def get_or_create(tx: Transaction, name: str) -> bytes:
    """Read a shared secret of 32 bytes; the first caller makes it."""
    tx.execute(
        "INSERT INTO secrets (name, secret) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
        (name, secrets.token_bytes(32)),
    )
    row = tx.execute("SELECT secret FROM secrets WHERE name = %s", (name,)).fetchone()
    assert row is not None
    return bytes(row[0])


def replace(tx: Transaction, name: str) -> bytes:
    """Put a new shared secret of 32 bytes in the place of the one that is there, if any; return the new one."""
    made = secrets.token_bytes(32)
    tx.execute(
        "INSERT INTO secrets (name, secret) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET secret = excluded.secret",
        (name, made),
    )
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A declared thing that has a secret, as it stands now. `secret` is not printed with it."""

    workspace: str
    id: str
    body: Mapping[str, Any]
    secret: str = field(repr=False)


def declared(tx: Transaction, *, kind: str, id: str) -> Holder | None:  # noqa: A002 - the word of the catalog.
    """Look up who has a secret by the id alone; None if nothing of that id stands, or it has none."""
    with tx.cursor(row_factory=class_row(Holder)) as cursor:
        return cursor.execute(
            """
            SELECT held.workspace, held.id, entry.body, held.secret
            FROM declared_secrets AS held JOIN LATERAL (
                SELECT body, retired FROM catalog
                WHERE workspace = held.workspace AND kind = held.kind AND id = held.id ORDER BY version DESC LIMIT 1
            ) AS entry ON NOT entry.retired
            WHERE held.kind = %s AND held.id = %s
            """,
            (kind, id),
        ).fetchone()


def secret_of(tx: Transaction, *, workspace: str, kind: str, id: str) -> str | None:  # noqa: A002
    """Read the secret of something declared in a workspace."""
    row = tx.execute(
        "SELECT secret FROM declared_secrets WHERE kind = %s AND id = %s AND workspace = %s", (kind, id, workspace)
    ).fetchone()
    return None if row is None else str(row[0])


def keep(tx: Transaction, *, workspace: str, kind: str, id: str, secret: str) -> bool:  # noqa: A002
    """Give something declared a secret, in place of the one it has; False if the id is another workspace's."""
    return bool(
        tx.execute(
            "INSERT INTO declared_secrets (workspace, kind, id, secret) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (kind, id) DO UPDATE SET secret = excluded.secret, created_at = now()"
            " WHERE declared_secrets.workspace = excluded.workspace",
            (workspace, kind, id, secret),
        ).rowcount
    )


def drop(tx: Transaction, *, workspace: str, kind: str, id: str) -> None:  # noqa: A002
    """Forget the secret of something that is retired; its id is free again."""
    tx.execute("DELETE FROM declared_secrets WHERE kind = %s AND id = %s AND workspace = %s", (kind, id, workspace))


# Several secrets of one declared thing, whose id is unique in its workspace only, are kept as one. Ids that are their
# own in the whole platform have no slash.
def values_of(tx: Transaction, *, workspace: str, kind: str, id: str) -> dict[str, str]:  # noqa: A002
    """Read the secrets of something declared, by what each is for; empty if it has none."""
    found = secret_of(tx, workspace=workspace, kind=kind, id=f"{workspace}/{id}")
    return {} if found is None else dict(json.loads(found))


def keep_values(tx: Transaction, *, workspace: str, kind: str, id: str, values: Mapping[str, str]) -> None:  # noqa: A002
    """Give something declared its secrets, in place of those that it has; none at all are forgotten."""
    name = f"{workspace}/{id}"
    if values:
        kept = keep(tx, workspace=workspace, kind=kind, id=name, secret=json.dumps(dict(values)))
        assert kept, "the workspace is in the id"
    else:
        drop(tx, workspace=workspace, kind=kind, id=name)
