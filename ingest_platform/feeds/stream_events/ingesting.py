"""The way in for events: one, an array or lines of them, for a stream that is named in a header, with an API key.

Every event is judged before the answer as the run will judge it (`verdicts.py`), so a reply's counts are the job's.
What the route promises is in `ingest_declared.py`.
"""

from collections.abc import Sequence

from ingest_platform.api.call import Call
from ingest_platform.api.intake import Intake, Taking
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Services
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.stream_events import FEED, wire
from ingest_platform.feeds.stream_events.ingest_declared import NDJSON, declare_ingest
from ingest_platform.feeds.stream_events.standing import Standing, StandingStreams
from ingest_platform.feeds.stream_events.verdicts import Judged, judge_json, judge_lines

# A few events take well below a millisecond; more would keep this thread from answering others.
NEAR_BYTES_MAX = 16 * 1024


class IngestRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._intake = Intake(services)
        self._streams = StandingStreams(services)

    async def send_events(self, call: Call) -> Reply:
        """Take the good ones of some events."""
        stream_id = _stream_id(call)
        # A repetition gets the first answer whatever has become of the stream since.
        early = await _read(call, stream_id) if call.keyed is not None else None
        stream = await self._streams.find(workspace=call.who.workspace, stream_id=stream_id)
        if stream is None:
            raise wire.no_stream()
        body = await _read(call, stream_id) if early is None else early
        judged = await self._judge(call, body, stream)
        if call.get("dry_run", bool):
            return json_reply(200, {**_shown(call, stream, judged, job_id=None), "dry_run": True})
        return await self._land(call, body, stream, judged)

    async def _judge(self, call: Call, body: bytes, stream: Standing) -> Judged:
        judge = judge_lines if call.content_type == NDJSON else judge_json
        if len(body) <= NEAR_BYTES_MAX:
            return judge(body, stream)
        return await self._services.run(lambda: judge(body, stream))

    async def _land(self, call: Call, body: bytes, stream: Standing, judged: Judged) -> Reply:
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        try:
            await self._intake.keep(body, spool)
            taking = Taking.spooled(
                FEED,
                spool,
                job_id=job_id,
                format=Format.NDJSON if call.content_type == NDJSON else Format.JSON,
                target=stream.id,
                received=judged.received,
            )
            return await self._intake.take(
                call, taking, lambda job_id, _: json_reply(200, _shown(call, stream, judged, job_id=job_id))
            )
        except BaseException:
            spool.abort()
            raise


def _stream_id(call: Call) -> str:
    given = call.headers.getlist(wire.STREAM_ID_HEADER)
    if len(given) != 1 or not given[0].strip():
        raise wire.no_stream_id()
    return given[0].strip()


async def _read(call: Call, stream_id: str) -> bytes:
    assert call.body is not None
    body = await call.body.read()
    # The same key for another stream, or for another form of the same bytes, is another request.
    call.know_body(body, salt=f"{stream_id}\n{call.content_type}".encode())
    return body


def _shown(call: Call, stream: Standing, judged: Judged, *, job_id: str | None) -> wire.Shown:
    assert call.body is not None
    return wire.accepted(
        ingested_bytes=call.body.received,
        stream_id=stream.id,
        ingest_id=job_id,
        accepted_items=judged.accepted,
        bad=judged.bad,
        count=judged.rejected,
    )


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the route."""
    body_bytes_max = min(services.limits.body_bytes_max, wire.BODY_BYTES_MAX)
    return declare_ingest(send_events=IngestRoutes(services).send_events, body_bytes_max=body_bytes_max)
