"""What the way in for events promises, as data: path, limits, schemas, descriptions. The handler: `ingesting.py`."""

from ingest_platform.api.replies import JSON
from ingest_platform.api.route import Access, ApiRoute, Content, Handler, Parameter, json_answer
from ingest_platform.domain.errors import Malformed, NotFound
from ingest_platform.feeds.stream_events import FEED, wire
from ingest_platform.pipeline.admit import RateRule

TAG = "Streams"
NDJSON = "application/x-ndjson"
WRITE = Access(scopes=(FEED.write_scope,))
RATE = RateRule(name=FEED.name, per_minute=FEED.rate_per_minute)

_STREAM_ID = Parameter(
    name=wire.STREAM_ID_HEADER,
    where="header",
    schema={"type": "string", "minLength": 1},
    description="Of which stream the events are: the id under which it was declared in the key's workspace.",
    required=True,
    example="a0c3b4de-1923-4ff1-8dba-f92ad912d20f",
)
_DRY_RUN = Parameter(
    name="dry_run",
    schema={"type": "boolean", "default": False},
    description=(
        "Check everything and store nothing: answered as usual, with `dry_run: true` and without an `ingest_id`. An "
        "Idempotency-Key is not used up."
    ),
)
_DESCRIPTION = """\
One event, an array of events, or one on each line (`application/x-ndjson`). Each is checked before the answer, as it
will be checked again when it is worked: bad ones are told in `rejected` and do not harm their neighbours. If none is
good, nothing is taken: 400.

What is accepted then goes through the pipeline of the stream (parse, enrich, mask, route, sample) in the version that
stood at this moment, and to its destinations. `GET /v1/jobs/{ingest_id}` tells how far it is; an event's id is
`<ingest_id>-<index>`.

A body that is larger than the limit, as sent or once decompressed, is refused with 400 `payload_too_large`."""
_EVENT_ID = "evt_01kqzcjrpyf27tge33jwvjhkff"
_EXAMPLE = {
    "status": "accepted",
    "ingested_bytes": 527,
    "stream_id": _STREAM_ID.example,
    "ingest_id": _EVENT_ID,
    "accepted_items": 1,
}


def declare_ingest(*, send_events: Handler, body_bytes_max: int) -> list[ApiRoute]:
    """Declare the route, with its limit."""
    event = wire.event_schema()
    events = {"type": "array", "minItems": 1, "items": event}
    line = {"type": "string", "description": "An event on each line."}
    return [
        ApiRoute(
            method="POST",
            path="/v1/streams/ingest",
            handler=send_events,
            operation_id="send_events",
            tag=TAG,
            summary="Send events to a stream",
            description=_DESCRIPTION,
            access=WRITE,
            rate=RATE,
            parameters=(_STREAM_ID, _DRY_RUN),
            bodies={
                JSON: Content(schema={"anyOf": [event, events]}, example=wire.EXAMPLE, bytes_max=body_bytes_max),
                NDJSON: Content(schema=line, bytes_max=body_bytes_max),
            },
            answers={200: json_answer("Taken durably.", wire.ACCEPTED_SCHEMA, example=_EXAMPLE)},
            refusals=(Malformed, NotFound),
        )
    ]
