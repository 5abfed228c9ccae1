"""Workspaces: who owns keys, quotas and data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from psycopg.rows import class_row

from ingest_platform.storage.ledger import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A unit of isolation. `rate_limits` are requests a minute by feed, `quotas` records a month by feed (-1: none)."""

    name: str
    projects: Sequence[str] = ()
    rate_limits: Mapping[str, int] = field(default_factory=dict[str, int])
    quotas: Mapping[str, int] = field(default_factory=dict[str, int])


def put(tx: Transaction, workspace: Workspace) -> None:
    """Create a workspace or give it these settings."""
    tx.execute(
        "INSERT INTO workspaces (name, projects, rate_limits, quotas) VALUES (%s, %s, %s::jsonb, %s::jsonb)"
        " ON CONFLICT (name) DO UPDATE SET projects = excluded.projects, rate_limits = excluded.rate_limits,"
        " quotas = excluded.quotas",
        (
            *(workspace.name, list(workspace.projects)),
            *(json.dumps(dict(workspace.rate_limits)), json.dumps(dict(workspace.quotas))),
        ),
    )


def find(tx: Transaction, name: str) -> Workspace | None:
    """Look up a workspace."""
    with tx.cursor(row_factory=class_row(Workspace)) as cursor:
        return cursor.execute(
            "SELECT name, projects, rate_limits, quotas FROM workspaces WHERE name = %s", (name,)
        ).fetchone()


def names(tx: Transaction) -> list[str]:
    """List all workspaces by name."""
    return [name for (name,) in tx.execute("SELECT name FROM workspaces ORDER BY name")]
