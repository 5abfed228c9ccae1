"""A client in a process of its own that costs little: prepared bytes over connections that stay open, in a closed loop.

Each connection sends its next request when it has the answer to the last one. It reads what to do as JSON from standard
input and writes what it saw as JSON to standard output.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

HEAD_END = b"\r\n\r\n"
# What is still on its way when the time is over is waited for, because the server has paid for it.
LAST_SECONDS_MAX = 10.0
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE).search


def quantile(values: Sequence[float], share: float) -> float:
    """Give the value that a share of the values does not exceed; NaN if there are none.

    >>> quantile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered)) - 1))]


@dataclass(slots=True, kw_only=True)
class Seen:
    """What all connections saw; `counting` once they are warm."""

    request: bytes
    until: float
    counting: bool = False
    seconds: list[float] = field(default_factory=list[float])
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    requests: int = 0


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, seen: Seen, ended: "asyncio.Future[None]") -> None:
        self._seen = seen
        self._ended = ended
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature.
        """Count a connection that the server closed as a failure."""
        if not self._ended.done():
            self._count("closed")
            self._ended.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._seen.request)

    def data_received(self, data: bytes) -> None:
        """Take an answer, and send the next request if there is time."""
        received = self._received = self._received + data if self._received else data
        end = received.find(HEAD_END)
        if end < 0:
            return
        length = _LENGTH(received, 0, end)
        if len(received) < end + len(HEAD_END) + (int(length[1]) if length else 0):
            return
        self._received = b""
        now = time.perf_counter()
        self._seen.requests += 1
        if self._seen.counting:
            self._seen.seconds.append(now - self._sent_at)
        self._count(received[9:12].decode())
        if now < self._seen.until:
            self._send()
            return
        self._ended.set_result(None)
        self._transport.close()

    def _count(self, status: str) -> None:
        self._seen.statuses[status] = self._seen.statuses.get(status, 0) + 1


async def measure(asked: dict[str, object]) -> dict[str, object]:
    """Send for a while over some connections."""
    loop = asyncio.get_running_loop()
    host, port, connections = str(asked["host"]), int(str(asked["port"])), int(str(asked["connections"]))
    warm, length = float(str(asked["warm_seconds"])), float(str(asked["seconds"]))
    seen = Seen(request=str(asked["request"]).encode(), until=time.perf_counter() + warm + length)
    ends = [loop.create_future() for _ in range(connections)]
    for end in ends:
        await loop.create_connection(lambda end=end: Connection(seen, end), host, port)
    await asyncio.sleep(warm)
    seen.counting = True
    began = time.perf_counter()
    await asyncio.sleep(max(0.0, seen.until - began))
    counted, lasted = len(seen.seconds), time.perf_counter() - began
    await asyncio.wait(ends, timeout=LAST_SECONDS_MAX)
    return {
        "per_second": counted / lasted,
        "p50_seconds": quantile(seen.seconds, 0.5),
        "p99_seconds": quantile(seen.seconds, 0.99),
        "statuses": seen.statuses,
        "requests": seen.requests,
    }


def main() -> None:
    """Do what standard input asks for."""
    print(json.dumps(uvloop.run(measure(json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
