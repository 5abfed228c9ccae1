"""A process apart in which one submission after the other is parsed and checked, with limits on memory and time.

Bytes that break a parser break the child, and cost their own submission only. What the child does is in
`sandboxed.py`; it gets no environment of ours, so it knows no credentials.
"""

import contextlib
import io
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import polars as pl
import structlog

from ingest_platform.domain.contract import Contract
from ingest_platform.domain.errors import ParserFault, Unreadable
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.rejection import Rejection
from ingest_platform.domain.submission import Submission
from ingest_platform.pipeline.given import Withdrawn
from ingest_platform.pipeline.messages import (
    LENGTH_BYTES,
    MESSAGE_BYTES_MAX,
    Crashed,
    Done,
    Progress,
    Ready,
    Refused,
    Reply,
    Request,
    read_rejections,
    staged_file,
)
from ingest_platform.pipeline.parse import BYTES_MAX

log = structlog.get_logger(__name__)

MIB = 1024 * 1024
# Address space, not memory: the libraries reserve about 1 GiB of it before anything is read.
ADDRESS_BYTES_MAX = 4096 * MIB
# No frame takes this long, so the parser is going in circles.
SILENCE_SECONDS_MAX = 30.0
TOTAL_SECONDS_MAX = 600.0
# Importing takes 1 to 2 s, more while every process of a machine starts at once.
START_SECONDS_MAX = 60.0
# A child that holds on to more than this after its work is replaced.
RESIDENT_BYTES_MAX = 600 * MIB
# Each is an object in the worker and a row in the ledger: a million take about 300 MB there.
REJECTIONS_MAX = 1_000_000
KILLED_FROM_OUTSIDE = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Reply).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSubmission:
    """A submission that was read apart to its end; its accepted records were given meanwhile."""

    rejections: list[Rejection]
    received: int


class _Overdue(Exception):
    """The child kept silent, or worked, for too long."""


class _Died(Exception):
    """The child ended in the middle of its work."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Sandbox:
    """Keeps one child warm. Threads take turns."""

    def __init__(
        self,
        *,
        address_bytes_max: int = ADDRESS_BYTES_MAX,
        silence_seconds_max: float = SILENCE_SECONDS_MAX,
        total_seconds_max: float = TOTAL_SECONDS_MAX,
        resident_bytes_max: int = RESIDENT_BYTES_MAX,
    ) -> None:
        self._address_bytes_max = address_bytes_max
        self._silence_seconds_max = silence_seconds_max
        self._total_seconds_max = total_seconds_max
        self._resident_bytes_max = resident_bytes_max
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._closed = False

    def start(self) -> None:
        """Start the child now, so that the first submission need not wait for it."""
        with self._turn:
            self._warm()

    def close(self) -> None:
        """End the child; a submission that is being read ends with it."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()
        with self._turn:
            self._discard()

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        child = self._child
        return None if child is None else child.pid

    def run(self, request: Request) -> Generator[Progress | Withdrawn, None, Done]:
        """Have a submission read, and tell of its frames while it goes on. To be taken to its end, or closed.

        Raises Unreadable if that is the submission's doing, else ParserFault.
        """
        with self._turn:
            try:
                return (yield from self._run(request))
            except _Died as died:
                if died.status not in KILLED_FROM_OUTSIDE or self._closed:
                    raise self._blame(died) from died
            # Killed by somebody else, or for memory of the whole machine: not necessarily for these bytes.
            log.warning("parser restarted", path=request.path)
            yield Withdrawn(request.ordinal)
            try:
                return (yield from self._run(request))
            except _Died as died:
                raise self._blame(died) from died

    def _blame(self, died: _Died) -> Exception:
        if self._closed:
            return ParserFault("The parser was closed.")
        return Unreadable(f"The data broke their parser (status {died.status}).", code="unreadable")

    def _run(self, request: Request) -> Generator[Progress, None, Done]:
        child = self._warm()
        try:
            reply = yield from self._ask(child, request)
        except _Overdue as overdue:
            self._discard()
            raise Unreadable(str(overdue), code="too_heavy") from overdue
        except BaseException:
            # It is in the middle of something, or dead.
            self._discard()
            raise
        if reply.resident_bytes > self._resident_bytes_max:
            log.info("parser retired", resident_bytes=reply.resident_bytes)
            self._discard()
        if isinstance(reply, Refused):
            raise Unreadable(reply.message, code=reply.code)
        if isinstance(reply, Crashed):
            raise ParserFault(reply.trace)
        return reply

    def _ask(self, child: "_Child", request: Request) -> Generator[Progress, None, Done | Refused | Crashed]:
        until = time.monotonic() + self._total_seconds_max
        child.send(_encode(request))
        while True:
            reply = child.receive(min(self._silence_seconds_max, until - time.monotonic()))
            if isinstance(reply, Done | Refused | Crashed):
                return reply
            if isinstance(reply, Progress):
                given = time.monotonic()
                yield reply
                # What is done with a frame is not the parser's time.
                until += time.monotonic() - given

    def _warm(self) -> "_Child":
        if self._closed:
            raise ParserFault("The parser was closed.")
        if self._child is not None and not self._child.alive:
            self._discard()
        if self._child is None:
            child = self._child = _Child(self._address_bytes_max)
            try:
                ready = child.receive(START_SECONDS_MAX)
                assert isinstance(ready, Ready), ready
            except (_Overdue, _Died) as error:
                self._discard()
                raise ParserFault(f"The parser did not start: {error}") from error
        return self._child

    def _discard(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.close()


class _Child:
    """A process and its pipes."""

    def __init__(self, address_bytes_max: int) -> None:
        command = [sys.executable, "-m", "ingest_platform.pipeline.sandboxed", str(address_bytes_max)]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module.
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A session of its own: Ctrl-C at the terminal ends the worker in order, not its parser in the middle.
            start_new_session=True,
            env=_environment(),
        )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._requests: IO[bytes] = self._process.stdin
        self._replies = self._process.stdout.fileno()
        self._drain = threading.Thread(
            target=_log_lines, args=(self._process.stderr, self.pid), name="parser-stderr", daemon=True
        )
        self._drain.start()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def send(self, message: bytes) -> None:
        """Write a message."""
        try:
            self._requests.write(len(message).to_bytes(LENGTH_BYTES) + message)
            self._requests.flush()
        except BrokenPipeError:
            raise _Died(self._process.wait()) from None

    def receive(self, seconds_max: float) -> Reply:
        """Wait for the next message."""
        until = time.monotonic() + seconds_max
        length = int.from_bytes(self._exactly(LENGTH_BYTES, until))
        if length > MESSAGE_BYTES_MAX:
            # Only a child that was taken over says so much.
            raise Unreadable("The data broke their parser.", code="unreadable")
        try:
            return _decode(self._exactly(length, until))
        except msgspec.MsgspecError as error:
            raise Unreadable("The data broke their parser.", code="unreadable") from error

    def _exactly(self, count: int, until: float) -> bytes:
        taken = b""
        while len(taken) < count:
            seconds = max(until - time.monotonic(), 0.0)
            if not select.select([self._replies], [], [], seconds)[0]:
                raise _Overdue("The data took their parser too long.")
            piece = os.read(self._replies, count - len(taken))
            if not piece:
                raise _Died(self._process.wait())
            taken += piece
        return taken

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """Take the process's status and close the pipes."""
        self._process.wait()
        self._drain.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        # What was not sent is lost with the process.
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()


