"""Elasticsearch and OpenSearch by their `_bulk` request: an event's id is its `_id`, and each event has a result.

https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk says what is asked for and answered.
"""

import base64
import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import ClassVar, cast

import msgspec

from ingest_platform.feeds.stream_events.destinations import calling
from ingest_platform.feeds.stream_events.destinations.calling import Answer, Caller, read_url, text_at
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
    Permanent,
    Sent,
    Site,
    Transient,
    batch_fields,
    batch_rule,
)
from ingest_platform.feeds.stream_events.destinations.portions import Divisible, send_in_portions

RULE = BatchRule(events_max=5_000, bytes_max=8 * MIB, linger_seconds=1.0, at_once=2)
# Before compression; what Elasticsearch takes by default is 100 MB, what stands before it often less.
BODY_BYTES_MAX = 16 * MIB
INDEX_BYTES_MAX = 255
_CONFLICT, _NOT_FOUND = 409, 404
_TIME, _OURS = "@timestamp", "ingest"
# Elasticsearch's rule for names of indices, narrowed to what needs no escaping anywhere.
_INDEX = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_UNFIT = re.compile(r"[^a-z0-9_.-]")
# A reason may go on to show the value that did not fit.
_PREVIEW = re.compile(r"\s*(?:Preview of field's value|Caused by|\. Preview).*", re.DOTALL)
_ENCODER = msgspec.json.Encoder()
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _index_of(pattern: str, *, date: str, stream: str) -> str:
    return pattern.replace("{date}", date).replace("{stream}", _UNFIT.sub("-", stream.lower())[:100])


def _check(body: Body) -> list[DestinationFault]:
    faults = [*read_url(body), *read_trust(body.get("ca"))]
    example = _index_of(str(body["index"]), date="2026-01-01", stream="s" * 100)
    if _INDEX.fullmatch(example) is None or len(example) > INDEX_BYTES_MAX:
        allowed = "must be of lower-case letters, digits, “_”, “-” and “.”, with {date} or {stream} in it if you like"
        faults.append(DestinationFault(path="index", message=allowed))
    if ("username" in body) != ("password" in body):
        missing = "password" if "username" in body else "username"
        faults.append(DestinationFault(path=missing, message="is missing; a user and a password go together"))
    if "username" in body and "api_key" in body:
        faults.append(DestinationFault(path="api_key", message="must not stand beside username and password"))
    if "api_key" in body and re.fullmatch(r"[\x21-\x7e]{1,2000}", str(body["api_key"])) is None:
        faults.append(DestinationFault(path="api_key", message="must be visible ASCII, as Elasticsearch encodes it"))
    return faults


@dataclass(slots=True)
class Elasticsearch:
    """One cluster, one pattern of indices."""

    type: ClassVar[str] = "elasticsearch"
    batch: BatchRule
    url: str = field(repr=False)
    index: str
    operation: str
    compressed: bool
    authorization: str | None = field(repr=False)
    caller: Caller

    def send(self, batch: Batch) -> Sent:
        """Send a bulk request, or several where one is too large; events that were not taken for now come back."""
        deadline = Deadline()
        return send_in_portions(batch.items, lambda items: self._send(items, batch, deadline))

    def _send(self, items: Sequence[Item], batch: Batch, deadline: Deadline) -> Sent:
        body = b"".join(self._lines(item, batch) for item in items)
        if len(body) > BODY_BYTES_MAX and len(items) > 1:
            raise Divisible("too large for one request")
        headers = {"Content-Type": "application/x-ndjson", "Accept": "application/json"}
        if self.authorization is not None:
            headers["Authorization"] = self.authorization
        if self.compressed:
            headers["Content-Encoding"], body = "gzip", gzip.compress(body, compresslevel=3, mtime=0)
        answer = self.caller.post(f"{self.url}/_bulk", headers=headers, body=body, deadline=deadline)
        if not answer.good:
            raise _failure(answer)
        return self._results(items, answer)

    def _lines(self, item: Item, batch: Batch) -> bytes:
        date = item.timestamp.astimezone(UTC).date().isoformat()
        index = _index_of(self.index, date=date, stream=batch.stream_id)
        action = _ENCODER.encode({self.operation: {"_index": index, "_id": item.event_id}})
        return action + b"\n" + _source(item, batch) + b"\n"

    def _results(self, items: Sequence[Item], answer: Answer) -> Sent:
        found = answer.object().get("items")
        results = cast("list[object]", found) if isinstance(found, list) else []
        if len(results) != len(items):
            raise Transient(f"answered for {len(results)} of {len(items)} events")
        delivered, retry, dead = list[str](), dict[str, str](), dict[str, str]()
        for item, result in zip(items, results, strict=True):
            status, reason = self._result(result)
            if status // 100 == 2 or (status == _CONFLICT and self.operation == "create"):  # noqa: PLR2004
                # A conflict says that an event of this id is there already.
                delivered.append(item.event_id)
            elif status == calling.TOO_MANY or status // 100 != 4:  # noqa: PLR2004
                retry[item.event_id] = reason
            else:
                dead[item.event_id] = reason
        pause = answer.retry_after_seconds if retry else None
        return Sent(delivered=delivered, retry=retry, dead=dead, retry_after_seconds=pause)

    def _result(self, result: object) -> tuple[int, str]:
        """Take an event's status and what is wrong; 0 for what is no result, which is asked for again."""
        inside = cast("dict[str, object]", result).get(self.operation) if isinstance(result, dict) else None
        told = cast("dict[str, object]", inside) if isinstance(inside, dict) else {}
        status = told.get("status")
        kind, reason = text_at(told, "error", "type"), text_at(told, "error", "reason")
        words = ": ".join(word for word in (kind, _PREVIEW.sub("", reason)) if word)
        number = status if isinstance(status, int) else 0
        return number, f"answered {number}" + (f": {words}" if words else "")

    def close(self) -> None:
        """Close the connections."""
        self.caller.close()


