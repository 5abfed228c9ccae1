"""Events of a stream in a trial, as plain values: what is sent, what must become of each, and what must be delivered.

Nothing is sent here (`clients.py`). Each event says where it must go; the stream that is declared follows it. What was
to be masked has a form that is searched for in files.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from ingest_platform.feeds.stream_events.processing.sampling import draw_of
from ingest_platform_tests.crash.journal import Afterwards, Family, Form, Sending, Shown

STREAM = "orders"
# Behind it stands a number: what no file may have once everything has come to rest.
SECRET = "canary-of-a-trial-"
FRACTION = 0.5
KINDS = ("wanted", "sampled", "unwanted")
DESTINATIONS: Mapping[str, Mapping[str, object]] = {
    # So few that what one load has is parted.
    "disk": {"type": "files", "path": "exports/disk/", "format": "ndjson", "batch_seconds": 0, "batch_events": 10},
}
DECLARED: Mapping[str, object] = {
    "name": "orders",
    "envelope": "strict",
    "parse": [{"field": "event.inner", "as": "json", "on_error": "reject"}],
    "mask": [{"field": "event.secret", "how": "redact"}],
    "routes": {
        "match": "first",
        "rules": [
            {"name": "wanted", "when": 'event.kind == "wanted"', "to": ["disk"]},
            {"name": "sampled", "when": 'event.kind == "sampled"', "sample": FRACTION, "to": ["disk"]},
        ],
        "otherwise": "drop",
    },
}
COUNTED = ("received", "rejected", "dropped", "sampled_out", "routed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as it is sent; `code` says why it must be rejected, None that it must not."""

    number: int
    kind: str
    code: str | None = None

    def record(self) -> dict[str, object]:
        """Write it as a client does."""
        secret = f"{SECRET}{self.number}"
        event = {"number": self.number, "kind": self.kind, "secret": secret}
        said = {"timestamp": "2026-05-06T10:15:30Z", "source": "shop", "event": event}
        match self.code:
            case "invalid_timestamp":
                return said | {"timestamp": secret}
            case "unparsable":
                return said | {"event": event | {"inner": secret}}
            case _:
                return said


class Streamer:
    """Makes submissions of events of one trial from its seed; `first` is the number of the first."""

    def __init__(self, seed: int, *, first: int) -> None:
        self._random = random.Random(seed)
        self._next = first

    def batch(self, form: Form = Form.JSON, *, size: int = 12) -> Sending:
        """Make events, some of them bad."""
        number, self._next = self._next, self._next + 1
        chance = self._random
        bad = chance.sample(range(size), k=chance.choice((0, 0, 1, 2)))
        events = tuple(
            Event(
                number=number * 1_000 + place,
                kind=chance.choice(KINDS),
                code=chance.choice(("invalid_timestamp", "unparsable")) if place in bad else None,
            )
            for place in range(size)
        )
        records = [event.record() for event in events]
        if form is Form.FILE:
            content = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        else:
            content = json.dumps(records).encode()
        name = f"events-{number}.ndjson" if form is Form.FILE else ""
        return Sending(
            number=number, form=form, items=events, content=content, name=name, family=Family.STREAMS, target=STREAM
        )


@dataclass(slots=True, kw_only=True)
class Delivered:
    """What there is of a workspace's events afterwards."""

    # By event id: how often it is in the files of the destination, and its number there.
    files: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    # What the API says of the stream.
    stats: Shown = field(default_factory=dict[str, object])
    # Files with something in them that was to be masked; rows of the inbox with what came in.
    unmasked: list[str] = field(default_factory=list[str])
    bodies_kept: int = 0


def fate_of(event: Event, event_id: str) -> str:
    """Work out what must become of an event."""
    if event.code is not None:
        return "rejected"
    if event.kind == "sampled":
        return "routed" if draw_of(event_id, "sampled") < FRACTION else "sampled_out"
    return "routed" if event.kind == "wanted" else "dropped"


def fates(senders: Mapping[str, Sending], jobs: Mapping[str, Shown]) -> dict[tuple[str, int], str]:
    """Work out what must become of every event, by its id and number."""
    return {
        (event_id, event.number): fate_of(event, event_id)
        for job_id, sending in senders.items()
        if sending.family is Family.STREAMS and jobs[job_id]["state"] == "finished"
        for index, event in enumerate(cast("tuple[Event, ...]", sending.items))
        for event_id in [f"{job_id}-{index}"]
    }


def wrong_deliveries(senders: Mapping[str, Sending], jobs: Mapping[str, Shown], after: Afterwards) -> Iterator[str]:
    """List what is wrong with what was delivered, with the accounts, and with what should be gone."""
    expected = fates(senders, jobs)
    if not expected:
        return
    routed = Counter(place for place, fate in expected.items() if fate == "routed")
    found = cast("Delivered", after.delivered)
    lost, more = routed - found.files, found.files - routed
    if lost:
        yield f"8: {lost.total()} events were not delivered, such as {min(lost)}"
    if more:
        yield f"8: {more.total()} events were delivered twice or should not have been, such as {min(more)}"
    yield from _wrong_accounts(Counter(expected.values()), found.stats)
    if found.bodies_kept:
        yield f"21: the bodies of {found.bodies_kept} submissions are kept although their stream has masks"
    yield from (f"21: what is masked is still in {place}" for place in found.unmasked)


def _wrong_accounts(fates: Counter[str], stats: Shown) -> Iterator[str]:
    if stats.get("balanced") is not True:
        yield f"3: the accounts of the stream do not balance: {stats}"
    total = cast("Mapping[str, int]", stats["total"])
    expected = {name: fates[name] for name in COUNTED} | {"received": fates.total()}
    if {name: total[name] for name in COUNTED} != expected:
        yield f"3: the accounts of the stream tell {total}, it was {expected}"
    (disk,) = cast("list[Mapping[str, int]]", stats["destinations"]) or ({"delivered": 0, "waiting": 0, "dead": 0},)
    if (disk["delivered"], disk["waiting"], disk["dead"]) != (fates["routed"], 0, 0):
        yield f"3: {fates['routed']} events were routed, and the accounts tell {disk}"


def wrong_reply(sending: Sending, *, where: str) -> Iterator[str]:
    """What a request was answered is what became of it."""
    if sending.answer is None:
        return
    reply = json.loads(sending.answer)
    told = [each["index"] for each in reply.get("rejected", ())]
    if (reply["accepted_items"], told) != (len(sending.good), sorted(sending.bad)):
        yield f"3: {where} was answered {reply}, sent were {len(sending.good)} good events and bad ones {sending.bad}"
