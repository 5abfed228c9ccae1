"""Dead letters over HTTP: listed, and delivered anew once what they died of is mended."""

from collections.abc import Mapping, Sequence

import msgspec

from ingest_platform.api.call import Call
from ingest_platform.api.jobs import READ
from ingest_platform.api.lists import CURSOR, limit_parameter, list_reply, list_schema
from ingest_platform.api.replies import JSON, Reply, json_reply
from ingest_platform.api.route import ANY_KEY, Access, ApiRoute, Content, Parameter, json_answer
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Malformed, NotFound
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.stream_events.delivering.dead_letters import (
    REPLAYED_MAX,
    Letter,
    Wanted,
    count_letters,
    list_letters,
    replay,
)
from ingest_platform.feeds.stream_events.ingest_declared import TAG
from ingest_platform.feeds.stream_events.tail import STREAM_ID, require_stream
from ingest_platform.storage.ledger import Transaction

PAGE, PAGE_MAX = 100, 1_000
EVENT_IDS_MAX = 1_000
BODY_BYTES_MAX = 256 * 1024
REPLAY = Access(scopes=("replays:write",), kinds=ANY_KEY)


class _Which(msgspec.Struct, forbid_unknown_fields=True):
    destination: str | None = None
    reason: str | None = None
    event_ids: list[str] | None = None


_decode = msgspec.json.Decoder(_Which).decode


class LetterRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list_dead_letters(self, call: Call) -> Reply:
        """List dead letters, the latest first."""
        wanted = Wanted(
            workspace=call.who.workspace,
            stream_id=call.require("stream_id", str),
            destination=call.get("destination", str),
        )
        limit, cursor = call.require("limit", int), call.get("cursor", str)
        cursors, purpose = self._services.cursors, f"dead letters:{wanted}"

        def read(tx: Transaction) -> Reply:
            _require(tx, call)
            before = None if cursor is None else int(cursors.read(cursor, purpose=purpose)[0] or 0)
            found = list_letters(tx, wanted, before_id=before, limit=limit + 1)
            more = len(found) > limit
            next_cursor = cursors.write(purpose=purpose, place=[found[limit - 1].id]) if more else None
            shown = [_shown(each) for each in found[:limit]]
            return list_reply(shown, next_cursor=next_cursor, total=count_letters(tx, wanted))

        return await self._services.read(read)

    async def replay_dead_letters(self, call: Call) -> Reply:
        """Deliver dead letters anew."""
        assert call.body is not None
        body = await call.body.read()
        call.know_body(body, salt=call.path.encode())
        which = _which(body)
        wanted = Wanted(
            workspace=call.who.workspace,
            stream_id=call.require("stream_id", str),
            destination=which.destination,
            reason=which.reason,
            event_ids=which.event_ids,
        )

        def write(tx: Transaction) -> Reply:
            _require(tx, call)
            replayed = replay(tx, wanted)
            return json_reply(202, {"replayed": replayed, "left": count_letters(tx, wanted)})

        return await self._services.write(write)


def _require(tx: Transaction, call: Call) -> None:
    require_stream(tx, call.who.workspace, call.require("stream_id", str))


def _which(body: bytes) -> _Which:
    try:
        which = _decode(body or b"{}")
    except msgspec.ValidationError as error:
        raise Malformed(f"The body does not fit: {error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed("The request body must be valid JSON.") from None
    ids = which.event_ids
    if ids is not None and not 1 <= len(ids) <= EVENT_IDS_MAX:
        raise Malformed(f"The 'event_ids' field must have 1 to {EVENT_IDS_MAX} entries.")
    for name, text in (
        ("destination", which.destination),
        ("reason", which.reason),
        *(("event_ids", i) for i in ids or ()),
    ):
        if text is not None and "\x00" in text:
            raise Malformed(f"The '{name}' field must not have a NUL character.")
    return which


def _shown(letter: Letter) -> Mapping[str, object]:
    return {
        "event_id": letter.event_id,
        "destination": letter.destination,
        "reason": letter.reason,
        "delivery_id": letter.delivery_id,
        "stream_version": letter.stream_version,
        "died_at": format_instant(letter.died_at),
    }


_LETTER_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("event_id", "destination", "reason", "delivery_id")},
        "stream_version": {"type": "integer"},
        "died_at": {"type": "string", "format": "date-time"},
    },
    "required": ["event_id", "destination", "reason", "delivery_id", "stream_version", "died_at"],
    "additionalProperties": False,
}
_TEXT: Mapping[str, object] = {"type": "string", "pattern": r"^[^\u0000]*$"}
_WHICH_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "description": "Which ones; without anything, all of the stream.",
    "properties": {
        "destination": {**_TEXT, "description": "Only those of this destination."},
        "reason": {**_TEXT, "description": "Only those of exactly this reason."},
        "event_ids": {
            "type": "array",
            "items": _TEXT,
            "minItems": 1,
            "maxItems": EVENT_IDS_MAX,
            "description": "Only these events.",
        },
    },
    "additionalProperties": False,
}
_REPLAYED_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "replayed": {"type": "integer", "description": f"Events that are delivered anew, at most {REPLAYED_MAX}."},
        "left": {"type": "integer", "description": "Those beyond it; call again."},
    },
    "required": ["replayed", "left"],
    "additionalProperties": False,
}


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the routes."""
    handlers = LetterRoutes(services)
    return [
        ApiRoute(
            method="GET",
            path="/v1/streams/{stream_id}/dead-letters",
            handler=handlers.list_dead_letters,
            operation_id="list_dead_letters",
            tag=TAG,
            summary="List events that a destination did not take",
            access=READ,
            parameters=(
                STREAM_ID,
                Parameter(name="destination", schema={"type": "string"}, description="Only those of this destination."),
                limit_parameter(default=PAGE, most=PAGE_MAX),
                CURSOR,
            ),
            answers={200: json_answer("A page of dead letters, the latest first.", list_schema(_LETTER_SCHEMA))},
            refusals=(NotFound,),
        ),
        ApiRoute(
            method="POST",
            path="/v1/streams/{stream_id}/dead-letters/replay",
            handler=handlers.replay_dead_letters,
            operation_id="replay_dead_letters",
            tag=TAG,
            summary="Deliver dead letters anew",
            description="Under the same event ids, so that a destination that had some of them takes them once.",
            access=REPLAY,
            parameters=(STREAM_ID,),
            bodies={JSON: Content(schema=_WHICH_SCHEMA, example={"destination": "archive"}, bytes_max=BODY_BYTES_MAX)},
            answers={202: json_answer("How many are delivered anew.", _REPLAYED_SCHEMA)},
            refusals=(NotFound, Malformed),
        ),
    ]
