"""What is held is extended for as long as the work on it takes, through failures too, and no longer."""

import asyncio

from ingest_platform.api.held import Held
from ingest_platform.pipeline.grouped import unavailable


class _Reservation:
    """Counts how often it was extended; every second time fails. Three times are often."""

    def __init__(self) -> None:
        self.times = 0
        self.often = asyncio.Event()

    async def extend(self) -> None:
        self.times += 1
        if self.times >= 3:
            self.often.set()
        await asyncio.sleep(0)
        if self.times % 2:
            raise unavailable()


def test_a_failure_to_extend_does_not_end_the_extending_and_the_end_of_the_work_does() -> None:
    async def work() -> list[int]:
        reservation = _Reservation()
        with Held(reservation.extend, every_seconds=0.01):
            await asyncio.wait_for(reservation.often.wait(), timeout=5)
        seen = [reservation.times]
        await asyncio.sleep(0.05)
        return [*seen, reservation.times]

    within, afterwards = asyncio.run(work())
    assert within == afterwards >= 3


def test_work_that_is_done_before_the_first_turn_extends_nothing() -> None:
    async def work() -> int:
        reservation = _Reservation()
        with Held(reservation.extend, every_seconds=0.02):
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        return reservation.times

    assert asyncio.run(work()) == 0
