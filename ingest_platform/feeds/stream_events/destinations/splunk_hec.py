"""Splunk's HTTP Event Collector, with indexer acknowledgement where the token has it.

https://help.splunk.com/en/splunk-enterprise/get-data-in/collect-http-event-data has the codes and the protocol.
"""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    Item,
    Permanent,
    Sent,
    Site,
    Transient,
    batch_fields,
    batch_rule,
)
from ingest_platform.feeds.stream_events.destinations.portions import Divisible, send_in_portions

# Splunk takes 1 MB without a word in all its editions, and more in most.
RULE = BatchRule(events_max=1_000, bytes_max=1 * MIB, linger_seconds=1.0, at_once=2)
AUTO, REQUIRED, OFF = "auto", "required", "off"
EVENT_PATH, ACK_PATH = "/services/collector/event", "/services/collector/ack"
CHANNEL_HEADER = "X-Splunk-Request-Channel"
_ASKING_SECONDS_MIN, _ASKING_SECONDS_MAX = 0.1, 2.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,200}")
# One of the events can't be read: no data, bad format, no event, blank event, bad indexed fields.
_OF_AN_EVENT = frozenset({5, 6, 12, 13, 15})
# Token, index or channel: whoever declared it, or runs Splunk, can mend it.
_OF_THE_DECLARATION = frozenset({1, 2, 3, 4, 7, 10, 11, 14, 16, 21, 22})
# Internal error, busy, unhealthy (three kinds), going down, queue or acknowledgements at capacity.
_OF_THE_MOMENT = frozenset({8, 9, 18, 19, 20, 23, 24, 25, 26, 27})
_ENCODER = msgspec.json.Encoder()


def _base(body: Body) -> str:
    """Take the address without the path that Splunk shows with it."""
    return re.sub(r"(?:/services/collector(?:/event)?)?/?$", "", str(body["url"]))


def _check(body: Body) -> list[DestinationFault]:
    faults = [*read_url({"url": _base(body)}, path_allowed=False), *read_trust(body.get("ca"))]
    if _TOKEN.fullmatch(str(body["token"])) is None:
        faults.append(DestinationFault(path="token", message="must be visible ASCII, of at most 200 characters"))
    return faults


@dataclass(slots=True)
class SplunkHec:
    """One collector; acknowledgements are told by the channel, which is the destination's for as long as it is open."""

    type: ClassVar[str] = "splunk_hec"
    batch: BatchRule
    url: str = field(repr=False)
    token: str = field(repr=False)
    # What every event has besides: index, sourcetype, host.
    given: Mapping[str, str]
    acknowledge: str
    caller: Caller
    channel: str = field(default_factory=lambda: str(uuid.uuid4()))

    def send(self, batch: Batch) -> Sent:
        """Send a batch, and wait until it is indexed if the token has acknowledgement."""
        deadline = Deadline()
        return send_in_portions(batch.items, lambda items: self._send(items, batch, deadline))

    def _send(self, items: Sequence[Item], batch: Batch, deadline: Deadline) -> Sent:
        body = b"\n".join(self._event(item, batch) for item in items)
        answer = self._post(EVENT_PATH, body, deadline)
        if answer.status == calling.TOO_LARGE:
            raise Divisible("answered 413: too large")
        # What stands before Splunk may answer with no JSON at all.
        said = answer.object() if answer.good else _said(answer)
        code = said.get("code")
        if not answer.good or (code is not None and code != 0):
            return _refused(items, answer, said)
        ack_id = said.get("ackId")
        if self.acknowledge == REQUIRED and not isinstance(ack_id, int):
            raise Transient("taken without an ackId: the token has no indexer acknowledgement")
        if self.acknowledge != OFF and isinstance(ack_id, int):
            self._await(ack_id, deadline)
        return Sent(delivered=[item.event_id for item in items])

    def _post(self, path: str, body: bytes, deadline: Deadline) -> Answer:
        headers = {
            "Authorization": f"Splunk {self.token}",
            "Content-Type": "application/json",
            CHANNEL_HEADER: self.channel,
        }
        return self.caller.post(f"{self.url}{path}", headers=headers, body=body, deadline=deadline)

    def _event(self, item: Item, batch: Batch) -> bytes:
        event: dict[str, object] = {
            **self.given,
            "time": msgspec.Raw(f"{item.timestamp.timestamp():.6f}".encode()),
            "event": msgspec.Raw(item.document),
            # Indexed fields are flat. By event_id repetitions are told: Splunk keeps both.
            "fields": {
                "event_id": item.event_id,
                "weight": item.weight,
                "stream_id": batch.stream_id,
                "stream_version": batch.stream_version,
            },
        }
        return _ENCODER.encode(event | ({"source": item.source} if item.source else {}))

    def _await(self, ack_id: int, deadline: Deadline) -> None:
        """Ask until what was sent is indexed; raises Transient if that takes too long, so that it is sent again."""
        pause = _ASKING_SECONDS_MIN
        while deadline.left > pause:
            answer = self._post(ACK_PATH, _ENCODER.encode({"acks": [ack_id]}), deadline)
            if not answer.good:
                raise Transient(_reason(answer, _said(answer)), retry_after_seconds=answer.retry_after_seconds)
            acks = answer.object().get("acks")
            if isinstance(acks, dict) and cast("dict[str, object]", acks).get(str(ack_id)) is True:
                return
            time.sleep(pause)
            pause = min(pause * 2, _ASKING_SECONDS_MAX)
        raise Transient("taken, but not acknowledged by the indexers within the time")

    def close(self) -> None:
        """Close the connections."""
        self.caller.close()


