"""Keys: issued once, stored as a hash, found by a public id. What a scope allows is decided elsewhere."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import kwargs_row

from ingest_platform.domain.errors import NotFound
from ingest_platform.domain.ids import encode_crockford
from ingest_platform.storage.ledger import Transaction

PREFIXES = {"api": "ing_live_", "pat": "pat_"}
KEY_ID_LENGTH = 16
# 200 random bits: no need for a slow hash, and no underscore, which separates the parts of a token.
_SECRET_LENGTH = 40

SCOPES = (
    *("machine-data:write", "machine-data:read", "streams:write", "datasets:write", "datasets:admin", "ingest:write"),
    *("issues:read", "patterns:read", "jobs:read", "replays:write", "webhooks:admin", "admin"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as stored. `sites` None means all; `active` is by the database's clock at the moment of reading."""

    key_id: str
    workspace: str
    project: str | None
    kind: str
    secret_sha256: bytes
    scopes: frozenset[str]
    sites: frozenset[str] | None
    slot: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    active: bool
    # Its workspace's own requests a minute by feed, read with it because nearly every request needs both.
    rate_limits: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key with its token, which is shown this once."""

    token: str
    record: KeyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What a key is to be."""

    workspace: str
    scopes: Sequence[str]
    kind: str = "api"
    project: str | None = None
    sites: Sequence[str] | None = None
    slot: str = "primary"
    expires_in_seconds: float | None = None


_COLUMNS: LiteralString = """
    key_id, workspace, project, kind, secret_sha256, scopes, sites, slot, created_at, expires_at, revoked_at,
    revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) AS active,
    (SELECT rate_limits FROM workspaces WHERE name = keys.workspace) AS rate_limits
"""


def _record(*, scopes: list[str], sites: list[str] | None, **columns: Any) -> KeyRecord:  # noqa: ANN401
    return KeyRecord(scopes=frozenset(scopes), sites=None if sites is None else frozenset(sites), **columns)


def _random(length: int) -> str:
    return encode_crockford(secrets.randbits(5 * length), length=length)


def split_token(token: str) -> tuple[str, str, str] | None:
    """Take a token apart: (kind, key id, secret); None if it has not the form of one.

    >>> split_token("pat_0123456789abcdef_" + "s" * 40)[:2]
    ('pat', '0123456789abcdef')
    """
    for kind, prefix in PREFIXES.items():
        if token.startswith(prefix):
            key_id, _, secret = token.removeprefix(prefix).partition("_")
            if len(key_id) == KEY_ID_LENGTH and len(secret) == _SECRET_LENGTH and token.isascii():
                return kind, key_id, secret
    return None


def matches(record: KeyRecord, secret: str) -> bool:
    """Compare a secret with the stored hash in constant time."""
    return hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), record.secret_sha256)


def issue(tx: Transaction, new: NewKey) -> IssuedKey:
    """Make a key. Raises NotFound if the workspace does not exist."""
    if tx.execute("SELECT 1 FROM workspaces WHERE name = %s", (new.workspace,)).fetchone() is None:
        raise NotFound(f"There is no workspace {new.workspace!r}.")
    key_id, secret = _random(KEY_ID_LENGTH), _random(_SECRET_LENGTH)
    with tx.cursor(row_factory=kwargs_row(_record)) as cursor:
        record = cursor.execute(
            "INSERT INTO keys (key_id, workspace, project, kind, secret_sha256, scopes, sites, slot, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))"
            f" RETURNING {_COLUMNS}",
            (
                *(key_id, new.workspace, new.project, new.kind, hashlib.sha256(secret.encode()).digest()),
                *(list(new.scopes), None if new.sites is None else list(new.sites), new.slot, new.expires_in_seconds),
            ),
        ).fetchone()
    assert record is not None
    return IssuedKey(token=f"{PREFIXES[new.kind]}{key_id}_{secret}", record=record)


def find(tx: Transaction, key_ids: Iterable[str]) -> dict[str, KeyRecord]:
    """Look up keys by their ids; unknown ones are absent."""
    with tx.cursor(row_factory=kwargs_row(_record)) as cursor:
        rows = cursor.execute(f"SELECT {_COLUMNS} FROM keys WHERE key_id = ANY(%s)", (list(set(key_ids)),)).fetchall()
    return {record.key_id: record for record in rows}


def list_keys(tx: Transaction, *, workspace: str) -> list[KeyRecord]:
    """List the keys of a workspace, the newest first."""
    with tx.cursor(row_factory=kwargs_row(_record)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM keys WHERE workspace = %s ORDER BY created_at DESC, key_id", (workspace,)
        ).fetchall()


def rotate(tx: Transaction, key_id: str, *, grace_seconds: float = 0) -> IssuedKey:
    """Make a key like this one and let this one end after a grace. Raises NotFound if it is not active."""
    old = find(tx, [key_id]).get(key_id)
    if old is None or not old.active:
        raise NotFound(f"There is no active key {key_id!r}.")
    remaining = tx.execute(
        "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM keys WHERE key_id = %s", (key_id,)
    ).fetchone()
    assert remaining is not None
    issued = issue(
        tx,
        NewKey(
            workspace=old.workspace,
            scopes=sorted(old.scopes),
            kind=old.kind,
            project=old.project,
            sites=None if old.sites is None else sorted(old.sites),
            slot=old.slot,
            expires_in_seconds=remaining[0],
        ),
    )
    tx.execute(
        "UPDATE keys SET rotated_to = %s, expires_at = least(expires_at,"
        " clock_timestamp() + make_interval(secs => %s)) WHERE key_id = %s",
        (issued.record.key_id, grace_seconds, key_id),
    )
    return issued


def revoke(tx: Transaction, key_id: str) -> bool:
    """End a key at once; False if there is none, or it was revoked before."""
    return (
        tx.execute(
            "UPDATE keys SET revoked_at = clock_timestamp() WHERE key_id = %s AND revoked_at IS NULL", (key_id,)
        ).rowcount
        == 1
    )
