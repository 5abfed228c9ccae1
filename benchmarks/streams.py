"""Streams: how many events a second go through a pipeline of ten rules and five masks, on frames of 100,000.

No platform is started: this is `refer`, the function that a load calls for its frames, in this process. Beside it, in
turns, the same events are decoded by msgspec and encoded again, and nothing else: the limit of whatever looks into
every event in Python.
"""

import gc
import json
import random
import re
import time
from collections.abc import Callable, Sequence

import msgspec
import polars as pl

from benchmarks.results import Row, keep, median, show
from ingest_platform.feeds.stream_events.processing.engine import SLICE_EVENTS
from ingest_platform.feeds.stream_events.refer import refer
from ingest_platform.pipeline.references import KNOWN_SCHEMA, ORIGINS_SCHEMA

FRAME_EVENTS = 100_000
# One takes half a second.
ROUNDS_MIN = 7
GOAL_PER_SECOND = 200_000
PIPELINE = {
    "name": "payments",
    "mask": [
        {"field": "event.card_number", "how": "partial", "keep_last": 4},
        {"field": "event.user_email", "how": "hash"},
        {"pattern": "email", "how": "redact"},
        {"pattern": "card", "how": "redact"},
        {"pattern": "ipv4", "how": "redact"},
    ],
    "routes": {
        "match": "first",
        "rules": [
            {
                "name": "errors",
                "when": 'event.level == "ERROR" and metadata.env in ["prod", "staging"]',
                "to": ["archive", "siem"],
            },
            {"name": "timeouts", "when": 'event.message contains "timeout"', "to": ["archive", "siem"]},
            {"name": "declined", "when": 'event.message matches "card .* declined"', "to": ["archive"]},
            {"name": "large", "when": 'event.amount > 4000 and event.currency == "EUR"', "to": ["archive"]},
            {"name": "slow", "when": "event.latency_ms / 1000 > 0.9", "to": ["archive"]},
            {"name": "failed", "when": "event.status >= 500 or event.status == 429", "to": ["archive"]},
            {"name": "by-card", "when": 'exists(event.card_number) and metadata.env == "prod"', "to": ["archive"]},
            {"name": "abroad", "when": 'not (metadata.region starts_with "eu-")', "to": ["archive"]},
            {"name": "chatter", "when": "event.latency_ms < 100", "sample": 0.01, "to": ["archive"]},
            {"name": "shop", "when": 'source in ["shop-web", "shop-app"]', "sample": 0.5, "to": ["archive"]},
        ],
        "otherwise": ["default"],
    },
}
# What is counted in the events as they are sent.
KINDS = {
    "field with a card": r'"card_number":',
    "field with an address": r'"user_email":',
    "e-mail in a text": r'"message":"[^"]*[a-z0-9]@[a-z]',
    "IPv4 in a text": r"10\.\d+\.\d+\.\d+",
    "card in a text": r'"message":"[^"]*4111',
    "escape": r"\\",
}


def run(*, rounds: int) -> None:
    """Measure frames of 100,000 events."""
    sent = _events(FRAME_EVENTS)
    frame = _frame(sent)
    origins, known = _catalog()

    def work() -> int:
        events, problems = refer(frame, origins=origins, known=known)
        return events.height + problems.height

    variants: dict[str, Callable[[], int]] = {"pipeline": work, "decode and encode": lambda: _bare(sent)}
    # The first call compiles the rules.
    assert all(variant() == FRAME_EVENTS for variant in variants.values())
    walls: dict[str, list[float]] = {name: [] for name in variants}
    processor: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            begun, used = time.perf_counter(), time.process_time()
            variant()
            walls[name].append(time.perf_counter() - begun)
            processor[name].append(time.process_time() - used)
    bare = median(walls["decode and encode"])
    rows: list[Row] = [
        {
            "events of": name,
            "events/s": FRAME_EVENTS / median(walls[name]),
            "best": FRAME_EVENTS / min(walls[name]),
            "CPU µs each": median(processor[name]) / FRAME_EVENTS * 1e6,
            "of decode and encode": bare / median(walls[name]),
            "goal": GOAL_PER_SECOND if name == "pipeline" else "",
        }
        for name in variants
    ]
    shares = _shares(sent)
    show("streams: what is in the events", [shares])
    show("streams: ten rules, five masks", rows)
    keep("stream-pipeline", {"events": shares, "pipeline": rows})


