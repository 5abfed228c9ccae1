"""What records may refer to, as frames: the catalog's history and the submissions' origins, for a feed's `refer`."""

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import polars as pl

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.submission import Submission
from ingest_platform.storage import catalog, secrets
from ingest_platform.storage.ledger import Ledger, Transaction

ORIGINS_SCHEMA = {
    "submission": pl.UInt32(),
    "job_id": pl.String(),
    "workspace": pl.String(),
    "target": pl.String(),
    "catalog_revision": pl.Int64(),
    "sites": pl.List(pl.String()),
    "secret": pl.Binary(),
}
KNOWN_SCHEMA = {
    "workspace": pl.String(),
    "kind": pl.String(),
    "id": pl.String(),
    "version": pl.Int32(),
    "revision": pl.Int64(),
    "retired": pl.Boolean(),
    "body": pl.String(),
}


def origins_of(
    submissions: Sequence[Submission], *, own_secrets: Mapping[str, bytes] = MappingProxyType({})
) -> pl.DataFrame:
    """Lay out where each submission of a load comes from; its ordinal is its place in the load.

    `own_secrets` are those of the workspaces, for a feed that asks for them.
    """
    return pl.DataFrame(
        {
            "submission": list(range(len(submissions))),
            "job_id": [each.job_id for each in submissions],
            "workspace": [each.workspace for each in submissions],
            "target": [each.target for each in submissions],
            "catalog_revision": [each.catalog_revision for each in submissions],
            "sites": [None if each.sites is None else list(each.sites) for each in submissions],
            "secret": [own_secrets.get(each.workspace) for each in submissions],
        },
        schema=ORIGINS_SCHEMA,
    )


def read_known(tx: Transaction, feed: Feed, workspaces: Iterable[str]) -> pl.DataFrame:
    """Read every version of the feed's kinds in some workspaces."""
    entries = catalog.history(tx, workspaces=workspaces, kinds=[kind.section for kind in feed.kinds])
    return pl.DataFrame(
        {
            "workspace": [entry.workspace for entry in entries],
            "kind": [entry.kind for entry in entries],
            "id": [entry.id for entry in entries],
            "version": [entry.version for entry in entries],
            "revision": [entry.revision for entry in entries],
            "retired": [entry.retired for entry in entries],
            "body": [json.dumps(dict(entry.body)) for entry in entries],
        },
        schema=KNOWN_SCHEMA,
    )


def secret_of(tx: Transaction, feed: Feed, workspace: str) -> bytes:
    """Read the secret of a workspace that a feed asks for; the first who needs it makes it."""
    return secrets.get_or_create(tx, _secret_name(feed, workspace))


def replace_secret(tx: Transaction, feed: Feed, workspace: str) -> None:
    """Give a workspace a new secret; what is worked from now on has that one."""
    secrets.replace(tx, _secret_name(feed, workspace))


def _secret_name(feed: Feed, workspace: str) -> str:
    return f"{feed.secret_name}:{workspace}"


# Loads mix workspaces in ever new ways; a frame of ten thousand versions is a few megabytes.
FRAMES_MAX = 64


class KnownCache:
    """The catalog's history as frames, read again only when its revision has moved."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._revision = -1
        self._frames: dict[tuple[str, frozenset[str]], pl.DataFrame] = {}

    def of(self, feed: Feed, workspaces: Iterable[str]) -> pl.DataFrame:
        """Look up what a feed's records of some workspaces may refer to."""
        key = (feed.name, frozenset(workspaces))
        with self._lock, self._ledger.transaction() as tx:
            # The revision is read first: what is declared between the two reads is read again next time.
            revision = catalog.revision(tx)
            if revision != self._revision:
                self._frames.clear()
                self._revision = revision
            if key not in self._frames:
                if len(self._frames) >= FRAMES_MAX:
                    self._frames.clear()
                self._frames[key] = read_known(tx, feed, key[1])
            return self._frames[key]

    def secrets_of(self, feed: Feed, workspaces: Iterable[str]) -> Mapping[str, bytes]:
        """Look up the secrets of some workspaces, if the feed asks for any. They are read anew: one may be rotated."""
        if feed.secret_name is None:
            return {}
        with self._ledger.transaction() as tx:
            return {workspace: secret_of(tx, feed, workspace) for workspace in set(workspaces)}
