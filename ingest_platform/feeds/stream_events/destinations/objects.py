"""Events as files: their formats, and the folders of partitions. Where files are put is not known here.

A file's name and bytes are functions of the delivery and its events, so that a repetition replaces the same file by the
same bytes.
"""

import functools
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from hashlib import sha256
from typing import cast
from urllib.parse import quote

import msgspec
import polars as pl
import zstandard

from ingest_platform.feeds.stream_events.destinations.destination import Batch, Body, DeclaredField, FieldKind, Item

PARQUET, NDJSON, NDJSON_ZST = "parquet", "ndjson", "ndjson.zst"
# What Hive, Spark and DuckDB read as null.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# A name in a folder has 255 bytes; a longer value is cut and told apart by a digest.
_VALUE_CHARACTERS_MAX = 150
_KEPT_CHARACTERS = 100
_ZSTD_LEVEL = 3
_SAFE_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")
_CUT_ESCAPE = re.compile(r"%[0-9A-F]?$")

FORMAT_FIELD = DeclaredField(
    name="format", meaning="Format of the files.", choices=(PARQUET, NDJSON, NDJSON_ZST), default=PARQUET
)
PARTITION_FIELD = DeclaredField(
    name="partition",
    meaning="What the files are put into folders by, from the outside inwards; the date is the event's, in UTC.",
    kind=FieldKind.LIST,
    choices=("source", "date", "stream"),
)


class _Parts(msgspec.Struct):
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_PARTS = msgspec.json.Decoder(_Parts)
_TEXT = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFile:
    """One file: its path below the destination's place, and which events are in it."""

    path: str
    items: Sequence[Item]


@functools.lru_cache(maxsize=4_096)
def safe_value(value: str | None) -> str:
    """Write a value as a part of a folder's name: percent-encoded, as those who read partitions expect it.

    >>> safe_value("../../etc/passwd")
    '..%2F..%2Fetc%2Fpasswd'
    """
    if not value:
        return NO_VALUE
    encoded = quote(value, safe="", errors="backslashreplace").replace("~", "%7E")
    if len(encoded) <= _VALUE_CHARACTERS_MAX:
        return encoded
    digest = sha256(value.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    return f"{_CUT_ESCAPE.sub('', encoded[:_KEPT_CHARACTERS])}-{digest}"


def read_format(body: Body) -> str:
    """Take the format of a sound declaration."""
    return str(body.get("format", PARQUET))


def read_partition(body: Body) -> tuple[str, ...]:
    """Take the partition of a sound declaration; a word that stands twice counts once."""
    return tuple(dict.fromkeys(cast("Sequence[str]", body.get("partition", ()))))


def _value_of(item: Item, batch: Batch, by: str) -> str:
    match by:
        case "source":
            return safe_value(item.source)
        case "date":
            return item.timestamp.astimezone(UTC).date().isoformat()
        case _:
            return safe_value(batch.stream_id)


def divide(batch: Batch, *, form: str, partition: Sequence[str]) -> Iterator[EventFile]:
    """Put the events of a batch into files, one for each partition, sorted by path."""
    assert _SAFE_ID.fullmatch(batch.delivery_id), batch.delivery_id

    def folder(item: Item) -> str:
        return "".join(f"{by}={_value_of(item, batch, by)}/" for by in partition)

    # Sorting is stable: within a file events keep their order.
    for path, items in itertools.groupby(sorted(batch.items, key=folder), key=folder):
        yield EventFile(path=f"{path}{batch.delivery_id}.{form}", items=list(items))


def encode(items: Sequence[Item], batch: Batch, *, form: str) -> bytes:
    """Write events in a format."""
    return _ENCODERS[form](items, batch)


def _parquet(items: Sequence[Item], batch: Batch) -> bytes:
    parts = [_PARTS.decode(item.document) for item in items]
    frame = pl.DataFrame(
        {
            "event_id": pl.Series([item.event_id for item in items], dtype=pl.String),
            "timestamp": pl.Series([item.timestamp for item in items], dtype=pl.Datetime("us", "UTC")),
            "source": pl.Series([item.source for item in items], dtype=pl.String),
            "weight": pl.Series([item.weight for item in items], dtype=pl.Float64),
            "stream_id": pl.Series([batch.stream_id] * len(items), dtype=pl.String),
            "stream_version": pl.Series([batch.stream_version] * len(items), dtype=pl.Int32),
            "event": pl.Series([_json_of(each.event) for each in parts], dtype=pl.String),
            "metadata": pl.Series([_json_of(each.metadata) for each in parts], dtype=pl.String),
            "document": pl.Series([item.document.decode() for item in items], dtype=pl.String),
        }
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=_ZSTD_LEVEL, statistics=True)
    return buffer.getvalue()


def _json_of(raw: msgspec.Raw | msgspec.UnsetType) -> str | None:
    return None if raw is msgspec.UNSET else bytes(raw).decode()


def envelope(item: Item, batch: Batch) -> bytes:
    """Write an event as one JSON object, in which no name of the event's own can stand in the way of ours."""
    return _TEXT.encode(
        {
            "event_id": item.event_id,
            "timestamp": item.timestamp.astimezone(UTC),
            "source": item.source,
            "weight": item.weight,
            "stream_id": batch.stream_id,
            "stream_version": batch.stream_version,
            "document": msgspec.Raw(item.document),
        }
    )


def _lines(items: Sequence[Item], batch: Batch) -> bytes:
    return b"".join(envelope(item, batch) + b"\n" for item in items)


def _compressed_lines(items: Sequence[Item], batch: Batch) -> bytes:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(_lines(items, batch))


_ENCODERS: Mapping[str, Callable[[Sequence[Item], Batch], bytes]] = {
    PARQUET: _parquet,
    NDJSON: _lines,
    NDJSON_ZST: _compressed_lines,
}
