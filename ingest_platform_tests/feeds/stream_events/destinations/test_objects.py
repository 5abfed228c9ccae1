"""Events as files: every value is safe in a name, every event is in one file, and the bytes are a function of them."""

import io
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import unquote

import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.destinations.objects import NO_VALUE, divide, encode, safe_value
from ingest_platform.storage.blobs import check_key
from ingest_platform_tests.feeds.stream_events.destinations.batches import DELIVERY, NOON, STREAM, batch, item, raw

HOSTILE = [
    "../../etc",
    "/",
    "a/b",
    "..",
    ".",
    "a\0b",
    "a\nb",
    "source=x",
    "ä ö",
    "💥" * 100,
    "x" * 5_000,
    "%2e%2e",
    "~",
]


@given(st.text(max_size=400) | st.sampled_from(HOSTILE))
def test_any_value_is_one_part_of_a_sound_key(value: str) -> None:
    name = f"source={safe_value(value)}"
    assert check_key(f"exports/{name}/x.parquet")
    assert "/" not in name
    assert len(name.encode()) <= 255
    assert not re.search(r"%(?![0-9A-F]{2})", name)


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()))
def test_a_short_value_can_be_read_back(value: str) -> None:
    assert unquote(safe_value(value)) == value


def test_long_values_that_begin_alike_are_told_apart() -> None:
    assert safe_value("x" * 500 + "a") != safe_value("x" * 500 + "b")
    assert safe_value("") == safe_value(None) == NO_VALUE


def test_every_event_is_in_exactly_one_file_and_files_keep_the_order() -> None:
    sent = batch(item(number, source=HOSTILE[number % 5]) for number in range(20))
    files = list(divide(sent, form="ndjson", partition=["source", "date"]))
    assert sorted(each.event_id for file in files for each in file.items) == sorted(
        each.event_id for each in sent.items
    )
    assert len({file.path for file in files}) == len(files) == 5
    for file in files:
        assert [each.timestamp for each in file.items] == sorted(each.timestamp for each in file.items)
        assert file.path.endswith(f"/date=2026-03-01/{DELIVERY}.ndjson")


def test_the_date_is_the_events_in_utc() -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    (file,) = divide(batch([item(at=late)]), form="ndjson", partition=["date", "stream"])
    assert file.path == f"date=2026-03-02/stream={STREAM}/{DELIVERY}.ndjson"


def test_parquet_has_every_column_of_an_event() -> None:
    items = [item(1, text='ü\n"x"'), raw(2, b'{"timestamp":"2026-03-01T12:00:00Z","event":{},"own":1}')]
    frame = pl.read_parquet(io.BytesIO(encode(items, batch(items), form="parquet")))
    assert frame.schema == {
        "event_id": pl.String,
        "timestamp": pl.Datetime("us", "UTC"),
        "source": pl.String,
        "weight": pl.Float64,
        "stream_id": pl.String,
        "stream_version": pl.Int32,
        "event": pl.String,
        "metadata": pl.String,
        "document": pl.String,
    }
    first, second = frame.to_dicts()
    assert first["timestamp"] == NOON + timedelta(milliseconds=1)
    assert first["timestamp"].tzinfo is not None
    assert json.loads(first["event"]) == {"number": 1, "text": 'ü\n"x"'}
    assert json.loads(first["metadata"]) == {"env": "prod"}
    assert (second["event"], second["metadata"]) == ("{}", None)
    assert second["document"] == items[1].document.decode()
    assert (second["weight"], second["stream_id"], second["stream_version"]) == (1.0, STREAM, 3)


@pytest.mark.parametrize("form", ["parquet", "ndjson", "ndjson.zst"])
def test_the_same_events_are_the_same_bytes(form: str) -> None:
    def make() -> bytes:
        items = [item(number, text="ü" * number) for number in range(500)]
        return encode(items, batch(items), form=form)

    assert make() == make()


def test_lines_have_our_names_beside_the_document_so_that_none_is_in_the_way() -> None:
    items = [item(1), raw(2, b'{"event_id":"own","weight":7,"document":[1],"event":{"a":"\\n\\u2028"}}')]
    lines = encode(items, batch(items), form="ndjson").decode().splitlines(keepends=True)
    first, second = (json.loads(line) for line in lines)
    assert first["event_id"] == items[0].event_id
    assert datetime.fromisoformat(first["timestamp"]) == items[0].timestamp.astimezone(UTC)
    assert second["weight"] == 1.0
    assert second["document"] == json.loads(items[1].document)
    packed = zstandard.ZstdDecompressor().decompress(encode(items, batch(items), form="ndjson.zst"))
    assert packed.decode() == "".join(lines)
