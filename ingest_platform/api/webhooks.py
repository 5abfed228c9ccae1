"""Webhooks as clients manage them: who is told what, what was sent, sending it once more. How it is sent: not here."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import cast

import msgspec

from ingest_platform.api.call import Call
from ingest_platform.api.lists import CURSOR, limit_parameter, list_reply, list_schema
from ingest_platform.api.replies import JSON, Reply, json_reply
from ingest_platform.api.route import ANY_KEY, Access, ApiRoute, Content, Parameter, Schema, json_answer
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Conflict, Detail, Malformed, NotFound
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.pipeline.announce import JOB_FAILED, JOB_FINISHED
from ingest_platform.pipeline.outbound import URL_CHARACTERS_MAX, Resolver, why_wrong
from ingest_platform.pipeline.signature import (
    SECRET_CHARACTERS_MAX,
    SECRET_CHARACTERS_MIN,
    SECRET_PATTERN,
    new_secret,
)
from ingest_platform.storage import webhooks
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.webhooks import Delivery, DeliveryState, Webhook

TAG = "Webhooks"
ROOT = "/v1/webhooks"
ADMIN = Access(scopes=("webhooks:admin",), kinds=ANY_KEY)
BODY_BYTES_MAX = 64 * 1024
DESCRIPTION_CHARACTERS_MAX = 500
PAGE, PAGE_MAX = 25, 100
# Who asks waits; a name server that does not answer by then is asked again when something is to be delivered.
RESOLVE_SECONDS_MAX = 2.0
_RESOLVING_MAX = 4
_decode = msgspec.json.Decoder(dict[str, object]).decode

Shown = dict[str, object]


def event_types(services: Services) -> tuple[str, ...]:
    """List the types of events that may be asked for: the ends of jobs, and what the feeds announce."""
    of_feeds = chain.from_iterable(feed.announced.types for feed in services.feeds if feed.announced is not None)
    return (JOB_FINISHED, JOB_FAILED, *dict.fromkeys(of_feeds))


class WebhookRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._rules = services.platform.outbound
        self._types = event_types(services)
        self._resolver = Resolver(self._rules, threads=_RESOLVING_MAX)

    async def create(self, call: Call) -> Reply:
        """Subscribe; the one answer with the secret."""
        assert call.body is not None
        body = await call.body.read()
        call.know_body(body)
        asked = _read(body)
        details = self._wrong(asked)
        if "url" not in {detail.param for detail in details}:
            details += await self._wrong_address(cast("str", asked["url"]))
        if details:
            raise Malformed(details[0].message, details=details)
        workspace, secret = call.who.workspace, cast("str | None", asked.get("secret")) or new_secret()

        def write(tx: Transaction) -> Reply:
            webhook_id = webhooks.create(
                tx,
                workspace=workspace,
                url=cast("str", asked["url"]),
                events=list(dict.fromkeys(cast("list[str]", asked["events"]))),
                description=cast("str | None", asked.get("description")) or "",
                secret=secret,
            )
            shown = {**_shown(_found(tx, workspace, webhook_id)), "secret": secret}
            return call.kept(tx, json_reply(201, shown, headers={"Location": f"{ROOT}/{webhook_id}"}))

        return await self._services.write(write)

    def _wrong(self, asked: Mapping[str, object]) -> list[Detail]:
        url, events = asked.get("url"), asked.get("events")
        found = {
            "url": "must be a text" if not isinstance(url, str) else why_wrong(url, self._rules),
            "events": self._wrong_events(events),
            "description": _wrong_text(asked.get("description"), most=DESCRIPTION_CHARACTERS_MAX),
            "secret": _wrong_secret(asked.get("secret")),
        }
        missing = [name for name in ("url", "events") if asked.get(name) is None]
        said = {**{name: what for name, what in found.items() if what}, **dict.fromkeys(missing, "is required")}
        return [_detail(name, what) for name, what in said.items()]

    def _wrong_events(self, events: object) -> str | None:
        known = ", ".join(self._types)
        if not isinstance(events, list) or not events:
            return f"must be a list of one or more of {known}"
        unknown = [each for each in cast("list[object]", events) if each not in self._types]
        return f"must be among {known}" if unknown else None

    async def _wrong_address(self, url: str) -> list[Detail]:
        unreachable = await self._resolver.why_unreachable(url, seconds_max=RESOLVE_SECONDS_MAX)
        return [] if unreachable is None else [_detail("url", unreachable)]

    async def list_webhooks(self, call: Call) -> Reply:
        """List the webhooks of the workspace."""
        workspace, limit, cursor = call.who.workspace, call.require("limit", int), call.get("cursor", str)
        purpose = f"webhooks:{workspace}"
        after = "" if cursor is None else str(self._services.cursors.read(cursor, purpose=purpose)[0])

        def read(tx: Transaction) -> tuple[Sequence[Webhook], int]:
            found = webhooks.list_webhooks(tx, workspace=workspace, after=after, limit=limit + 1)
            return found, webhooks.count(tx, workspace=workspace)

        found, total = await self._services.read(read)
        page = found[:limit]
        more = len(found) > limit
        next_cursor = self._services.cursors.write(purpose=purpose, place=[page[-1].id]) if more else None
        return list_reply([_shown(each) for each in page], next_cursor=next_cursor, total=total)

    async def get(self, call: Call) -> Reply:
        """Show one webhook."""
        return json_reply(200, _shown(await self._services.read(lambda tx: _webhook(tx, call))))

    async def delete(self, call: Call) -> Reply:
        """End a subscription."""
        webhook_id = call.require("webhook_id", str)

        def write(tx: Transaction) -> None:
            if not webhooks.delete(tx, workspace=call.who.workspace, webhook_id=webhook_id):
                raise _no_webhook()

        await self._services.write(write)
        return json_reply(200, {"id": webhook_id, "deleted": True})

    async def list_deliveries(self, call: Call) -> Reply:
        """List what was and is to be sent to a webhook."""
        state, limit, cursor = call.get("status", str), call.require("limit", int), call.get("cursor", str)

        def read(tx: Transaction) -> tuple[str, Sequence[Delivery], int]:
            webhook_id = _webhook(tx, call).id
            purpose = f"deliveries:{webhook_id}:{state}"
            before = None if cursor is None else int(self._services.cursors.read(cursor, purpose=purpose)[0] or 0)
            found = webhooks.list_deliveries(tx, webhook_id=webhook_id, state=state, before_seq=before, limit=limit + 1)
            return purpose, found, webhooks.count_deliveries(tx, webhook_id=webhook_id, state=state)

        purpose, found, total = await self._services.read(read)
        page = found[:limit]
        more = len(found) > limit
        next_cursor = self._services.cursors.write(purpose=purpose, place=[page[-1].seq]) if more else None
        return list_reply([_shown_delivery(each) for each in page], next_cursor=next_cursor, total=total)

    async def redeliver(self, call: Call) -> Reply:
        """Send an event once more."""
        # It has no body, so the key alone says which request this is.
        call.know_body(call.require("delivery_id", str).encode())

        def write(tx: Transaction) -> Reply:
            webhook = _webhook(tx, call)
            delivery_id = call.require("delivery_id", str)
            delivery = webhooks.find_delivery(tx, webhook_id=webhook.id, delivery_id=delivery_id)
            if delivery is None:
                raise NotFound("There is no such delivery.")
            if webhook.disabled_at is not None:
                raise Conflict("The webhook is disabled: its receiver said that it is gone. Create a new one.")
            again = webhooks.find_delivery(tx, webhook_id=webhook.id, delivery_id=webhooks.redeliver(tx, delivery))
            assert again is not None
            return call.kept(tx, json_reply(202, _shown_delivery(again)))

        return await self._services.write(write)


def _read(body: bytes) -> dict[str, object]:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body must be a JSON object.") from None


def _detail(name: str, what: str) -> Detail:
    return Detail(code="invalid", message=f"{name} {what}", param=name)


def _wrong_text(value: object, *, most: int) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= most and "\x00" not in value and _sound(value)):
        return None
    return f"must be a text of at most {most} characters"


def _sound(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _wrong_secret(value: object) -> str | None:
    least, most = SECRET_CHARACTERS_MIN, SECRET_CHARACTERS_MAX
    good = isinstance(value, str) and least <= len(value) <= most and all("!" <= each <= "~" for each in value)
    return None if value is None or good else f"must be {least} to {most} visible ASCII characters"


def _webhook(tx: Transaction, call: Call) -> Webhook:
    return _found(tx, call.who.workspace, call.require("webhook_id", str))


def _found(tx: Transaction, workspace: str, webhook_id: str) -> Webhook:
    found = webhooks.find(tx, workspace=workspace, webhook_id=webhook_id)
    if found is None:
        raise _no_webhook()
    return found


def _no_webhook() -> NotFound:
    return NotFound("There is no such webhook.")


def _shown(webhook: Webhook) -> Shown:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": list(webhook.events),
        "description": webhook.description,
        "status": "active" if webhook.disabled_at is None else "disabled",
        "created_at": format_instant(webhook.created_at),
    }


def _shown_delivery(delivery: Delivery) -> Shown:
    last: Mapping[str, object] = delivery.log[-1] if delivery.log else {}
    pending = delivery.state is DeliveryState.PENDING
    return {
        "id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "event_id": delivery.event_id,
        "event": delivery.type,
        "status": delivery.state.value,
        "attempt": delivery.attempts,
        "response_code": last.get("response_code"),
        "duration_ms": last.get("duration_ms"),
        "error": last.get("error"),
        "next_attempt_at": format_instant(delivery.due_at) if pending else None,
        "created_at": format_instant(delivery.created_at),
        "finished_at": None if delivery.finished_at is None else format_instant(delivery.finished_at),
        "redelivery_of": delivery.redelivery_of,
        "attempts": [{name: entry.get(name) for name in _ATTEMPT} for entry in delivery.log],
    }


# Declared

_TEXT: Schema = {"type": "string"}
_NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
_NULLABLE_WHOLE: Schema = {"type": ["integer", "null"]}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_NULLABLE_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}
_ATTEMPT: Mapping[str, Schema] = {
    "attempt": _NULLABLE_WHOLE,
    "at": _NULLABLE_INSTANT,
    "duration_ms": _NULLABLE_WHOLE,
    "response_code": _NULLABLE_WHOLE,
    "error": _NULLABLE_TEXT,
}
_WEBHOOK_ID = Parameter(name="webhook_id", where="path", schema=_TEXT, description="The webhook's id.", required=True)
_DELIVERY_ID = Parameter(
    name="delivery_id", where="path", schema=_TEXT, description="The delivery's id.", required=True
)
_EXAMPLE: Shown = {
    "id": "whk_01kqzcjrpyf27tge33jwvjhkff",
    "url": "https://hooks.example.com/ingest",
    "events": [JOB_FINISHED, JOB_FAILED],
    "description": "Tells the on-call channel",
    "status": "active",
    "created_at": "2026-05-06T10:15:32.441Z",
}


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _webhook_schema(types: Sequence[str]) -> Mapping[str, Schema]:
    return {
        "id": _TEXT,
        "url": _TEXT,
        "events": {"type": "array", "items": {"enum": list(types)}},
        "description": _TEXT,
        "status": {"enum": ["active", "disabled"], "description": "Disabled once its receiver has answered 410 Gone."},
        "created_at": _INSTANT,
    }


_DELIVERY = _object(
    {
        "id": _TEXT,
        "webhook_id": _TEXT,
        "event_id": {"type": "string", "description": "`Webhook-Id` of every attempt: the same when sent again."},
        "event": {"type": "string", "description": "The type of the event."},
        "status": {"enum": [state.value for state in DeliveryState]},
        "attempt": {"type": "integer", "description": "Attempts so far."},
        "response_code": {**_NULLABLE_WHOLE, "description": "Of the last attempt, as are duration and error."},
        "duration_ms": _NULLABLE_WHOLE,
        "error": _NULLABLE_TEXT,
        "next_attempt_at": _NULLABLE_INSTANT,
        "created_at": _INSTANT,
        "finished_at": _NULLABLE_INSTANT,
        "redelivery_of": _NULLABLE_TEXT,
        "attempts": {"type": "array", "items": _object(_ATTEMPT)},
    }
)


def routes(services: Services) -> list[ApiRoute]:
    """Declare the routes."""
    handlers = WebhookRoutes(services)
    types = event_types(services)
    webhook = _webhook_schema(types)
    return [
        _create(handlers, types),
        ApiRoute(
            method="GET",
            path=ROOT,
            handler=handlers.list_webhooks,
            operation_id="list_webhooks",
            tag=TAG,
            summary="List webhooks",
            access=ADMIN,
            parameters=(limit_parameter(default=PAGE, most=PAGE_MAX), CURSOR),
            answers={200: json_answer("A page of webhooks, without their secrets.", list_schema(_object(webhook)))},
        ),
        *_single_routes(handlers, _object(webhook)),
        *_delivery_routes(handlers),
    ]


def _single_routes(handlers: WebhookRoutes, webhook: Schema) -> list[ApiRoute]:
    return [
        ApiRoute(
            method="GET",
            path=f"{ROOT}/{{webhook_id}}",
            handler=handlers.get,
            operation_id="get_webhook",
            tag=TAG,
            summary="Show a webhook",
            access=ADMIN,
            parameters=(_WEBHOOK_ID,),
            answers={200: json_answer("The webhook, without its secret.", webhook, example=_EXAMPLE)},
            refusals=(NotFound,),
        ),
        ApiRoute(
            method="DELETE",
            path=f"{ROOT}/{{webhook_id}}",
            handler=handlers.delete,
            operation_id="delete_webhook",
            tag=TAG,
            summary="Delete a webhook",
            description="Nothing more is sent to it, not even what waits for another attempt.",
            access=ADMIN,
            parameters=(_WEBHOOK_ID,),
            answers={200: json_answer("It is deleted.", _object({"id": _TEXT, "deleted": {"const": True}}))},
            refusals=(NotFound,),
        ),
    ]


def _asked(types: Sequence[str]) -> Mapping[str, Schema]:
    return {
        "url": {
            "type": "string",
            "format": "uri",
            "maxLength": URL_CHARACTERS_MAX,
            "description": "https, port 443 or from 1024 on, and leading to a public address.",
        },
        "events": {"type": "array", "minItems": 1, "items": {"enum": list(types)}},
        "description": {"type": ["string", "null"], "maxLength": DESCRIPTION_CHARACTERS_MAX},
        "secret": {
            "type": ["string", "null"],
            "pattern": SECRET_PATTERN,
            "description": "What deliveries are signed with; made where it is left out.",
        },
    }


def _create(handlers: WebhookRoutes, types: Sequence[str]) -> ApiRoute:
    properties = _asked(types)
    asked = {name: _EXAMPLE[name] for name in ("url", "events", "description")}
    answer = _object({**_webhook_schema(types), "secret": _TEXT})
    example = {**_EXAMPLE, "secret": "whsec_9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
    return ApiRoute(
        method="POST",
        path=ROOT,
        handler=handlers.create,
        operation_id="create_webhook",
        tag=TAG,
        summary="Subscribe to events",
        description=(
            "Events are sent by POST, at least once and in no promised order, signed with the secret: "
            "`X-Causeloop-Signature` is the hex HMAC-SHA256 of the raw body, `X-Hub-Signature-256` the same behind "
            "`sha256=`. `Webhook-Id` is the same whenever an event is sent again. Whatever is not answered with 2xx "
            "within 10 seconds is tried again, with growing pauses, for about a day; 410 disables the webhook.\n\n"
            "The secret is shown in this answer and in no other. A workspace may have "
            f"{webhooks.WEBHOOKS_MAX} webhooks."
        ),
        access=ADMIN,
        bodies={
            JSON: Content(
                schema={"type": "object", "properties": properties, "required": ["url", "events"]},
                example=asked,
                bytes_max=BODY_BYTES_MAX,
            )
        },
        answers={201: json_answer("Subscribed.", answer, example=example, Location="Where the webhook is shown.")},
        refusals=(Conflict,),
    )


def _delivery_routes(handlers: WebhookRoutes) -> list[ApiRoute]:
    status = Parameter(
        name="status",
        schema={"type": "string", "enum": [state.value for state in DeliveryState]},
        description="Only deliveries in this state; `dead` ones are not tried any more.",
    )
    return [
        ApiRoute(
            method="GET",
            path=f"{ROOT}/{{webhook_id}}/deliveries",
            handler=handlers.list_deliveries,
            operation_id="list_webhook_deliveries",
            tag=TAG,
            summary="List what was sent to a webhook, the latest first",
            description=f"Deliveries are kept for {webhooks.KEPT_DAYS} days after their end.",
            access=ADMIN,
            parameters=(_WEBHOOK_ID, status, limit_parameter(default=PAGE, most=PAGE_MAX), CURSOR),
            answers={200: json_answer("A page of deliveries.", list_schema(_DELIVERY))},
            refusals=(NotFound,),
        ),
        ApiRoute(
            method="POST",
            path=f"{ROOT}/{{webhook_id}}/deliveries/{{delivery_id}}/redeliver",
            handler=handlers.redeliver,
            operation_id="redeliver_webhook_delivery",
            tag=TAG,
            summary="Send an event once more",
            description="Whatever became of it: as a delivery of its own, with the same event and `Webhook-Id`.",
            access=ADMIN,
            parameters=(_WEBHOOK_ID, _DELIVERY_ID),
            answers={202: json_answer("It is sent once more.", _DELIVERY)},
            refusals=(NotFound, Conflict),
        ),
    ]
