"""One job as server-sent events: the job object at once and whenever it has changed, until the job has ended.

What the object holds is not known here (`jobs.py`).
"""

import asyncio
from collections.abc import AsyncIterator

from ingest_platform.api.call import Call
from ingest_platform.api.event_stream import EVENT_STREAM, HEARTBEAT_SECONDS, STREAM_SECONDS_MAX, hung_up, server_event
from ingest_platform.api.jobs import JOB_ID, READ, find_job, job_schema
from ingest_platform.api.replies import Reply
from ingest_platform.api.route import Answer, ApiRoute, Content, Schema
from ingest_platform.api.services import Services
from ingest_platform.api.settled import LOOK_SECONDS
from ingest_platform.domain.errors import NotFound, Unavailable
from ingest_platform.domain.job import Job
from ingest_platform.pipeline.grouped import unavailable
from ingest_platform.pipeline.job_object import job_object
from ingest_platform.storage import jobs, keys
from ingest_platform.storage.ledger import Transaction

# Each looks at its job twice a second: more of them in one process would take the ledger from all others.
STREAMS_MAX = 200
_HEARTBEAT = b": the job goes on\n\n"


class EventRoutes:
    """The handler, which counts the streams that are open."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._open = 0

    async def follow_job(self, call: Call) -> Reply:
        """Show a job now and whenever it has changed."""
        if self._open >= STREAMS_MAX:
            raise unavailable("Too many jobs are followed at the moment; try again, or ask with `wait`.")
        job = await find_job(self._services, call)
        headers = {"Cache-Control": "no-store"}
        return Reply(status=200, content_type=EVENT_STREAM, headers=headers, stream=self._stream(call, job))

    async def _stream(self, call: Call, job: Job) -> AsyncIterator[bytes]:
        self._open += 1
        gone = asyncio.ensure_future(hung_up(call.receive))
        try:
            with self._services.settled.listening(job.id) as heard:
                # Whoever has hung up is noticed while nothing is sent, too.
                gone.add_done_callback(lambda _: heard.set())
                yield _event(job)
                async for piece in self._changes(call, job, heard, gone):
                    yield piece
        finally:
            gone.cancel()
            self._open -= 1

    async def _changes(
        self, call: Call, job: Job, heard: asyncio.Event, gone: asyncio.Future[None]
    ) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        began = told_at = clock()
        shown = job
        while not (shown.state.terminal or gone.done() or self._services.settled.stopping):
            await self._services.settled.hear(heard, seconds=LOOK_SECONDS)
            seen = await self._look(call, shown)
            if seen is None or clock() - began >= STREAM_SECONDS_MAX:
                return
            if job_object(seen) != job_object(shown):
                yield _event(seen)
            elif clock() - told_at >= HEARTBEAT_SECONDS:
                yield _HEARTBEAT
            else:
                continue
            told_at, shown = clock(), seen

    async def _look(self, call: Call, known: Job) -> Job | None:
        """Read the job again; None once the key has ended. While the ledger is away, nothing has changed."""
        who = call.who

        def read(tx: Transaction) -> Job | None:
            key = keys.find(tx, [who.key_id]).get(who.key_id)
            if key is None or not key.active:
                return None
            return jobs.get_job(tx, workspace=who.workspace, job_id=known.id)

        try:
            return await self._services.read(read)
        except Unavailable:
            return known


def _event(job: Job) -> bytes:
    return server_event("job", job_object(job))


def _event_schema(job: Schema) -> Schema:
    """Describe one event of the stream; OpenAPI 3.1 has no word for the stream of them."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": job}
    return {
        "type": "object",
        "description": "Each event.",
        "properties": {"event": {"const": "job"}, "data": data},
        "required": ["event", "data"],
    }


def routes(services: Services) -> list[ApiRoute]:
    """Declare the route."""
    return [
        ApiRoute(
            method="GET",
            path="/v1/jobs/{job_id}/events",
            handler=EventRoutes(services).follow_job,
            operation_id="follow_job",
            tag="Jobs",
            summary="Follow a job as server-sent events",
            description=(
                "An event `job` with the job object comes at once, at each change of state and at what changes between "
                "(such as `times.validated` of a job that takes long); its `data` is what "
                "`GET /v1/jobs/{job_id}` answers. The stream ends after a state that is `finished` or `failed`. "
                f"A comment comes when nothing else has for {HEARTBEAT_SECONDS:.0f} seconds. A stream that ends before "
                "(the server stops, an hour is over, the key has ended) is simply asked for again."
            ),
            access=READ,
            parameters=(JOB_ID,),
            answers={
                200: Answer(
                    description="The job's events.",
                    content={
                        EVENT_STREAM: Content(
                            schema=_event_schema(job_schema(services.feeds)),
                            example='event: job\ndata: {"id":"job_01kqzcjrpyf27tge33jwvjhkff","state":"accepted",…}\n',
                        )
                    },
                    headers={"Cache-Control": "Always `no-store`."},
                )
            },
            refusals=(NotFound,),
        )
    ]
