"""What the first `ingest up` makes: the workspace `demo`, what each feed has in its demo.yaml, an API key and a PAT."""

import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ingest_platform.declaring import apply
from ingest_platform.domain.feed import Feed
from ingest_platform.feeds import discover
from ingest_platform.settings import Settings
from ingest_platform.storage import keys, workspaces
from ingest_platform.storage.keys import NewKey
from ingest_platform.storage.ledger import Ledger, Transaction
from ingest_platform.storage.workspaces import Workspace

WORKSPACE = "demo"
PROJECT = "local"
CREDENTIALS = "demo-credentials.json"
# The control plane's scopes; a PAT has them and what reads, an API key has all others.
CONTROL_SCOPES = ("datasets:admin", "webhooks:admin", "admin")
READING_SCOPES = ("machine-data:read", "issues:read", "patterns:read", "jobs:read")
DATA_SCOPES = tuple(scope for scope in keys.SCOPES if scope not in CONTROL_SCOPES)


def credentials_file(data_dir: Path) -> Path:
    """Name the file with the first keys."""
    return data_dir / CREDENTIALS


def read_credentials(data_dir: Path) -> dict[str, str]:
    """Read the first keys; empty if there are none."""
    try:
        return dict(json.loads(credentials_file(data_dir).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def seed(settings: Settings) -> None:
    """Make what a first start makes; a later one finds it and changes nothing."""
    assert settings.database_url is not None
    with Ledger(settings.database_url, application="ingest-seed", connections_max=2) as ledger:
        _declare(ledger, discover())
        known = read_credentials(settings.data_dir)
        with ledger.transaction() as tx:
            if known and all(_stands(tx, token) for token in known.values()):
                return
            credentials = {
                "api_key": keys.issue(tx, _new_key("api", DATA_SCOPES)).token,
                "pat": keys.issue(tx, _new_key("pat", (*CONTROL_SCOPES, *READING_SCOPES))).token,
            }
        _write_private(credentials_file(settings.data_dir), json.dumps(credentials) + "\n")


def _new_key(kind: str, scopes: Sequence[str]) -> NewKey:
    return NewKey(workspace=WORKSPACE, project=PROJECT, kind=kind, scopes=scopes)


def _stands(tx: Transaction, token: str) -> bool:
    """Tell whether the database knows a key: the file may be older than the database."""
    parts = keys.split_token(token)
    return parts is not None and parts[1] in keys.find(tx, [parts[1]])


def _declare(ledger: Ledger, feeds: Sequence[Feed]) -> None:
    with ledger.transaction() as tx:
        if workspaces.find(tx, WORKSPACE) is not None:
            return
        workspaces.put(tx, Workspace(name=WORKSPACE, projects=(PROJECT,)))
    for feed in feeds:
        declaration = resources.files("ingest_platform.feeds") / feed.name / "demo.yaml"
        if declaration.is_file():
            with resources.as_file(declaration) as path:
                apply(ledger, [path], feeds=feeds)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
