"""Questions about a dataset, answered from its table in the lake. What the route promises: `asking_declared.py`."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing

from ingest_platform.api.call import Call
from ingest_platform.api.replies import Reply
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import MIB, Services
from ingest_platform.domain.clock import Clock, SystemClock
from ingest_platform.domain.errors import Malformed, TooCostly
from ingest_platform.feeds.datasets import wire
from ingest_platform.feeds.datasets.answers import answer, wanted
from ingest_platform.feeds.datasets.asking_declared import declare_asking
from ingest_platform.feeds.datasets.control import dataset_of
from ingest_platform.feeds.datasets.query import Query, compile_query
from ingest_platform.feeds.datasets.schema import TYPES
from ingest_platform.feeds.datasets.shapes import shape_of
from ingest_platform.pipeline.grouped import unavailable
from ingest_platform.storage.warehouse import rows_of

# A chart that takes longer is a job for a copy of the data; ten million records are grouped in well under a second.
SECONDS_MAX = 10.0
# A thousand rows of a record's usual size have a few hundred kilobytes.
ANSWER_BYTES_MAX = 8 * MIB
# The engine has two threads: more questions at once would be slower each, and hold threads that others wait for.
AT_ONCE_MAX = 4


class AskingRoutes:
    """The handlers."""

    def __init__(self, services: Services, *, clock: Clock, seconds_max: float) -> None:
        self._services = services
        self._clock = clock
        self._seconds_max = seconds_max
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def ask(self, call: Call) -> Reply:
        """Answer one question."""
        assert call.body is not None
        body, media = await call.body.read(), wanted(",".join(call.headers.getlist("accept")))
        # The same key for another dataset, or for an answer in another form, is another request.
        call.know_body(body, salt=f"{call.path} {media}".encode())
        dataset = await self._services.read(lambda tx: dataset_of(tx, call))
        shape = shape_of(dataset)
        if shape is None or dataset.fields is None:
            raise wire.no_schema()
        fields = {name: TYPES[kind] for name, kind in dataset.fields.items()}
        query = compile_query(body, fields=fields, table=rows_of(shape.table.name), now=self._clock.now())

        def read() -> Reply:
            # Nobody has sent anything yet, maybe.
            self._services.warehouse.ensure([shape.table])
            return self._answer(query, media)

        async with self._turn():
            return await self._services.run(read)

    def _answer(self, query: Query, media: str) -> Reply:
        try:
            with closing(self._services.warehouse.session()) as session:
                rows = session.ask(
                    query.statement, query.values, seconds_max=self._seconds_max, bytes_max=ANSWER_BYTES_MAX
                )
        except TooCostly as error:
            advice = "ask for a shorter range, fewer columns, fewer groups or a smaller limit"
            raise Malformed(f"Query is too costly: {error}; {advice}", code="too_costly") from None
        return answer(query, rows, media=media)

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(self._seconds_max):
                await self._turns.acquire()
        except TimeoutError:
            raise unavailable("Too many queries are waiting; try again.") from None
        try:
            yield
        finally:
            self._turns.release()


def routes(services: Services, *, clock: Clock | None = None, seconds_max: float = SECONDS_MAX) -> Sequence[ApiRoute]:
    """Declare the routes."""
    handlers = AskingRoutes(services, clock=clock or SystemClock(), seconds_max=seconds_max)
    return declare_asking(ask=handlers.ask, seconds_max=seconds_max, answer_bytes_max=ANSWER_BYTES_MAX)
