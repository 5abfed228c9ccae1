"""Inbound webhooks: a tool calls, proves with its connector's secret that it is the tool, and reports an issue.

Nothing of a body is looked at before its signature is found good over the raw bytes; whatever is wrong with that, the
answer is the same. Which field means what is said by `connectors/`; a good record goes the way of all others.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from ingest_platform.api.body import Bounded, Whole, decoding
from ingest_platform.api.call import Call
from ingest_platform.api.intake import Intake, Taking
from ingest_platform.api.replies import JSON, Reply, json_reply
from ingest_platform.api.route import ApiRoute, Content, Parameter, Schema, json_answer
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Malformed, RateLimited, Unauthenticated, Unavailable
from ingest_platform.domain.job import Origin
from ingest_platform.domain.submission import Encoding, Format
from ingest_platform.feeds.issues import FEED, wire
from ingest_platform.feeds.issues.connected import CONNECTORS
from ingest_platform.feeds.issues.connectors import READERS
from ingest_platform.feeds.issues.connectors.payload import Ignored, Payload
from ingest_platform.feeds.issues.door import Alone, complete_sourced, judge
from ingest_platform.feeds.issues.sources import SOURCES
from ingest_platform.pipeline.admit import Principal, Rate, RateRule
from ingest_platform.pipeline.signature import HUB_SIGNATURE_HEADER, SIGNATURE_HEADER, is_signed, new_secret
from ingest_platform.storage import limits, secrets, workspaces
from ingest_platform.storage.ledger import Transaction

PATH = "/v1/webhooks/inbound/{connector_id}"
RATE = RateRule(name=FEED.name, per_minute=FEED.rate_per_minute)
# What a connector that does not exist is held against, so that it takes as long as one that does.
_NOBODYS_SECRET = new_secret()
_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """A connector that has shown its secret."""

    id: str
    workspace: str
    type: str


class InboundRoutes:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._intake = Intake(services)

    async def receive(self, call: Call) -> Reply:
        """Take what a tool reports."""
        raw = await self._read_raw(call)
        connector = await self._services.write(lambda tx: _admit(tx, call, raw))
        call.principal = Principal(
            key_id=connector.id, workspace=connector.workspace, project=None, scopes=frozenset(), sites=None
        )
        body = await self._decoded(call, raw)
        read = await self._services.run(lambda: _read(connector, body, call.headers))
        if isinstance(read, Ignored):
            return json_reply(202, {"accepted": 0, "rejected": [], "ignored": read.what[:200]})
        return await self._take(call, connector, read)

    async def _read_raw(self, call: Call) -> bytes:
        body = call.open_body(
            bytes_max=wire.BODY_BYTES_MAX, window_seconds=self._services.limits.client_idle_seconds_max
        )
        body.refuse_declared_excess()
        return b"".join([piece async for piece in body.pieces()])

    async def _decoded(self, call: Call, raw: bytes) -> bytes:
        assert call.body is not None
        encoding = call.body.encoding
        if encoding is Encoding.IDENTITY:
            return raw
        whole = Whole()
        sink = decoding(encoding, Bounded(whole, bytes_max=wire.BODY_BYTES_MAX))
        await asyncio.to_thread(lambda: (sink.write(raw), sink.close()))
        return whole.content()

    async def _take(self, call: Call, connector: Connector, alone: Alone) -> Reply:
        judged = judge([alone.record], workspace=connector.workspace)
        ((issue_id, _),) = judged.issues
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        try:
            await self._intake.keep(alone.body, spool)
            taking = Taking.spooled(
                FEED,
                spool,
                job_id=job_id,
                format=Format.JSON,
                received=1,
                subjects=judged.subjects,
                origin=Origin.WEBHOOK,
            )
            return await self._intake.take(
                call, taking, lambda job_id, _: json_reply(202, wire.record_reply(issue_id=issue_id, job_id=job_id))
            )
        except BaseException:
            spool.abort()
            raise


def _admit(tx: Transaction, call: Call, raw: bytes) -> Connector:
    """Find the connector of a call, and see that it is the one that signed it. Raises Unauthenticated."""
    found = secrets.declared(tx, kind=CONNECTORS.section, id=call.require("connector_id", str))
    good = is_signed(
        _NOBODYS_SECRET if found is None else found.secret,
        raw,
        signatures=call.headers.getlist(SIGNATURE_HEADER),
        hub_signatures=call.headers.getlist(HUB_SIGNATURE_HEADER),
    )
    if not good or found is None:
        raise Unauthenticated(f"There is no such connector, or {SIGNATURE_HEADER} is missing or wrong.")
    _take_token(tx, call, found.workspace)
    return Connector(id=found.id, workspace=found.workspace, type=found.body["type"])


def _take_token(tx: Transaction, call: Call, workspace: str) -> None:
    """Count the call against the workspace's rate; a stranger's costs it nothing."""
    own = workspaces.find(tx, workspace)
    per_minute = (own.rate_limits if own is not None else {}).get(RATE.name, RATE.per_minute)
    bucket = f"workspace:{workspace}:{RATE.name}"
    (taken,) = limits.take(tx, [limits.Wanted(bucket=bucket, per_minute=per_minute, tokens=1)])
    call.rate = Rate(limit=per_minute, remaining=taken.remaining)
    if not taken.granted:
        message = f"Too many requests; the limit is {per_minute} a minute."
        raise RateLimited(message, headers={"Retry-After": str(max(1, round(taken.retry_after_seconds)))})


def _read(connector: Connector, body: bytes, headers: Mapping[str, str]) -> Alone | Ignored:
    """Map a payload to a record that is as good as one of the source's own route. Raises Malformed."""
    try:
        payload = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body must be a JSON object in UTF-8; set the webhook's content type to JSON.") from None
    read = READERS[connector.type].read(Payload(payload), headers)
    if isinstance(read, Ignored):
        return read
    record = {**read, "connector_id": connector.id}
    return complete_sourced(_encode(record), SOURCES[connector.type])


