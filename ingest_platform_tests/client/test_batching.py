"""Batching: nothing is lost, nothing is larger than it may be, equal records make equal bytes."""

import gzip
import json
from datetime import UTC, datetime

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.client.batching import Encoded, array, compress, cut, encode
from ingest_platform.client.errors import UnsafeRecord


@given(st.lists(st.text(max_size=20), max_size=30), st.integers(1, 5), st.integers(90, 200))
def test_batches_hold_every_record_in_order_and_keep_both_limits(
    texts: list[str], records_max: int, bytes_max: int
) -> None:
    records = [encode(text, index=index) for index, text in enumerate(texts)]
    batches = list(cut(records, records_max=records_max, bytes_max=bytes_max, frame_bytes=len("[]")))
    assert [record for batch in batches for record in batch] == records
    for batch in batches:
        assert 1 <= len(batch) <= records_max
        assert len(array(batch)) <= bytes_max
        assert json.loads(array(batch)) == [texts[record.index] for record in batch]


def test_a_record_that_fits_into_no_batch_is_named() -> None:
    with pytest.raises(UnsafeRecord, match="record 1 has 12 bytes"):
        list(
            cut(
                [Encoded(index=0, text=b"1"), Encoded(index=1, text=b"x" * 12)],
                records_max=9,
                bytes_max=10,
                frame_bytes=2,
            )
        )


@pytest.mark.parametrize("value", [float("nan"), {"a": {1}}, "\ud800", datetime(2026, 5, 6)])  # noqa: DTZ001
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(UnsafeRecord, match="record 3"):
        encode(value, index=3)


def test_a_time_becomes_a_timestamp() -> None:
    assert encode(datetime(2026, 5, 6, 10, tzinfo=UTC), index=0).text == b'"2026-05-06T10:00:00+00:00"'


def test_a_body_is_compressed_if_that_pays_and_always_to_the_same_bytes() -> None:
    body = b"[" + b"1," * 2000 + b"1]"
    gzipped, headers = compress(body, "gzip")
    assert (gzip.decompress(gzipped), headers) == (body, {"Content-Encoding": "gzip"})
    assert compress(body, "gzip") == (gzipped, headers)
    small, headers = compress(body, "zstd")
    assert (zstandard.ZstdDecompressor().decompress(small), headers) == (body, {"Content-Encoding": "zstd"})
    assert compress(b"[1]", "zstd") == (b"[1]", {})
    assert compress(body, None) == (body, {})
