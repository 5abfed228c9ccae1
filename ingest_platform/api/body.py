"""Request bodies: read at a least pace, decompressed, bounded before and after. What is in them is not known here.

Bytes are pushed through sinks, so that a body of any size needs the memory of one piece.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Protocol

import zstandard
from starlette.datastructures import Headers
from starlette.types import Receive

from ingest_platform.domain.errors import Malformed, PayloadTooLarge, TooSlow, UnsupportedFormat
from ingest_platform.domain.submission import Encoding

KIB = 1024
# A body that brings less than this in a window is not coming: its connection is worth more than its rest.
WINDOW_BYTES_MIN = 64 * KIB
WINDOW_SECONDS = 30.0
# Pieces are gathered to this size before a thread is asked to write them: fewer hops, still flat memory.
PIECE_BYTES = 512 * KIB
INFLATED_PIECE_BYTES = 256 * KIB
# RFC 9659: a window that every decoder of `Content-Encoding: zstd` must support, and none must exceed.
ZSTD_WINDOW_BYTES_MAX = 8 * KIB * KIB
# A zstd block of 4 bytes may stand for 128 KiB, and the decoder can't be told to stop within one call.
_ZSTD_SLICE_BYTES = 512
_GZIP_MAGIC = b"\x1f\x8b"


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Sink(Protocol):
    """Somewhere that bytes are pushed to."""

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        ...

    def close(self) -> None:
        """Learn that there are no more bytes."""
        ...


class Body:
    """The body of one request as it comes from the connection."""

    def __init__(
        self, receive: Receive, headers: Headers, *, bytes_max: int, window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._receive = receive
        self._headers = headers
        self._bytes_max = bytes_max
        self._window_seconds = window_seconds
        self.received = 0
        self.complete = False

    @property
    def encoding(self) -> Encoding:
        """Read `Content-Encoding`; raise UnsupportedFormat if it is not one of ours."""
        return encoding_of(self._headers.get("content-encoding", ""))

    def refuse_declared_excess(self) -> None:
        """Raise PayloadTooLarge before anything is read when the declared length is too large already."""
        length = self._headers.get("content-length", "")
        if length.isdigit() and int(length) > self._bytes_max:
            raise too_large(self._bytes_max)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come; raise when they are too many or too slow."""
        self.refuse_declared_excess()
        clock = asyncio.get_running_loop().time
        # Only waiting counts: what we take to store a piece is not the client's slowness.
        waited, in_window = 0.0, 0
        while not self.complete:
            began = clock()
            piece = await self._next(self._window_seconds - waited)
            waited += clock() - began
            in_window += len(piece)
            if in_window >= WINDOW_BYTES_MIN:
                waited, in_window = 0.0, 0
            self.received += len(piece)
            if self.received > self._bytes_max:
                raise too_large(self._bytes_max)
            if piece:
                yield piece

    async def _next(self, seconds_max: float) -> bytes:
        try:
            async with asyncio.timeout(max(seconds_max, 0)):
                message = await self._receive()
        except TimeoutError:
            pace = f"{WINDOW_BYTES_MIN} bytes in {self._window_seconds:g} seconds"
            raise TooSlow(f"The body came more slowly than {pace}.") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.complete = not message.get("more_body", False)
        return message.get("body", b"")

    async def read(self) -> bytes:
        """Read all of it, decompressed; for bodies whose limit is small enough to be held."""
        encoding = self.encoding
        if encoding is Encoding.IDENTITY:
            return b"".join([piece async for piece in self.pieces()])
        whole = Whole()
        await self.drain_into(decoding(encoding, Bounded(whole, bytes_max=self._bytes_max)))
        return whole.content()

    async def drain_into(self, sink: Sink) -> None:
        """Push all of it, as sent, through a sink, in another thread, a large piece at a time."""
        gathered = bytearray()
        async for piece in self.pieces():
            gathered += piece
            if len(gathered) >= PIECE_BYTES:
                await asyncio.to_thread(sink.write, bytes(gathered))
                gathered.clear()
        await asyncio.to_thread(_finish, sink, bytes(gathered))


def _finish(sink: Sink, rest: bytes) -> None:
    if rest:
        sink.write(rest)
    sink.close()


