"""The ingest routes: events, batches, records by a source's own route, and what became of them. Their words: `wire.py`.

Every record is judged before the answer as the run will judge it (`door.py`), so a reply's counts are the job's.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from ingest_platform.api.call import Call
from ingest_platform.api.intake import Intake, Taking
from ingest_platform.api.jobs import find_job
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import ApiRoute, Handler
from ingest_platform.api.services import Services
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.issues import FEED, wire
from ingest_platform.feeds.issues.declared import declare_ingest
from ingest_platform.feeds.issues.door import Alone, Complete, Judged, complete_event, complete_sourced, judge
from ingest_platform.feeds.issues.sources import SOURCES, Source

# A few records take well below a millisecond; more would keep this thread from answering others.
NEAR_BYTES_MAX = 16 * 1024

Value = TypeVar("Value")


class IngestRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._intake = Intake(services)

    async def send_event(self, call: Call) -> Reply:
        """Take one raw signal."""
        return await self._take_alone(call, complete_event)

    def sender(self, source: Source) -> Handler:
        """Make the handler of a source's own route."""

        async def send(call: Call) -> Reply:
            return await self._take_alone(call, lambda raw: complete_sourced(raw, source))

        return send

    async def _take_alone(self, call: Call, complete: Complete) -> Reply:
        assert call.body is not None
        body = await call.body.read()
        call.know_body(body)

        def read() -> tuple[Alone, Judged]:
            alone = complete(body)
            return alone, judge([alone.record], workspace=call.who.workspace)

        alone, judged = await self._work(body, read)
        ((issue_id, _),) = judged.issues
        if call.get("dry_run", bool):
            # An id that was made here is made anew next time, and so is the issue's.
            shown = wire.record_reply(issue_id=issue_id if alone.named else None, job_id=None)
            return json_reply(200, {**shown, "dry_run": True})
        return await self._land(
            call,
            alone.body,
            judged=judged,
            received=1,
            shown=lambda job_id: wire.record_reply(issue_id=issue_id, job_id=job_id),
        )

    async def send_batch(self, call: Call) -> Reply:
        """Take up to 500 records, each with a verdict of its own."""
        assert call.body is not None
        body = await call.body.read()
        call.know_body(body)

        def read() -> tuple[int, Judged]:
            records = wire.split_records(body)
            return len(records), judge(records, workspace=call.who.workspace)

        received, judged = await self._work(body, read)

        def shown(job_id: str | None) -> wire.Shown:
            first = [(index, problems[0]) for index, problems in judged.rejections]
            return wire.batch_reply(rejections=first, issue_ids=[each for each, _ in judged.issues], job_id=job_id)

        if call.get("dry_run", bool):
            return json_reply(200, {**shown(None), "dry_run": True})
        return await self._land(call, body, judged=judged, received=received, shown=shown)

    async def _work(self, body: bytes, work: Callable[[], Value]) -> Value:
        return work() if len(body) <= NEAR_BYTES_MAX else await self._services.run(work)

    async def _land(
        self, call: Call, body: bytes, *, judged: Judged, received: int, shown: Callable[[str], wire.Shown]
    ) -> Reply:
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        try:
            await self._intake.keep(body, spool)
            taking = Taking.spooled(
                FEED, spool, job_id=job_id, format=Format.JSON, received=received, subjects=judged.subjects
            )
            return await self._intake.take(
                call,
                taking,
                lambda job_id, _: json_reply(202, shown(job_id), headers={"Location": f"/v1/ingest/status/{job_id}"}),
            )
        except BaseException:
            spool.abort()
            raise

    async def show_status(self, call: Call) -> Reply:
        """Show how far a submission is."""
        return json_reply(200, wire.status(await find_job(self._services, call, feed=FEED.name)))


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the routes."""
    handlers = IngestRoutes(services)
    return declare_ingest(
        send_event=handlers.send_event,
        send_batch=handlers.send_batch,
        senders={name: handlers.sender(source) for name, source in SOURCES.items()},
        show_status=handlers.show_status,
        body_bytes_max=min(services.limits.body_bytes_max, wire.BODY_BYTES_MAX),
    )
