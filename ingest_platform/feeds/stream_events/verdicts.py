"""What the door says of events, before anything is taken: the kernel's verdict, the envelope's, the parse steps'.

The run gives the same one on the same bytes. How it is worded is `wire.py`'s business.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from ingest_platform.domain.errors import Malformed, Unreadable
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.feeds.stream_events import wire
from ingest_platform.feeds.stream_events.declaration import Envelope
from ingest_platform.feeds.stream_events.envelopes import event_of, problems_of
from ingest_platform.feeds.stream_events.processing.parsing.parse import parse
from ingest_platform.feeds.stream_events.standing import Standing
from ingest_platform.feeds.stream_events.wire import BadEvent, BadEvents
from ingest_platform.pipeline.documents import BATCH_RECORDS, BOM, iter_document
from ingest_platform.pipeline.door import check_records
from ingest_platform.pipeline.records import BLANKS, DECODE_ERRORS

_is_json = msgspec.json.Decoder(msgspec.Raw).decode
_members = msgspec.json.Decoder(dict[str, object]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A body of which something is good: how many events there are, how many are bad, and the first of those."""

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
            return _judge_list(_elements(plain), stream)
        case _:
            raise Malformed(_what_is_wrong(plain))


def judge_lines(body: bytes, stream: Standing) -> Judged:
    """Judge a body with an event on each line. Raises Malformed if nothing of it is good."""
    lines = (line for line in body.removeprefix(BOM).split(b"\n") if line.strip(BLANKS))
    return _judge_list(lines, stream)


def judge_each(events: Iterable[bytes], stream: Standing) -> Iterator[Problem | None]:
    """Give the first problem of each event of a stream, None of a good one, some events at a time."""
    rest = iter(events)
    while some := list(islice(rest, BATCH_RECORDS)):
        yield from _judge_some(some, stream)


def _judge_some(events: Sequence[bytes], stream: Standing) -> list[Problem | None]:
    found: list[Problem | None] = [None] * len(events)
    for place, problems in check_records(events, stream.contract):
        found[place] = problems[0]
    if stream.envelope is Envelope.AUTO or stream.parse:
        good = {place: _members(events[place]) for place, problem in enumerate(found) if problem is None}
        for place, problem in _look_inside(good, stream):
            found[place] = problem
    return found


def _look_inside(documents: Mapping[int, dict[str, object]], stream: Standing) -> Iterator[tuple[int, Problem]]:
    """Find what is wrong with decoded events that keep their contract, by their places."""
    good = dict(documents)
    if stream.envelope is Envelope.AUTO:
        for place, document in documents.items():
            if problems := problems_of(document):
                del good[place]
                yield place, problems[0]
            else:
                good[place] = event_of(document)
    places = list(good)
    for fault in parse(list(good.values()), stream.parse):
        if fault.rejects:
            yield places[fault.place], Problem(code=Code.UNPARSABLE.value, field=fault.field, message=fault.message)


def _judge_alone(body: bytes, stream: Standing) -> Judged:
    (problem,) = _judge_some([body], stream)
    if problem is not None:
        raise BadEvents([BadEvent(index=0, problem=problem)], received=1, alone=True)
    return Judged(received=1)


def _judge_list(events: Iterable[bytes], stream: Standing) -> Judged:
    bad: list[BadEvent] = []
    received = rejected = 0
    for index, problem in enumerate(judge_each(events, stream)):
        received += 1
        if problem is not None:
            rejected += 1
            if len(bad) < wire.REJECTED_MAX:
                bad.append(BadEvent(index=index, problem=problem))
    if not received:
        raise Malformed(wire.NO_EVENTS)
    if received == rejected:
        raise BadEvents(bad, received=received, alone=False)
    return Judged(received=received, rejected=rejected, bad=bad)


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
