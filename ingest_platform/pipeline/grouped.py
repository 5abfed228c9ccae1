"""Many callers, one round trip: whatever queued while the last group was worked is worked together next, no linger.

What the work is, is not known here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, LiteralString, TypeVar

import psycopg

from ingest_platform.domain.errors import InDoubt, IngestError, LedgerFault, Unavailable
from ingest_platform.storage.ledger import Transaction, connect

Item = TypeVar("Item")
Answer = TypeVar("Answer")
# "Database down: 503 within 2 s" (promise 15).
ANSWER_SECONDS_MAX = 1.8
RETRY_AFTER_SECONDS = 2
# A statement here takes milliseconds; one that takes longer than the callers wait is of use to nobody.
STATEMENT_SECONDS_MAX = 1.5
# The last transaction of a process that ends in good order is done by then.
CLOSE_SECONDS_MAX = 1.0


def unavailable(message: str = "Nothing was taken: the ledger can't be written at the moment.") -> Unavailable:
    """Word the refusal for a time at which durability can't be promised."""
    return Unavailable(message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def in_doubt() -> InDoubt:
    """Word the refusal for a submission whose commit was begun and never confirmed."""
    message = (
        "The ledger fell silent while this was being taken, so it may have been taken or not. Sending it again is safe"
        " under the same Idempotency-Key."
    )
    return InDoubt(message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class OwnConnection:
    """A connection that one thread keeps for itself, opened anew after it broke."""

    def __init__(self, database_url: str, *, application: str, settings: Sequence[LiteralString] = ()) -> None:
        self._database_url = database_url
        self._application = application
        self._settings = settings
        self._connection: Transaction | None = None
        self._committing = False

    @property
    def in_doubt(self) -> bool:
        """Whether the last work may have been committed although it failed."""
        return self._committing

    def run(self, work: Callable[[Transaction], Answer], *, one_by_one: bool = False) -> Answer:
        """Do work in a transaction of its own; once more if the connection had died while nobody looked.

        Raises LedgerFault. Work must not mind being begun twice; it is never committed twice. With `one_by_one`, each
        of its statements is a transaction of its own, which saves two round trips; such work must not mind being done
        twice either.
        """
        began_fresh = self._connection is None
        self._committing = False
        try:
            return self._once(work, one_by_one=one_by_one)
        except LedgerFault:
            # Only a connection that was idle before can have been closed by a restarted server.
            if began_fresh or (self._committing and not one_by_one):
                raise
        # What the first time left open stays open, also where the second one does not even begin.
        return self._once(work, one_by_one=one_by_one)

    def _once(self, work: Callable[[Transaction], Answer], *, one_by_one: bool) -> Answer:
        if self._connection is None:
            self._connection = self._open()
        try:
            if one_by_one:
                # Every failure leaves open what was committed.
                self._committing = True
                return work(self._connection)
            with self._connection.transaction():
                answer = work(self._connection)
                # From here on a failure leaves open whether it was committed.
                self._committing = True
        except (psycopg.OperationalError, psycopg.InternalError, psycopg.InterfaceError) as error:
            self.close()
            raise LedgerFault(f"PostgreSQL: {error}") from error
        return answer

    def _open(self) -> Transaction:
        connection = connect(
            self._database_url, application=self._application, statement_seconds_max=STATEMENT_SECONDS_MAX
        )
        for setting in self._settings:
            connection.execute(setting)
        return connection

    def close(self) -> None:
        """Close the connection; the next work opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Grouped(Generic[Item, Answer]):
    """Hands items from one event loop, in groups, to work in one thread.

    The work gets the items in the order they came and answers each with a value or with an error of ours; an error that
    it raises is every item's.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Answer | IngestError]],
        *,
        name: str,
        items_max: int,
        weight_max: int = 0,
        weigh: Callable[[Item], int] = lambda _: 0,
        late: Callable[[], Unavailable] = unavailable,
    ) -> None:
        self._work = work
        self._items_max = items_max
        self._weight_max = weight_max
        self._weigh = weigh
        # What is told to whoever has waited too long while the item is being worked.
        self._late = late
        self._in_hand: frozenset[asyncio.Future[Answer]] = frozenset()
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._working: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Have an item worked; raises Unavailable if that takes too long."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._work_off())
        # A timer on the answer, because `asyncio.timeout` costs three times as much, twice a request.
        timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS_MAX, self._give_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def _give_up(self, answer: asyncio.Future[Answer]) -> None:
        if not answer.done():
            answer.set_exception(self._late() if answer in self._in_hand else unavailable())
        # Whoever came first gives up first. While a server hangs, what was refused must not fill the memory.
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()

    async def _work_off(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while group := self._next_group():
                self._in_hand = frozenset(answer for _, answer in group)
                try:
                    answers = await loop.run_in_executor(self._thread, self._work, [item for item, _ in group])
                except LedgerFault:
                    answers = [unavailable()] * len(group)
                except Exception as error:  # noqa: BLE001 - it is handed to those who asked, who know what to do.
                    answers = [error] * len(group)
                _resolve(group, answers)
        finally:
            self._working = None
            self._in_hand = frozenset()

    def _next_group(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        group: list[tuple[Item, asyncio.Future[Answer]]] = []
        weight = 0
        while self._waiting and len(group) < self._items_max:
            item, answer = self._waiting[0]
            weight += self._weigh(item)
            if group and self._weight_max and weight > self._weight_max:
                break
            self._waiting.popleft()
            # Whoever asked has given up before it began, so nothing may be taken.
            if not answer.done():
                group.append((item, answer))
        return group

    def close(self, at_end: Callable[[], None]) -> None:
        """Take no more work, and do a last thing in the thread, unless the thread is stuck."""
        last = self._thread.submit(at_end)
        self._thread.shutdown(wait=False)
        with suppress(TimeoutError):
            last.result(timeout=CLOSE_SECONDS_MAX)


def _resolve(group: Sequence[tuple[object, asyncio.Future[Answer]]], answers: Sequence[Answer | BaseException]) -> None:
    for (_, future), answer in zip(group, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