# Declared

_CONNECTOR_ID = Parameter(
    name="connector_id",
    where="path",
    schema={"type": "string"},
    description="The id under which the connector was declared.",
    required=True,
    example="con-github-main",
)


def _signature(name: str, description: str) -> Parameter:
    return Parameter(name=name, where="header", schema={"type": "string"}, description=description)


_REPLY: Schema = {
    "type": "object",
    "properties": {
        "accepted": {"enum": [0, 1]},
        "rejected": {"type": "array", "maxItems": 0},
        "issue_id": {"type": "string"},
        "job_id": {"type": "string"},
        "ignored": {"type": "string", "description": "What came, where it is about no issue."},
    },
    "required": ["accepted", "rejected"],
    "additionalProperties": False,
}


def routes(services: Services) -> list[ApiRoute]:
    """Declare the route."""
    taken = "\n".join(f"- `{name}`: {reader.taken}" for name, reader in READERS.items())
    return [
        ApiRoute(
            method="POST",
            path=PATH,
            handler=InboundRoutes(services).receive,
            operation_id="receive_webhook",
            tag="Webhooks",
            summary="Take a tool's webhook",
            description=(
                "For tools, not for keys: the raw body is signed with the connector's secret. The payload is the "
                "tool's own; by the connector's type this is taken, and everything else is answered with `ignored`:\n\n"
                f"{taken}\n\nThe same delivery twice is one issue."
            ),
            rate=RATE,
            parameters=(
                _CONNECTOR_ID,
                _signature(SIGNATURE_HEADER, "Hex HMAC-SHA256 of the raw body. Preferred to the other one."),
                _signature(HUB_SIGNATURE_HEADER, "`sha256=` and the same, as GitHub sends it."),
            ),
            bodies={JSON: Content(schema={"type": "object"}, bytes_max=wire.BODY_BYTES_MAX)},
            answers={
                202: json_answer(
                    "Taken durably, or ignored.",
                    _REPLY,
                    example={
                        "accepted": 1,
                        "rejected": [],
                        "issue_id": "iss_9mb2nwn2gzssebqfbgn13qndh1",
                        "job_id": "ing_job_01kqzcjrpyf27tge33jwvjhkff",
                    },
                )
            },
            refusals=(Unauthenticated, Unavailable),
        )
    ]
