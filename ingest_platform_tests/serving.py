"""A real server of the API on a free port, over a real PostgreSQL, with a workspace or two to talk to it."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

from ingest_platform.api.service import HttpService
from ingest_platform.api.services import Limits
from ingest_platform.app import create_app, make_server
from ingest_platform.domain.ids import new_ulid
from ingest_platform.feeds import discover
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import catalog, keys, workspaces
from ingest_platform_tests.making import open_stores

CONFIG = "mdp_01kqzcjrpyf27tge9dnvsqv8t2"
OTHER_SITE_CONFIG = "mdp_01kqzcjrpyf27tge9dnvsqv8t3"
FOREIGN_CONFIG = "mdp_01kqzcjrpyf27tge9dnvsqv8t4"
ALL_SCOPES = ("machine-data:write", "machine-data:read", "jobs:read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A served API: its address, the platform behind it, a client with a key of acme, and one without a key."""

    url: str
    platform: Platform
    client: httpx.Client
    anyone: httpx.Client
    token: str
    address: tuple[str, int]

    def key(
        self,
        *scopes: str,
        workspace: str = "acme",
        kind: str = "api",
        sites: Sequence[str] | None = None,
        expires_in_seconds: float | None = None,
    ) -> keys.IssuedKey:
        """Issue another key."""
        new = keys.NewKey(
            workspace=workspace,
            scopes=scopes or ALL_SCOPES,
            kind=kind,
            sites=sites,
            expires_in_seconds=expires_in_seconds,
        )
        with self.platform.ledger.transaction() as tx:
            return keys.issue(tx, new)

    def bearer(self, *scopes: str, workspace: str = "acme", kind: str = "api") -> dict[str, str]:
        """Issue a key and make the header that shows it."""
        return {"Authorization": f"Bearer {self.key(*scopes, workspace=workspace, kind=kind).token}"}


def declare(platform: Platform) -> None:
    """Make two workspaces, acme with two sites and globex with one, and a data point at each site."""
    with platform.ledger.transaction() as tx:
        for name in ("acme", "globex"):
            workspaces.put(tx, workspaces.Workspace(name=name))
        points = [
            ("acme", CONFIG, "plant-a", "kiln-1"),
            ("acme", OTHER_SITE_CONFIG, "plant-b", "kiln-2"),
            ("globex", FOREIGN_CONFIG, "plant-x", "press-1"),
        ]
        for workspace, config, site, machine in points:
            body = {"site": site, "machine": machine, "measurement": "temperature", "unit": "°C", "factor": 2.0}
            catalog.put(
                tx,
                [
                    catalog.Declared(workspace=workspace, kind="sites", id=site, body={}),
                    catalog.Declared(workspace=workspace, kind="machine_data_point_configs", id=config, body=body),
                ],
            )


@contextmanager
def fresh_database(server_url: str, template: str) -> Iterator[str]:
    """Make a database for the tests of a module that do not disturb each other."""
    name = f"module_{new_ulid()}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def listening(app: HttpService) -> Iterator[tuple[str, int]]:
    """Serve an application in a thread, on a free port; its address."""
    opened = socket.create_server(("127.0.0.1", 0))
    host, port = opened.getsockname()[:2]
    server = make_server(app, host=host, port=port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    try:
        yield host, port
    finally:
        app.services.settled.stop()
        server.should_exit = True
        thread.join(timeout=15)
        assert not thread.is_alive()


@contextmanager
def serving(
    database_url: str, data_dir: Path, *, limits: Limits | None = None, outbound: OutboundRules | None = None
) -> Iterator[Site]:
    """Serve the whole API in a thread."""
    platform = open_stores(database_url, data_dir, outbound=outbound)
    declare(platform)
    app = create_app(feeds=discover(), platform=platform, limits=limits or Limits(disk_free_bytes_min=1))
    with platform.ledger.transaction() as tx:
        token = keys.issue(tx, keys.NewKey(workspace="acme", scopes=ALL_SCOPES)).token
    try:
        with listening(app) as address:
            url = f"http://{address[0]}:{address[1]}"
            with (
                httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client,
                httpx.Client(base_url=url, timeout=20) as anyone,
            ):
                yield Site(url=url, platform=platform, client=client, anyone=anyone, token=token, address=address)
    finally:
        platform.close()
