"""Datasets as the ways in know them: one that takes records is read once for many requests, and again all the time.

A schema is never changed and an id never used again, so all that can become of such a dataset is that it is deleted.
The process that deletes it forgets it at once; another one, or one whose default dataset has become another, takes
records for at most a second longer, as if they had come a second earlier. That there is none is never kept.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.datasets.registry import Dataset
from ingest_platform.storage.ledger import Transaction

Value = TypeVar("Value")
# Of a request: what it goes by was read so long before it came at most.
SECONDS_MAX = 1.0
# After so long it is read again while requests still go by it, so that under load none of them waits.
AGAIN_SECONDS = 0.4
# A dataset of fifty fields is some 10 kB.
KEPT_MAX = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where records are sent: to a dataset of a project by its id, or to the project's default one."""

    workspace: str
    project: str
    dataset_id: int | None


class Reader(Protocol):
    """What reads the ledger without holding up the loop (`Services`)."""

    async def read(self, work: Callable[[Transaction], Value]) -> Value:
        """Read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What was read, no earlier than then."""

    dataset: Dataset
    read_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What is being read, no earlier than since then."""

    task: "asyncio.Task[Dataset | None]"
    read_at: float


class StandingDatasets:
    """The datasets that one process takes records for. All of it happens in one event loop."""

    def __init__(self, reader: Reader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._known: dict[Place, _Known] = {}
        self._readings: dict[Place, _Reading] = {}

    async def find(self, place: Place) -> Dataset | None:
        """Find a dataset with a schema; None if there is none. Raises Unavailable."""
        came_at = self._clock()
        known = self._known.get(place)
        if known is None or came_at - known.read_at > SECONDS_MAX:
            return await self._read(place, came_at)
        if came_at - known.read_at > AGAIN_SECONDS and place not in self._readings:
            self._begin(place, came_at)
        return known.dataset

    def forget(self) -> None:
        """Go by nothing any more that was read before now. To be called once a dataset is deleted for good."""
        self._known.clear()
        # Whoever waits for them came before.
        self._readings.clear()

    async def _read(self, place: Place, came_at: float) -> Dataset | None:
        reading = self._readings.get(place)
        if reading is not None and came_at - reading.read_at <= SECONDS_MAX:
            found = await asyncio.shield(reading.task)
            if found is not None:
                return found
            # It was looked for before we came, and may have been made since.
        return await asyncio.shield(self._begin(place, came_at).task)

    def _begin(self, place: Place, now: float) -> _Reading:
        reading = _Reading(task=asyncio.create_task(self._look_up(place)), read_at=now)
        self._readings[place] = reading
        reading.task.add_done_callback(lambda _: self._end(place, reading))
        return reading

    async def _look_up(self, place: Place) -> Dataset | None:
        found = await self._reader.read(lambda tx: _find(tx, place))
        return None if found is None or found.fields is None else found

    def _end(self, place: Place, reading: _Reading) -> None:
        # Whoever waited for it has its error; without anyone, the next request reads again and has that one's.
        failed = reading.task.cancelled() or reading.task.exception() is not None
        # What was forgotten meanwhile, or read again, must not come back.
        if self._readings.get(place) is not reading:
            return
        del self._readings[place]
        if failed:
            return
        found = reading.task.result()
        if found is None:
            self._known.pop(place, None)
            return
        if len(self._known) >= KEPT_MAX:
            self._known.clear()
        self._known[place] = _Known(dataset=found, read_at=reading.read_at)


def _find(tx: Transaction, place: Place) -> Dataset | None:
    workspace, project = place.workspace, place.project
    if place.dataset_id is None:
        return registry.default_of(tx, workspace=workspace, project=project)
    return registry.find(tx, workspace=workspace, project=project, dataset_id=place.dataset_id)
