"""The live tail of a stream as server-sent events: what its pipeline lets through, behind the masks.

Which events these are is found in `tailing.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from ingest_platform.api.call import Call
from ingest_platform.api.event_stream import EVENT_STREAM, HEARTBEAT_SECONDS, STREAM_SECONDS_MAX, hung_up, server_event
from ingest_platform.api.jobs import READ
from ingest_platform.api.replies import Reply
from ingest_platform.api.route import Answer, ApiRoute, Content, Parameter
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Malformed, NotFound, Unavailable
from ingest_platform.feeds.stream_events import wire
from ingest_platform.feeds.stream_events.language import Expression, RuleFault, compile_rule
from ingest_platform.feeds.stream_events.shapes import STREAMS
from ingest_platform.feeds.stream_events.tailing import LOOKED_AT_BYTES_MAX, LOOKED_AT_MAX, Seen, Tail
from ingest_platform.pipeline.grouped import unavailable
from ingest_platform.storage import catalog, keys
from ingest_platform.storage.ledger import Transaction

LOOK_SECONDS = 1.0
# Each asks the lake once a second while events come.
TAILS_MAX = 20
_HEARTBEAT = b": nothing has come\n\n"
STREAM_ID = Parameter(
    name="stream_id", where="path", schema={"type": "string"}, description="The stream's id.", required=True
)


class TailRoutes:
    """The handler, which counts the tails that are open."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._open = 0

    async def follow_stream(self, call: Call) -> Reply:
        """Show events as they come."""
        if self._open >= TAILS_MAX:
            raise unavailable("Too many streams are followed at the moment; try again.")
        wanted, stream_id = _wanted(call.get("filter", str)), call.require("stream_id", str)
        await self._services.read(lambda tx: require_stream(tx, call.who.workspace, stream_id))
        tail = Tail(platform=self._services.platform, workspace=call.who.workspace, stream_id=stream_id, wanted=wanted)
        await self._services.run(tail.look)
        headers = {"Cache-Control": "no-store"}
        return Reply(status=200, content_type=EVENT_STREAM, headers=headers, stream=self._stream(call, tail))

    async def _stream(self, call: Call, tail: Tail) -> AsyncIterator[bytes]:
        self._open += 1
        gone = asyncio.ensure_future(hung_up(call.receive))
        clock = asyncio.get_running_loop().time
        began = told_at = clock()
        try:
            # At once, so that whoever waits for the headers knows that it has begun.
            yield _HEARTBEAT
            while not (gone.done() or self._services.settled.stopping or clock() - began >= STREAM_SECONDS_MAX):
                await asyncio.wait([gone], timeout=LOOK_SECONDS)
                if not await self._still_allowed(call):
                    return
                if piece := b"".join(_events(await self._look(tail))):
                    yield piece
                elif clock() - told_at >= HEARTBEAT_SECONDS:
                    yield _HEARTBEAT
                else:
                    continue
                told_at = clock()
        finally:
            gone.cancel()
            self._open -= 1

    async def _look(self, tail: Tail) -> Seen:
        try:
            return await self._services.run(tail.look)
        except Unavailable:
            # What has come meanwhile is found by the next look.
            return Seen(events=(), left_out=0)

    async def _still_allowed(self, call: Call) -> bool:
        who = call.who

        def read(tx: Transaction) -> bool:
            key = keys.find(tx, [who.key_id]).get(who.key_id)
            return key is not None and key.active

        try:
            return await self._services.read(read)
        except Unavailable:
            return True


def require_stream(tx: Transaction, workspace: str, stream_id: str) -> catalog.Entry:
    """Find a stream that stands; NotFound in the same words whether there is none or it is another workspace's."""
    entry = catalog.latest(tx, workspace=workspace, kind=STREAMS, id_=stream_id)
    if entry is None or entry.retired:
        raise wire.no_stream()
    return entry


def _wanted(text: str | None) -> Expression | None:
    if text is None:
        return None
    try:
        return compile_rule(text)
    except RuleFault as fault:
        raise Malformed(f"The filter is wrong: {fault}", code="invalid_filter") from None


def _events(seen: Seen) -> Sequence[bytes]:
    events = [server_event("event", each) for each in seen.events]
    return [server_event("left_out", {"events": seen.left_out}), *events] if seen.left_out else events


_EVENT_SCHEMA = {
    "type": "object",
    "description": "Each event of the stream.",
    "properties": {
        "event": {"enum": ["event", "left_out"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "object",
                "properties": {
                    "event_id": {"type": "string"},
                    "accepted_at": {"type": "string", "format": "date-time"},
                    "stream_version": {"type": "integer"},
                    "decision": {"enum": ["routed", "sampled_out", "dropped"]},
                    "rules": {"type": "array", "items": {"type": "string"}},
                    "destinations": {"type": "array", "items": {"type": "string"}},
                    "event": {"type": ["object", "null"], "description": "Behind the masks; null unless routed."},
                },
            },
        },
    },
    "required": ["event", "data"],
}
_FILTER = Parameter(
    name="filter",
    schema={"type": "string", "maxLength": 4096},
    description='Only events that meet this rule, e.g. `event.level == "ERROR"`; '
    f"only of those that were routed, have "
    f"at most {LOOKED_AT_BYTES_MAX} bytes, and are among the latest {LOOKED_AT_MAX} of a second.",
)


def routes(services: Services) -> list[ApiRoute]:
    """Declare the route."""
    return [
        ApiRoute(
            method="GET",
            path="/v1/streams/{stream_id}/tail",
            handler=TailRoutes(services).follow_stream,
            operation_id="tail_stream",
            tag="Streams",
            summary="Follow a stream as server-sent events",
            description=(
                "What the pipeline lets through from now on, behind its masks, about a second after it was accepted. "
                "`left_out` tells how many events of a busy second were not shown. The stream ends when the server "
                "stops, after an hour, or with the key; it is simply asked for again."
            ),
            access=READ,
            parameters=(STREAM_ID, _FILTER),
            answers={
                200: Answer(
                    description="The events.",
                    content={
                        EVENT_STREAM: Content(
                            schema=_EVENT_SCHEMA,
                            example='event: event\ndata: {"event_id":"evt_01kqzcjrpyf27tge33jwvjhkff-0",…}\n',
                        )
                    },
                    headers={"Cache-Control": "Always `no-store`."},
                )
            },
            refusals=(NotFound, Malformed),
        )
    ]
