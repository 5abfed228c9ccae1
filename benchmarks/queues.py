"""Clients of NATS JetStream and Redis streams, in a Python of its own: an event at a time on each of many connections.

Each sends its next event when the last one was acknowledged. It reads what to do as JSON from standard input and writes
what it saw as JSON to standard output.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

import nats
import redis.asyncio

Act = Callable[[], Awaitable[object]]
SUBJECT = "events"


async def _connect_nats(asked: dict[str, object], event: bytes) -> tuple[Act, Act]:
    connection = await nats.connect(f"nats://{asked['host']}:{asked['port']}")
    stream = connection.jetstream()
    # Harmless if it is there.
    await stream.add_stream(name=SUBJECT, subjects=[SUBJECT])
    return lambda: stream.publish(SUBJECT, event), connection.close


async def _connect_redis(asked: dict[str, object], event: bytes) -> tuple[Act, Act]:
    connection = redis.asyncio.Redis(
        host=str(asked["host"]), port=int(str(asked["port"])), single_connection_client=True
    )
    await connection.initialize()
    return lambda: connection.xadd(SUBJECT, {"event": event}), connection.aclose


async def _send_on(send: Act, seen: list[float], *, until: float, counted_from: float) -> int:
    requests = 0
    while (began := time.perf_counter()) < until:
        await send()
        requests += 1
        ended = time.perf_counter()
        if began >= counted_from and ended <= until:
            seen.append(ended - began)
    return requests


async def measure(asked: dict[str, object]) -> dict[str, object]:
    """Send for a while over some connections."""
    connect = {"nats": _connect_nats, "redis": _connect_redis}[str(asked["queue"])]
    event = str(asked["event"]).encode()
    connected = [await connect(asked, event) for _ in range(int(str(asked["connections"])))]
    began = time.perf_counter()
    counted_from = began + float(str(asked["warm_seconds"]))
    until = counted_from + float(str(asked["seconds"]))
    seen: list[float] = []
    counts = await asyncio.gather(
        *(_send_on(send, seen, until=until, counted_from=counted_from) for send, _ in connected)
    )
    await asyncio.gather(*(close() for _, close in connected))
    seen.sort()
    return {
        "per_second": len(seen) / (until - counted_from),
        "p50_seconds": seen[len(seen) // 2],
        "p99_seconds": seen[len(seen) * 99 // 100],
        "requests": sum(counts),
    }


def main() -> None:
    """Do what standard input asks for."""
    print(json.dumps(asyncio.run(measure(json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