def _bare(sent: Sequence[bytes]) -> int:
    """Decode and encode, as many at a time as the pipeline takes."""
    decode, encoder = msgspec.json.Decoder().decode, msgspec.json.Encoder()
    lines = 0
    # As the pipeline does; it would look at all that was decoded again and again.
    gc.disable()
    for at in range(0, len(sent), SLICE_EVENTS):
        documents = decode(b"[%b]" % b",".join(sent[at : at + SLICE_EVENTS]))
        lines += encoder.encode_lines(documents).count(b"\n")
    gc.enable()
    return lines


def _shares(sent: Sequence[bytes]) -> Row:
    texts = [event.decode() for event in sent]
    shares: dict[str, object] = {"bytes each": sum(map(len, sent)) / len(sent)}
    for name, pattern in KINDS.items():
        shares[name] = f"{sum(re.search(pattern, text) is not None for text in texts) / len(texts):.0%}"
    return shares


def _events(count: int) -> list[bytes]:
    """Make events like the one of the contract: of payments, with what has to be masked in some of them."""
    chance = random.Random(5)
    return [msgspec.json.encode(_event(chance, number)) for number in range(count)]


def _event(chance: random.Random, number: int) -> dict[str, object]:
    user = chance.randrange(20_000)
    event: dict[str, object] = {
        "level": chance.choices(["INFO", "WARN", "ERROR"], [80, 15, 5])[0],
        "message": _message(chance, user),
        "transaction_id": f"tx_{chance.getrandbits(64):016x}",
        "latency_ms": int(chance.expovariate(1 / 200)),
        "status": chance.choices([200, 201, 404, 429, 500], [70, 20, 5, 2, 3])[0],
        "amount": round(chance.uniform(1, 5000), 2),
        "currency": chance.choice(["EUR", "USD", "GBP"]),
        "path": f"/v1/payments/{number}",
        "user": {"id": user, "plan": chance.choice(["free", "team"])},
    }
    if chance.random() < 0.25:
        event["card_number"] = f"4111 1111 {chance.randrange(10_000):04} {chance.randrange(10_000):04}"
    if chance.random() < 0.3:
        event["user_email"] = f"user{user}@example.com"
    return {
        "timestamp": f"2026-05-06T10:{chance.randrange(60):02}:{chance.randrange(60):02}.{chance.randrange(1000):03}Z",
        "source": chance.choice(["payments-api", "ledger", "fraud", "shop-web", "shop-app", "gateway"]),
        "event": event,
        "metadata": {
            "env": chance.choice(["prod", "prod", "staging", "dev"]),
            "region": chance.choice(["eu-west-1", "eu-central-1", "us-east-1"]),
            "host": f"ip-{chance.randrange(256)}-{chance.randrange(256)}",
            "version": "1.17.3",
            "trace_id": f"{chance.getrandbits(128):032x}",
        },
    }


def _message(chance: random.Random, user: int) -> str:
    message = chance.choice(
        ["POST /v1/payments answered", "retry of the authorisation", "timeout of the acquirer", "settlement booked"]
    )
    if chance.random() < 0.3:
        message += f" for 10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}"
    if chance.random() < 0.05:
        message += f", told user{user}@example.com"
    if chance.random() < 0.02:
        message = "card 4111111111111111 declined"
    if chance.random() < 0.05:
        message += '\n  File "gateway.py", line 17, in charge'
    return message


def _frame(sent: Sequence[bytes]) -> pl.DataFrame:
    count = len(sent)
    return pl.DataFrame(
        {
            "submission": pl.repeat(0, count, dtype=pl.UInt32, eager=True),
            "record_index": pl.int_range(count, dtype=pl.Int64, eager=True),
            "timestamp": pl.repeat(0, count, dtype=pl.Int64, eager=True).cast(pl.Datetime("us", "UTC")),
            "document": [event.decode() for event in sent],
        }
    )


def _catalog() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Lay out one submission, and the one version of its stream."""
    place = {"submission": 0, "job_id": "evt_01kqzcjrpyf27tge33jwvjhkff", "workspace": "bench", "target": "payments"}
    version = {"workspace": "bench", "kind": "streams", "id": "payments", "version": 1, "revision": 1, "retired": False}
    return (
        pl.DataFrame([{**place, "catalog_revision": 1, "sites": None, "secret": bytes(32)}], schema=ORIGINS_SCHEMA),
        pl.DataFrame([{**version, "body": json.dumps(PIPELINE)}], schema=KNOWN_SCHEMA),
    )