def _environment() -> dict[str, str]:
    """Make the child's whole environment: nothing of ours is in it, so no credentials are."""
    return {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LANG": "C.UTF-8",
        # Every thread of the pool reserves address space, and frames are checked one after the other.
        "POLARS_MAX_THREADS": "1",
    }


def _log_lines(stream: IO[bytes], pid: int) -> None:
    with stream:
        for line in stream:
            log.warning("parser said", pid=pid, line=line[:1000].decode(errors="replace").rstrip())


def run_apart(
    sandbox: Sandbox,
    submission_path: Path,
    *,
    submission: Submission,
    ordinal: int,
    feed: Feed,
    contract: Contract,
    origins: pl.DataFrame,
    known: pl.DataFrame,
    folder: Path,
    bytes_max: int = BYTES_MAX,
    rejections_max: int = REJECTIONS_MAX,
    progress: Callable[[], None] = lambda: None,
) -> Generator[Path | Withdrawn, None, ReadSubmission]:
    """Parse and check the submission whose bytes are in a file, in the sandbox, which reads on while a frame is used.

    Yields files of accepted records as they are complete; each is deleted when the next one is asked for. `progress` is
    called after every frame; what it raises ends the reading. Raises Unreadable, or ParserFault: what was given is void
    then, as it is when it is withdrawn. To be taken to its end, or closed.
    """
    request = Request(
        path=str(submission_path),
        format=submission.format.value,
        encoding=submission.encoding.value,
        ordinal=ordinal,
        envelope_key=feed.envelope_key,
        # Ours, to our own child: nothing that comes back is unpickled.
        feed=pickle.dumps((contract, feed.refer)),
        origins=_as_ipc(origins),
        known=_as_ipc(known),
        folder=str(folder),
        bytes_max=bytes_max,
        rejections_max=rejections_max,
    )
    done = yield from _files(sandbox, request, progress)
    rejections = list(read_rejections(folder / f"{ordinal}.rejections", ordinal))
    if done.accepted + len(rejections) != done.received:
        raise ParserFault(f"{done.received} received, {done.accepted} accepted, {len(rejections)} rejected")
    return ReadSubmission(rejections=rejections, received=done.received)


def _files(sandbox: Sandbox, request: Request, progress: Callable[[], None]) -> Generator[Path | Withdrawn, None, Done]:
    given = 0
    with contextlib.closing(sandbox.run(request)) as reading:
        while True:
            try:
                said = next(reading)
            except StopIteration as end:
                done: Done = end.value
                break
            if isinstance(said, Withdrawn):
                given = 0
                yield said
                continue
            progress()
            if said.files != given:
                path = staged_file(request, given)
                yield path
                path.unlink()
                given += 1
    if done.files != given:
        raise ParserFault(f"{done.files} files staged, {given} told of")
    return done


def _as_ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="uncompressed")
    return buffer.getvalue()
