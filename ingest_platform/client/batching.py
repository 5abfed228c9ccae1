"""Records into request bodies: encoded, cut by count and by bytes, compressed. What they are for is not known here.

A body's bytes are made once, so that a request which is sent again is the same request.
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import zstandard

from ingest_platform.client.errors import UnsafeRecord

Compression = Literal["gzip", "zstd"]
# The server's limit for datasets and issues is 5 MB, before and after decompression.
BODY_BYTES_MAX = 5_000_000
# Below it, compression saves no packet.
COMPRESSED_BYTES_MIN = 1_400
_COMMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A record as it is sent, and its place among all that were given."""

    index: int
    text: bytes


def encode(record: object, *, index: int) -> Encoded:
    """Encode a record; a time with a zone becomes a timestamp. Raises UnsafeRecord."""
    try:
        text = json.dumps(record, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_instant)
        return Encoded(index=index, text=text.encode())
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise UnsafeRecord(f"record {index} is nothing that JSON has: {error}") from error


def _instant(value: object) -> str:
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value.astimezone(UTC).isoformat()
    message = f"a {type(value).__name__} is no value of JSON; a time needs its zone"
    raise TypeError(message)


def cut(records: Iterable[Encoded], *, records_max: int, bytes_max: int, frame_bytes: int) -> Iterator[list[Encoded]]:
    """Cut records into batches of at most so many, and of so many bytes once `frame_bytes` of brackets stand around.

    Raises UnsafeRecord for one that fits into no batch.
    """
    batch: list[Encoded] = []
    size = frame_bytes
    for record in records:
        added = len(record.text) + _COMMA
        if frame_bytes + added > bytes_max:
            raise UnsafeRecord(f"record {record.index} has {len(record.text)} bytes; a request takes {bytes_max}")
        if batch and (len(batch) == records_max or size + added > bytes_max):
            yield batch
            batch, size = [], frame_bytes
        batch.append(record)
        size += added
    if batch:
        yield batch


def array(batch: Sequence[Encoded], *, before: bytes = b"[", after: bytes = b"]") -> bytes:
    """Write a batch as a JSON array, or as an object with one.

    >>> array([Encoded(index=0, text=b"1")], before=b'{"items":[', after=b"]}")
    b'{"items":[1]}'
    """
    return before + b",".join(record.text for record in batch) + after


def compress(body: bytes, compression: Compression | None) -> tuple[bytes, dict[str, str]]:
    """Compress a body if that pays; the bytes, and the headers that tell of it."""
    if compression is None or len(body) < COMPRESSED_BYTES_MIN:
        return body, {}
    if compression == "gzip":
        # Without a time in it, so that equal bodies stay equal.
        return gzip.compress(body, compresslevel=6, mtime=0), {"Content-Encoding": "gzip"}
    return zstandard.ZstdCompressor(level=3).compress(body), {"Content-Encoding": "zstd"}
