"""The streams that stand, as the door of one process knows them: what was declared is known half a second later.

A stream's version at the door decides only whether there is one and what its events are held to: what becomes of them
follows from the version that stood when they were accepted.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest_platform.api.services import Services
from ingest_platform.domain.contract import Contract
from ingest_platform.feeds.stream_events.declaration import Envelope, OnError, ParseStep
from ingest_platform.feeds.stream_events.declaration.reading import read_pipeline
from ingest_platform.feeds.stream_events.shapes import STREAMS, contract_of, envelope_of
from ingest_platform.storage import catalog
from ingest_platform.storage.ledger import Transaction

# How old what is known may be. The contract of applying is that it shows within a second.
LOOK_SECONDS = 0.5
# Beyond it all are forgotten and found again; one takes about 1 kB.
STREAMS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A stream that stands: what the door has to know of it."""

    id: str
    envelope: Envelope
    # Those by which an event may be rejected, and what comes before them; mostly none.
    parse: tuple[ParseStep, ...] = ()

    @property
    def contract(self) -> Contract:
        """What its records are held to."""
        return contract_of(self.envelope)


class StandingStreams:
    """The streams of one process; only for its event loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._found: dict[tuple[str, str], Standing] = {}
        self._revision = -1
        self._looked_at = float("-inf")
        self._look: asyncio.Task[None] | None = None

    async def find(self, *, workspace: str, stream_id: str) -> Standing | None:
        """Find a stream of a workspace; None if none stands. Raises Unavailable when PostgreSQL is away."""
        key = (workspace, stream_id)
        if key in self._found and time.monotonic() - self._looked_at >= LOOK_SECONDS:
            await self._look_again()
        if (known := self._found.get(key)) is not None:
            return known
        # One that is not known is always asked for: it may have been declared a moment ago.
        revision, found = await self._services.read(lambda tx: (catalog.revision(tx), _read(tx, key)))
        if revision != self._revision:
            await self._look_again()
        if found is not None and revision == self._revision:
            if len(self._found) >= STREAMS_MAX:
                self._found.clear()
            self._found[key] = found
        return found

    async def _look_again(self) -> None:
        """Forget everything if the catalog has changed. All who ask at once wait for one look."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._compare())
        await asyncio.shield(self._look)

    async def _compare(self) -> None:
        begun = time.monotonic()
        revision = await self._services.read(catalog.revision)
        if revision != self._revision:
            self._found.clear()
            self._revision = revision
        self._looked_at = begun


def _read(tx: Transaction, key: tuple[str, str]) -> Standing | None:
    workspace, stream_id = key
    entry = catalog.latest(tx, workspace=workspace, kind=STREAMS, id_=stream_id)
    if entry is None or entry.retired:
        return None
    return Standing(id=stream_id, envelope=envelope_of(entry.body), parse=rejecting_steps(entry.body))


def rejecting_steps(body: Mapping[str, Any]) -> tuple[ParseStep, ...]:
    """Read the parse steps of a declared stream up to the last one that rejects what it can't parse."""
    declared: Sequence[Mapping[str, Any]] = body.get("parse") or ()
    if all(each.get("on_error") != OnError.REJECT for each in declared):
        # Mostly so, and then nothing of it needs to be compiled here.
        return ()
    steps = read_pipeline(body).parse
    last = max(place for place, step in enumerate(steps) if step.on_error is OnError.REJECT)
    return steps[: last + 1]
