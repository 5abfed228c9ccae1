"""What the door says of events, before anything is taken: the kernel's own verdict on each, and the envelope's.

The run gives the same one on the same bytes. How it is worded is `wire.py`'s business.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from ingest_platform.domain.errors import Malformed, Unreadable
from ingest_platform.domain.rejection import Problem
from ingest_platform.feeds.stream_events import wire
from ingest_platform.feeds.stream_events.declaration import Envelope
from ingest_platform.feeds.stream_events.envelopes import problems_of
from ingest_platform.feeds.stream_events.standing import Standing
from ingest_platform.feeds.stream_events.wire import BadEvent, BadEvents
from ingest_platform.pipeline.documents import BOM, iter_document
from ingest_platform.pipeline.door import check_record
from ingest_platform.pipeline.records import BLANKS, DECODE_ERRORS

_is_json = msgspec.json.Decoder(msgspec.Raw).decode
_members = msgspec.json.Decoder(dict[str, object]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A body of which something is good: how many events there are, how many are bad, and the first of those."""

    # What is landed: an event that was sent alone lies in an array.
    body: bytes
    received: int
    rejected: int = 0
    bad: Sequence[BadEvent] = ()

    @property
    def accepted(self) -> int:
        """How many are good."""
        return self.received - self.rejected


def judge_json(body: bytes, stream: Standing) -> Judged:
    """Judge a body that is one event or an array of them. Raises Malformed if nothing of it is good."""
    plain = body.removeprefix(BOM)
    match plain.lstrip(BLANKS)[:1]:
        case b"{":
            return _judge_alone(plain, stream)
        case b"[":
            return _judge_each(body, _elements(body), stream)
        case _:
            raise Malformed(_what_is_wrong(plain))


def judge_lines(body: bytes, stream: Standing) -> Judged:
    """Judge a body with an event on each line. Raises Malformed if nothing of it is good."""
    lines = (line for line in body.removeprefix(BOM).split(b"\n") if line.strip(BLANKS))
    return _judge_each(body, lines, stream)


def judge(raw: bytes, stream: Standing) -> Sequence[Problem]:
    """List what is wrong with one event of a stream."""
    problems = check_record(raw, stream.contract)
    if problems or stream.envelope is Envelope.STRICT:
        return problems
    return problems_of(_members(raw))


def _judge_alone(body: bytes, stream: Standing) -> Judged:
    problems = judge(body, stream)
    if problems:
        raise BadEvents([BadEvent(index=0, problem=problems[0])], received=1, alone=True)
    return Judged(body=b"[%b]" % body, received=1)


def _judge_each(body: bytes, events: Iterable[bytes], stream: Standing) -> Judged:
    bad: list[BadEvent] = []
    received = rejected = 0
    for index, raw in enumerate(events):
        received += 1
        if problems := judge(raw, stream):
            rejected += 1
            if len(bad) < wire.REJECTED_MAX:
                bad.append(BadEvent(index=index, problem=problems[0]))
    if not received:
        raise Malformed(wire.NO_EVENTS)
    if received == rejected:
        raise BadEvents(bad, received=received, alone=False)
    return Judged(body=body, received=received, rejected=rejected, bad=bad)


def _elements(body: bytes) -> Iterable[bytes]:
    """Cut a body into the elements of its array. Raises Malformed."""
    try:
        for some in iter_document(body, envelope_key=""):
            yield from some
    except Unreadable:
        raise Malformed(wire.NOT_JSON) from None


def _what_is_wrong(body: bytes) -> str:
    try:
        _is_json(body)
    except DECODE_ERRORS:
        return wire.NOT_JSON
    return wire.NEITHER