def too_large(bytes_max: int) -> PayloadTooLarge:
    """Word the refusal of a body that is over a limit."""
    return PayloadTooLarge(f"The body is larger than the limit of {bytes_max} bytes (as sent, or once decompressed).")


def encoding_of(name: str) -> Encoding:
    """Read the name of a content encoding; raise UnsupportedFormat if it is not one of ours.

    >>> encoding_of("x-gzip").value
    'gzip'
    """
    match name.strip().lower():
        case "" | "identity":
            return Encoding.IDENTITY
        case "gzip" | "x-gzip":
            return Encoding.GZIP
        case "zstd":
            return Encoding.ZSTD
        case _:
            message = "Content-Encoding must be gzip, zstd or identity."
            raise UnsupportedFormat(message, code="unsupported_encoding", headers={"Accept-Encoding": "gzip, zstd"})


def decoding(encoding: Encoding, sink: Sink) -> Sink:
    """Put a decompressor before a sink."""
    match encoding:
        case Encoding.IDENTITY:
            return sink
        case Encoding.GZIP:
            return Gunzip(sink)
        case Encoding.ZSTD:
            return Unzstd(sink)


class Whole:
    """Holds all bytes in memory."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        """Keep the bytes."""
        self._pieces.append(piece)

    def close(self) -> None:
        """Need nothing."""

    def content(self) -> bytes:
        """Give all that was written."""
        return b"".join(self._pieces)


class Bounded:
    """Lets a number of bytes through and refuses the next one."""

    def __init__(self, sink: Sink, *, bytes_max: int) -> None:
        self._sink = sink
        self._bytes_max = bytes_max
        self._taken = 0

    def write(self, piece: bytes) -> None:
        """Pass the bytes on, or raise PayloadTooLarge."""
        self._taken += len(piece)
        if self._taken > self._bytes_max:
            raise too_large(self._bytes_max)
        self._sink.write(piece)

    def close(self) -> None:
        """Pass the end on."""
        self._sink.close()


class Gunzip:
    """Decompresses gzip, any number of members, never more than one piece ahead of its sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._member = zlib.decompressobj(wbits=31)
        self._begun = False

    def write(self, piece: bytes) -> None:
        """Decompress bytes and push what comes out."""
        rest = piece
        while rest:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            self._begun = True
            try:
                inflated = self._member.decompress(rest, INFLATED_PIECE_BYTES)
            except zlib.error:
                raise _broken("gzip") from None
            if inflated:
                self._sink.write(inflated)
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def close(self) -> None:
        """Raise Malformed if the compressed bytes end too early, else pass the end on."""
        self._drain()
        if self._begun and not self._member.eof:
            raise _broken("gzip")
        self._sink.close()

    def _drain(self) -> None:
        # zlib may hold output back when a piece was cut exactly at its end.
        while self._begun and not self._member.eof:
            try:
                inflated = self._member.decompress(b"", INFLATED_PIECE_BYTES)
            except zlib.error:
                raise _broken("gzip") from None
            if not inflated:
                return
            self._sink.write(inflated)


class Unzstd:
    """Decompresses zstd, any number of frames, with a bounded window."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
        self._frame = self._decompressor.decompressobj()
        self._begun = False

    def write(self, piece: bytes) -> None:
        """Decompress bytes and push what comes out."""
        for start in range(0, len(piece), _ZSTD_SLICE_BYTES):
            rest = piece[start : start + _ZSTD_SLICE_BYTES]
            while rest:
                rest = self._slice(rest)

    def _slice(self, rest: bytes) -> bytes:
        if self._frame.eof:
            self._frame = self._decompressor.decompressobj()
        self._begun = True
        try:
            inflated = self._frame.decompress(rest)
        except zstandard.ZstdError:
            raise _broken("zstd") from None
        if inflated:
            self._sink.write(inflated)
        return self._frame.unused_data if self._frame.eof else b""

    def close(self) -> None:
        """Raise Malformed if the compressed bytes end too early, else pass the end on."""
        if self._begun and not self._frame.eof:
            raise _broken("zstd")
        self._sink.close()


def _broken(name: str) -> Malformed:
    window = ZSTD_WINDOW_BYTES_MAX // KIB // KIB
    hint = f" (or needs a window of more than {window} MiB)" if name == "zstd" else ""
    return Malformed(f"The body is not valid {name}{hint}, or it ends too early.", code="invalid_encoding")