def _said(answer: Answer) -> dict[str, object]:
    try:
        return answer.object()
    except Transient:
        return {}


def _reason(answer: Answer, said: Mapping[str, object]) -> str:
    code, text = said.get("code"), text_at(said, "text")
    told = ", ".join(word for word in (text, f"code {code}" if isinstance(code, int) else "") if word)
    return f"answered {answer.status}" + (f": {told}" if told else "")


def _refused(items: Sequence[Item], answer: Answer, said: Mapping[str, object]) -> Sent:
    """Tell what a code means; where an event is at fault it is named, or found in halves."""
    code, reason = said.get("code"), _reason(answer, said)
    if code in _OF_AN_EVENT:
        number = said.get("invalid-event-number")
        if isinstance(number, int) and 0 <= number < len(items):
            wrong = items[number].event_id
            others = {item.event_id: "sent with an event that was refused" for item in items if item.event_id != wrong}
            return Sent(delivered=(), dead={wrong: reason}, retry=others, retry_after_seconds=0.0 if others else None)
        raise Divisible(reason)
    if code in _OF_THE_MOMENT or code in _OF_THE_DECLARATION:
        raise Transient(reason, retry_after_seconds=answer.retry_after_seconds)
    if answer.status in {calling.UNAUTHORIZED, calling.FORBIDDEN}:
        raise Transient(reason)
    failure = answer.failure(text_at(said, "text"))
    raise Permanent(reason) if isinstance(failure, Permanent) else failure


def _open(body: Body, site: Site) -> SplunkHec:
    rule = batch_rule(body, RULE)
    return SplunkHec(
        batch=rule,
        url=_base(body),
        token=str(body["token"]),
        given={name: str(body[name]) for name in ("index", "sourcetype", "host") if name in body},
        acknowledge=str(body.get("acknowledge", AUTO)),
        caller=Caller(site.outbound, ca=cast("str | None", body.get("ca")), connections_max=rule.at_once),
    )


KIND = DestinationType(
    type=SplunkHec.type,
    fields=(
        DeclaredField(name="url", meaning="Address of the collector, `https://host:8088`.", required=True),
        DeclaredField(name="token", meaning="Token of the collector.", required=True, secret=True),
        DeclaredField(name="index", meaning="Index; absent: the token's."),
        DeclaredField(name="sourcetype", meaning="Source type; absent: the token's."),
        DeclaredField(name="host", meaning="Host that the events are said to be from; absent: Splunk's choice."),
        DeclaredField(
            name="acknowledge",
            meaning="Whether to wait until events are indexed: where the token can tell, always, or never.",
            choices=(AUTO, REQUIRED, OFF),
            default=AUTO,
        ),
        calling.CA_FIELD,
        *batch_fields(RULE),
    ),
    check=_check,
    opened=_open,
)
