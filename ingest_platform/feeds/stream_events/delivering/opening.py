"""Destinations as they are declared now, opened once and shared by the threads that send to them."""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ingest_platform.feeds.stream_events.delivering.health import DECLARED, To
from ingest_platform.feeds.stream_events.destinations.destination import (
    Destination,
    Site,
    WrongDestination,
    destination_types,
)
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import catalog, secrets
from ingest_platform.storage.ledger import Transaction

KIND = "destinations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A destination as it is declared now, with its secrets, which are not printed.

    `declared` tells one declaration from another; None if it never was declared. `body` is None if it does not stand.
    """

    to: To
    declared: str | None
    body: Mapping[str, Any] | None
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


class CannotOpen(Exception):
    """A destination that is not there, or not declared as it must be; the message is for people."""


Opening = Callable[[Entry], Destination]


def find_entry(tx: Transaction, to: To) -> Entry:
    """Look a destination up."""
    row = tx.execute(
        f"SELECT {DECLARED} FROM (SELECT %s::text AS workspace, %s::text AS destination) AS destination",  # noqa: S608 - ours
        to,
    ).fetchone()
    assert row is not None
    found = catalog.latest(tx, workspace=to.workspace, kind=KIND, id_=to.destination)
    if found is None or found.retired:
        return Entry(to=to, declared=row[0], body=None)
    values = secrets.values_of(tx, workspace=to.workspace, kind=KIND, id=to.destination)
    return Entry(to=to, declared=row[0], body=found.body, secrets=values)


def opening(platform: Platform) -> Opening:
    """Open destinations of the known types."""
    site = Site(data_dir=platform.data_dir, blobs=platform.blobs, outbound=platform.outbound)

    def open_entry(entry: Entry) -> Destination:
        assert entry.body is not None
        known = destination_types().get(str(entry.body.get("type")))
        if known is None:
            raise CannotOpen(f"there are no destinations of the type {entry.body.get('type')!r}")
        try:
            return known.open(entry.body, secrets=entry.secrets, site=site)
        except WrongDestination as wrong:
            raise CannotOpen(f"its declaration is wrong: {wrong}") from None

    return open_entry


@dataclass(slots=True)
class _Opened:
    entry: Entry
    destination: Destination
    users: int = 0


class OpenDestinations:
    """The open destinations of one process. Each is opened anew when it was declared anew, and closed when unused."""

    def __init__(self, open_entry: Opening) -> None:
        self._open = open_entry
        self._lock = threading.Lock()
        self._opened: dict[To, _Opened] = {}

    @contextmanager
    def using(self, entry: Entry) -> Generator[Destination]:
        """Lend a destination. Raises CannotOpen."""
        if entry.body is None:
            raise CannotOpen("it is retired" if entry.declared is not None else "it is not declared")
        with self._lock:
            opened = self._opened.get(entry.to)
            if opened is None or opened.entry != entry:
                if opened is not None:
                    self._let_go(opened)
                opened = self._opened[entry.to] = _Opened(entry, self._open(entry))
            opened.users += 1
        try:
            yield opened.destination
        finally:
            with self._lock:
                opened.users -= 1
                if self._opened.get(entry.to) is not opened and not opened.users:
                    opened.destination.close()

    def close_unused(self, used: Callable[[To], bool] = lambda _: False) -> None:
        """Close what nobody uses or is about to use."""
        with self._lock:
            for to in [to for to, opened in self._opened.items() if not opened.users and not used(to)]:
                self._opened.pop(to).destination.close()

    def _let_go(self, opened: _Opened) -> None:
        # Whoever still sends closes it at the end.
        if not opened.users:
            opened.destination.close()
