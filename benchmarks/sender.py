"""A client that sends at a steady rate, whatever the answers do, in a process of its own, and waits for some jobs.

It reads what to do as JSON from standard input and writes what it saw as JSON to standard output.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Self

import uvloop

from benchmarks.accept import HOST, body_of, request_of
from benchmarks.client import quantile

# More than are ever busy at the rates that are measured.
CONNECTIONS_MAX = 64
# Jobs waited for at a time: enough for percentiles, few enough for the waiting not to be the load.
WATCHED_PER_SECOND = 2.0
WAIT_SECONDS = 30


class Line:
    """One connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection(HOST, port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; the answer's status and body."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()


@dataclass(slots=True, kw_only=True)
class Sender:
    """Sends, and remembers what it saw."""

    port: int
    token: str
    items: int
    idle: list[Line] = field(default_factory=list[Line])
    limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS_MAX))
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    accepted_seconds: list[float] = field(default_factory=list[float])
    finished_seconds: list[float] = field(default_factory=list[float])

    async def submit(self, number: int, *, first: int, watched: bool) -> None:
        """Send one submission; wait for its end if it is watched."""
        request = request_of(body_of(self.items, first=first + number * self.items), self.token)
        began = time.perf_counter()
        status, body = await self._ask(request)
        self.accepted_seconds.append(time.perf_counter() - began)
        self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1
        if not watched or status != 202:
            return
        job_id = json.loads(body)["job_id"]
        path = f"/v1/jobs/{job_id}?wait={WAIT_SECONDS}"
        asked = f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {self.token}\r\n\r\n"
        _, body = await self._ask(asked.encode())
        if json.loads(body)["state"] == "finished":
            self.finished_seconds.append(time.perf_counter() - began)

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        async with self.limit:
            line = self.idle.pop() if self.idle else await Line.open(self.port)
            answer = await line.ask(request)
            self.idle.append(line)
        return answer


async def send(asked: dict[str, object]) -> dict[str, object]:
    """Send at a rate for a while."""
    rate, seconds, first = float(str(asked["rate"])), float(str(asked["seconds"])), int(str(asked["first"]))
    sender = Sender(port=int(str(asked["port"])), token=str(asked["token"]), items=int(str(asked["items"])))
    every = max(1, round(rate / WATCHED_PER_SECOND))
    tasks: list[asyncio.Task[None]] = []
    began = time.perf_counter()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(sender.submit(number, first=first, watched=number % every == 0)))
    sent = time.perf_counter() - began
    await asyncio.gather(*tasks)
    for line in sender.idle:
        line.close()
    return {
        "sent": len(tasks),
        "seconds": sent,
        "statuses": sender.statuses,
        "accepted_p50_seconds": quantile(sender.accepted_seconds, 0.5),
        "accepted_p99_seconds": quantile(sender.accepted_seconds, 0.99),
        "finished_p50_seconds": quantile(sender.finished_seconds, 0.5),
        "finished_p95_seconds": quantile(sender.finished_seconds, 0.95),
    }


def main() -> None:
    """Do what standard input asks for."""
    print(json.dumps(uvloop.run(send(json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
