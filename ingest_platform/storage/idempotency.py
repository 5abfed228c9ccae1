"""Idempotency keys: the first answer, byte for byte, kept for 24 hours and shared by all API processes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString, TypeAlias

from ingest_platform.storage.ledger import Transaction

TABLE = "idempotency"
KEPT_HOURS = 24
# Answers from this status on took nothing.
_REFUSED = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose key it is and for which route."""

    workspace: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """The caller is the first: it must finish or abandon the key."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The first one has not been answered yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The first answer. Another body under the same key is a mistake of the client."""

    body_sha256: bytes
    status: int
    headers: Mapping[str, str]
    response: bytes


Kept: TypeAlias = Reserved | InFlight | Answered

# In order of key, so that two processes never wait for each other's rows.
_RESERVE: LiteralString = """
INSERT INTO idempotency AS kept (workspace, route, key, in_flight_until)
SELECT workspace, route, key, clock_timestamp() + make_interval(secs => %(seconds)s)
FROM unnest(%(workspaces)s::text[], %(routes)s::text[], %(keys)s::text[]) AS wanted (workspace, route, key)
ORDER BY route, key, workspace
ON CONFLICT (workspace, route, key) DO UPDATE
    SET in_flight_until = excluded.in_flight_until, created_at = now(), status = NULL, body_sha256 = NULL,
        headers = NULL, response = NULL
    WHERE (kept.status IS NULL AND kept.in_flight_until < clock_timestamp())
       OR kept.created_at < clock_timestamp() - make_interval(hours => %(kept_hours)s)
RETURNING workspace, route, key
"""
_FIND: LiteralString = """
SELECT kept.workspace, kept.route, kept.key, body_sha256, status, headers, response
FROM unnest(%(workspaces)s::text[], %(routes)s::text[], %(keys)s::text[]) AS wanted (workspace, route, key)
JOIN idempotency AS kept USING (workspace, route, key)
WHERE status IS NOT NULL
"""


def reserve(tx: Transaction, scope: Scope, *, seconds: float) -> Kept:
    """Claim a key, or say what became of it. A reservation ends by itself, so that a killed process frees it."""
    return reserve_each(tx, [scope], seconds=seconds)[0]


def reserve_each(tx: Transaction, scopes: Sequence[Scope], *, seconds: float) -> list[Kept]:
    """Claim keys together; of those who want the same one, the first may have it."""
    wanted = set(scopes)
    values = _columns(wanted) | {"seconds": seconds, "kept_hours": KEPT_HOURS}
    reserved = {_scope(*row) for row in tx.execute(_RESERVE, values)}
    answered: dict[Scope, Kept] = {}
    if lost := wanted - reserved:
        answered = {_scope(*row[:3]): _answered(*row[3:]) for row in tx.execute(_FIND, _columns(lost))}
    kept: list[Kept] = []
    for scope in scopes:
        kept.append(Reserved() if scope in reserved else answered.get(scope, InFlight()))
        reserved.discard(scope)
    return kept


def _columns(scopes: Iterable[Scope]) -> dict[str, object]:
    ordered = list(scopes)
    return {
        "workspaces": [scope.workspace for scope in ordered],
        "routes": [scope.route for scope in ordered],
        "keys": [scope.key for scope in ordered],
    }


def _scope(workspace: str, route: str, key: str) -> Scope:
    return Scope(workspace=workspace, route=route, key=key)


def _answered(body_sha256: bytes, status: int, headers: Mapping[str, str], response: bytes) -> Answered:
    return Answered(body_sha256=body_sha256, status=status, headers=headers, response=response)


def extend(tx: Transaction, scope: Scope, *, seconds: float) -> None:
    """Hold a reservation for longer while a large body is coming in."""
    tx.execute(
        "UPDATE idempotency SET in_flight_until = clock_timestamp() + make_interval(secs => %s)"
        " WHERE workspace = %s AND route = %s AND key = %s AND status IS NULL",
        (seconds, scope.workspace, scope.route, scope.key),
    )


def finish(tx: Transaction, scope: Scope, answer: Answered) -> None:
    """Keep the answer; in the transaction that takes the submission, so that both are there or neither.

    Raises psycopg's UniqueViolation for an answer that took something if another request under the key, begun after
    this one's reservation had run out, was answered before: what this one takes must then not be committed.
    """
    tx.execute(
        "DELETE FROM idempotency WHERE workspace = %s AND route = %s AND key = %s AND status IS NULL",
        (scope.workspace, scope.route, scope.key),
    )
    unless_answered = "ON CONFLICT DO NOTHING" if answer.status >= _REFUSED else ""
    tx.execute(
        "INSERT INTO idempotency (workspace, route, key, body_sha256, status, headers, response)"
        f" VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s) {unless_answered}",
        (
            *(scope.workspace, scope.route, scope.key),
            *(answer.body_sha256, answer.status, json.dumps(dict(answer.headers)), answer.response),
        ),
    )


def abandon(tx: Transaction, scope: Scope) -> None:
    """Free a key whose request was refused in a way that a retry may get past."""
    tx.execute(
        "DELETE FROM idempotency WHERE workspace = %s AND route = %s AND key = %s AND status IS NULL",
        (scope.workspace, scope.route, scope.key),
    )


def forget_old(tx: Transaction) -> int:
    """Delete what has been kept long enough; returns how many."""
    return tx.execute(
        "DELETE FROM idempotency WHERE created_at < clock_timestamp() - make_interval(hours => %s)", (KEPT_HOURS,)
    ).rowcount