def _source(item: Item, batch: Batch) -> bytes:
    """Write what is stored: the event's own members, and ours under two names that give way to none of its own."""
    members = _MEMBERS.decode(item.document)
    for name in (_TIME, _OURS):
        if name in members:
            members[_free(name, members)] = members.pop(name)
    ours = {
        "event_id": item.event_id,
        "weight": item.weight,
        "stream_id": batch.stream_id,
        "stream_version": batch.stream_version,
    }
    return _ENCODER.encode({_TIME: item.timestamp.astimezone(UTC), **members, _OURS: ours})


def _free(name: str, members: Mapping[str, object]) -> str:
    free = f"original_{name.lstrip('@')}"
    while free in members:
        free = f"original_{free}"
    return free


def _failure(answer: Answer) -> Transient | Permanent:
    """Say what it means that a whole request was refused: most of it can be mended without losing an event."""
    if answer.status == calling.TOO_LARGE:
        return Divisible("answered 413: too large")
    try:
        said = answer.object()
    except Transient:
        said = dict[str, object]()
    words = ": ".join(word for word in (text_at(said, "error", "type"), text_at(said, "error", "reason")) if word)
    if answer.status in {calling.UNAUTHORIZED, calling.FORBIDDEN, _NOT_FOUND}:
        return Transient(f"answered {answer.status}" + (f": {words}" if words else ""))
    return answer.failure(words)


def _open(body: Body, site: Site) -> Elasticsearch:
    rule = batch_rule(body, RULE)
    authorization = None
    if "api_key" in body:
        authorization = f"ApiKey {body['api_key']}"
    elif "username" in body:
        pair = f"{body['username']}:{body['password']}".encode()
        authorization = f"Basic {base64.b64encode(pair).decode('ascii')}"
    return Elasticsearch(
        batch=rule,
        url=str(body["url"]).rstrip("/"),
        index=str(body["index"]),
        operation=str(body.get("operation", "index")),
        compressed=bool(body.get("compressed", True)),
        authorization=authorization,
        caller=Caller(site.outbound, ca=cast("str | None", body.get("ca")), connections_max=rule.at_once),
    )


KIND = DestinationType(
    type=Elasticsearch.type,
    fields=(
        DeclaredField(name="url", meaning="Address of the cluster, `https://host:port`.", required=True),
        DeclaredField(
            name="index",
            meaning="Index or data stream; `{date}` is the event's (UTC), `{stream}` the stream's id.",
            required=True,
        ),
        DeclaredField(
            name="operation",
            meaning="`index` replaces an event that is there, `create` leaves it; data streams take `create` only.",
            choices=("index", "create"),
            default="index",
        ),
        DeclaredField(name="username", meaning="User."),
        DeclaredField(name="password", meaning="The user's password.", secret=True),
        DeclaredField(name="api_key", meaning="API key, encoded, instead of a user.", secret=True),
        DeclaredField(
            name="compressed", meaning="Whether bodies are sent with gzip.", kind=FieldKind.SWITCH, default=True
        ),
        calling.CA_FIELD,
        *batch_fields(RULE),
    ),
    check=_check,
    opened=_open,
)
