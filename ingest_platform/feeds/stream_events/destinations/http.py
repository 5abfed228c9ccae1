"""Any receiver of HTTP: batches as a JSON array or as lines, signed as webhooks are, under an id that stays."""

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar, cast

from ingest_platform.feeds.stream_events.destinations import calling, objects
from ingest_platform.feeds.stream_events.destinations.calling import Caller, read_url
from ingest_platform.feeds.stream_events.destinations.connecting import Deadline, read_trust
from ingest_platform.feeds.stream_events.destinations.destination import (
    MIB,
    Batch,
    BatchRule,
    Body,
    DeclaredField,
    DestinationFault,
    DestinationType,
    FieldKind,
    Item,
    Sent,
    Site,
    batch_fields,
    batch_rule,
)
from ingest_platform.feeds.stream_events.destinations.portions import Divisible, send_in_portions
from ingest_platform.pipeline.signature import (
    HUB_PREFIX,
    HUB_SIGNATURE_HEADER,
    SECRET_CHARACTERS_MAX,
    SECRET_CHARACTERS_MIN,
    SECRET_PATTERN,
    SIGNATURE_HEADER,
    sign,
)

RULE = BatchRule(events_max=1_000, bytes_max=4 * MIB, linger_seconds=1.0, at_once=2)
DELIVERY_HEADER, ATTEMPT_HEADER = "X-Delivery-Id", "X-Delivery-Attempt"
STREAM_HEADER, VERSION_HEADER = "X-Stream-Id", "X-Stream-Version"
HEADERS_MAX = 20
_JSON, _NDJSON = "json", "ndjson"
_TYPES = {_JSON: "application/json", _NDJSON: "application/x-ndjson"}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]{0,1998}[\x21-\x7e])?)?")
# What says how long a message is, where it goes and who it is from is not a declaration's to say.
_OURS = frozenset(
    {"host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect", "user-agent"}
) | {"authorization", "proxy-authorization", "content-length", "content-type", "content-encoding", "accept-encoding"}
_OUR_PREFIXES = ("x-delivery-", "x-stream-", SIGNATURE_HEADER.lower(), HUB_SIGNATURE_HEADER.lower())


def _check(body: Body) -> list[DestinationFault]:
    faults = [*read_url(body), *read_trust(body.get("ca"))]
    if "secret" in body and re.fullmatch(SECRET_PATTERN, str(body["secret"])) is None:
        sizes = f"{SECRET_CHARACTERS_MIN} to {SECRET_CHARACTERS_MAX}"
        faults.append(DestinationFault(path="secret", message=f"must have {sizes} visible ASCII characters"))
    if "authorization" in body and not _HEADER_VALUE.fullmatch(str(body["authorization"])):
        faults.append(DestinationFault(path="authorization", message="must be visible ASCII, as in “Bearer …”"))
    headers = cast("Mapping[str, str]", body.get("headers", {}))
    if len(headers) > HEADERS_MAX:
        faults.append(DestinationFault(path="headers", message=f"must be at most {HEADERS_MAX}"))
    for name, value in headers.items():
        wrong = _why_wrong_header(name, value)
        if wrong is not None:
            faults.append(DestinationFault(path=f"headers.{name[:100]}", message=wrong))
    return faults


def _why_wrong_header(name: str, value: str) -> str | None:
    if _HEADER_NAME.fullmatch(name) is None:
        return "is no name of a header"
    if name.lower() == "authorization":
        return "has a field of its own, authorization, which is kept secret"
    if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIXES):
        return "is set by the platform"
    return None if _HEADER_VALUE.fullmatch(value) else "must be visible ASCII, of at most 2000 characters"


@dataclass(slots=True)
class Http:
    """One receiver."""

    type: ClassVar[str] = "http"
    batch: BatchRule
    # Many receivers are told apart, and protected, by a part of the URL.
    url: str = field(repr=False)
    form: str
    compressed: bool
    secret: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    caller: Caller

    def send(self, batch: Batch) -> Sent:
        """Send a batch; a part of it where the receiver says that it is too large (413)."""
        deadline = Deadline()
        return send_in_portions(batch.items, lambda items: self._send(items, batch, deadline))

    def _send(self, items: Sequence[Item], batch: Batch, deadline: Deadline) -> Sent:
        body = self._encode(items, batch)
        answer = self.caller.post(self.url, headers=self._headers(items, batch, body), body=body, deadline=deadline)
        if answer.good:
            return Sent(delivered=[item.event_id for item in items])
        if answer.status == calling.TOO_LARGE:
            raise Divisible(f"answered {answer.status}: too large")
        raise answer.failure()

    def _encode(self, items: Sequence[Item], batch: Batch) -> bytes:
        events = [objects.envelope(item, batch) for item in items]
        body = b"[" + b",".join(events) + b"]" if self.form == _JSON else b"".join(each + b"\n" for each in events)
        # Without the time in it, the same events are the same bytes and have the same signature.
        return gzip.compress(body, compresslevel=3, mtime=0) if self.compressed else body

    def _headers(self, items: Sequence[Item], batch: Batch, body: bytes) -> dict[str, str]:
        headers = {
            **self.headers,
            "Content-Type": _TYPES[self.form],
            DELIVERY_HEADER: _id_of(items, batch),
            ATTEMPT_HEADER: str(batch.attempt),
            STREAM_HEADER: batch.stream_id,
            VERSION_HEADER: str(batch.stream_version),
        }
        if self.compressed:
            headers["Content-Encoding"] = "gzip"
        if self.secret is not None:
            signature = sign(self.secret, body)
            headers |= {SIGNATURE_HEADER: signature, HUB_SIGNATURE_HEADER: HUB_PREFIX + signature}
        return headers

    def close(self) -> None:
        """Close the connections."""
        self.caller.close()


def _id_of(items: Sequence[Item], batch: Batch) -> str:
    """Name what is sent: the delivery, or the very part of it, so that no part is taken for another."""
    if len(items) == len(batch.items):
        return batch.delivery_id
    digest = sha256("\n".join(item.event_id for item in items).encode()).hexdigest()
    return f"{batch.delivery_id}.{digest[:16]}"


def _open(body: Body, site: Site) -> Http:
    rule = batch_rule(body, RULE)
    headers = dict(cast("Mapping[str, str]", body.get("headers", {})))
    if "authorization" in body:
        headers["Authorization"] = str(body["authorization"])
    ca = cast("str | None", body.get("ca"))
    return Http(
        batch=rule,
        url=str(body["url"]),
        form=str(body.get("format", _JSON)),
        compressed=body.get("compression", "none") == "gzip",
        secret=cast("str | None", body.get("secret")),
        headers=headers,
        caller=Caller(site.outbound, ca=ca, connections_max=rule.at_once),
    )


KIND = DestinationType(
    type=Http.type,
    fields=(
        DeclaredField(name="url", meaning="Where batches are sent to, as POST.", required=True),
        DeclaredField(name="format", meaning="An array, or an event a line.", choices=tuple(_TYPES), default=_JSON),
        DeclaredField(
            name="compression", meaning="How a body is compressed.", choices=("none", "gzip"), default="none"
        ),
        DeclaredField(name="secret", meaning="Secret that bodies are signed with; absent: not signed.", secret=True),
        DeclaredField(name="authorization", meaning="Value of the header Authorization.", secret=True),
        DeclaredField(name="headers", meaning="Headers that are sent beside ours.", kind=FieldKind.MAPPING),
        calling.CA_FIELD,
        *batch_fields(RULE),
    ),
    check=_check,
    opened=_open,
)
