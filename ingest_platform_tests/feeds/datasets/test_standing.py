"""Datasets that take records are read once for many requests; what changes about them is known in time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from ingest_platform.domain.errors import Unavailable
from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.datasets.registry import Dataset
from ingest_platform.feeds.datasets.standing import AGAIN_SECONDS, SECONDS_MAX, Place, StandingDatasets
from ingest_platform.storage.ledger import Ledger, Transaction
from ingest_platform_tests.making import make_workspace

Value = TypeVar("Value")
DEFAULT = Place(workspace="acme", project="local", dataset_id=None)


class Reads:
    """Reads a real ledger, counts that, and may be held up before its answer is told, or fail."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.count = 0
        self.now = 100.0
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def read(self, work: Callable[[Transaction], Value]) -> Value:
        self.count += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        with self.ledger.connection() as connection:
            answer = work(connection)
        await self.open.wait()
        return answer

    def standing(self) -> StandingDatasets:
        return StandingDatasets(self, clock=lambda: self.now)


@pytest.fixture
def orders(ledger: Ledger) -> Dataset:
    make_workspace(ledger, "acme")
    with ledger.transaction() as tx:
        made = registry.create(tx, workspace="acme", project="local", name="orders", description="")
        registry.register_schema(tx, made, {"amount": "number"})
    return made


def place_of(dataset: Dataset) -> Place:
    return Place(workspace="acme", project="local", dataset_id=dataset.id)


def delete(ledger: Ledger, dataset: Dataset) -> None:
    with ledger.transaction() as tx:
        registry.delete(tx, dataset)


def test_many_requests_at_once_and_one_after_the_other_make_one_read(ledger: Ledger, orders: Dataset) -> None:
    async def ask() -> None:
        reads = Reads(ledger)
        standing = reads.standing()
        found = await asyncio.gather(*(standing.find(place_of(orders)) for _ in range(50)))
        assert {each and each.id for each in found} == {orders.id}
        assert await standing.find(place_of(orders)) == found[0]
        assert reads.count == 1

    asyncio.run(ask())


def test_under_load_it_is_read_again_while_nobody_waits(ledger: Ledger, orders: Dataset) -> None:
    async def ask() -> None:
        reads = Reads(ledger)
        standing = reads.standing()
        await standing.find(place_of(orders))
        reads.open.clear()
        reads.now += AGAIN_SECONDS * 1.1
        for _ in range(5):
            assert await standing.find(place_of(orders))
        reads.open.set()
        await asyncio.sleep(0.1)
        assert reads.count == 2
        # By the second read's age, not by the first's.
        reads.now += SECONDS_MAX * 0.9
        assert await standing.find(place_of(orders))

    asyncio.run(ask())


def test_what_another_process_deletes_is_gone_after_a_second(ledger: Ledger, orders: Dataset) -> None:
    async def ask() -> None:
        reads = Reads(ledger)
        standing = reads.standing()
        await standing.find(place_of(orders))
        delete(ledger, orders)
        reads.now += SECONDS_MAX * 1.01
        assert await standing.find(place_of(orders)) is None

    asyncio.run(ask())


def test_what_this_process_deletes_is_gone_at_once_also_for_a_read_that_began_before(
    ledger: Ledger, orders: Dataset
) -> None:
    async def ask() -> None:
        reads = Reads(ledger)
        standing = reads.standing()
        await standing.find(place_of(orders))
        reads.open.clear()
        reads.now += SECONDS_MAX * 2
        before = asyncio.create_task(standing.find(place_of(orders)))
        await asyncio.sleep(0.05)
        delete(ledger, orders)
        standing.forget()
        after = asyncio.create_task(standing.find(place_of(orders)))
        await asyncio.sleep(0.05)
        reads.open.set()
        assert await before is not None
        assert await after is None
        assert await standing.find(place_of(orders)) is None

    asyncio.run(ask())


def test_what_is_made_is_found_at_once_also_beside_a_read_that_began_before(ledger: Ledger, orders: Dataset) -> None:
    async def ask() -> None:
        reads = Reads(ledger)
        standing = reads.standing()
        delete(ledger, orders)
        assert await standing.find(DEFAULT) is None
        reads.open.clear()
        before = asyncio.create_task(standing.find(DEFAULT))
        await asyncio.sleep(0.05)
        with ledger.transaction() as tx:
            made = registry.create(tx, workspace="acme", project="local", name="new", description="")
            registry.register_schema(tx, made, {"amount": "number"})
        after = asyncio.create_task(standing.find(DEFAULT))
        await asyncio.sleep(0.05)
        reads.open.set()
        assert await before is None
        assert (await after or orders).id == made.id

    asyncio.run(ask())


def test_a_dataset_without_a_schema_takes_nothing(ledger: Ledger) -> None:
    async def ask() -> None:
        make_workspace(ledger, "acme")
        with ledger.transaction() as tx:
            made = registry.create(tx, workspace="acme", project="local", name="bare", description="")
        standing = Reads(ledger).standing()
        assert await standing.find(place_of(made)) is None
        with ledger.transaction() as tx:
            registry.register_schema(tx, made, {"amount": "number"})
        assert await standing.find(place_of(made)) is not None

    asyncio.run(ask())


def test_a_ledger_that_is_away_refuses_once_what_is_known_is_too_old(ledger: Ledger, orders: Dataset) -> None:
    async def ask() -> None:
        reads = Reads(ledger)
        standing = reads.standing()
        await standing.find(place_of(orders))
        reads.away = True
        reads.now += SECONDS_MAX * 0.9
        for _ in range(3):
            assert await standing.find(place_of(orders))
            await asyncio.sleep(0.01)
        reads.now += SECONDS_MAX * 0.2
        with pytest.raises(Unavailable):
            await standing.find(place_of(orders))
        reads.away = False
        assert await standing.find(place_of(orders))

    asyncio.run(ask())


def test_a_request_that_is_given_up_takes_no_other_with_it(ledger: Ledger, orders: Dataset) -> None:
    async def ask() -> None:
        reads = Reads(ledger)
        standing = reads.standing()
        reads.open.clear()
        given_up, patient = (asyncio.create_task(standing.find(place_of(orders))) for _ in range(2))
        await asyncio.sleep(0.05)
        given_up.cancel()
        await asyncio.sleep(0)
        reads.open.set()
        assert await patient is not None
        assert reads.count == 1

    asyncio.run(ask())
