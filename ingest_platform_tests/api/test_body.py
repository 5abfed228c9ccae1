"""Bodies: encodings, limits before and after decompression, bombs."""

import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import zstandard

from ingest_platform.api.body import Bounded, Sink, Whole, decoding
from ingest_platform.api.services import Limits
from ingest_platform.domain.errors import Malformed, PayloadTooLarge
from ingest_platform.domain.submission import Encoding
from ingest_platform_tests.serving import CONFIG, Site, serving

IMPORT = "/v1/machine-data/import-jobs"
MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}
BODY = json.dumps(
    {"items": [{"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}]}
).encode()
SMALL = Limits(body_bytes_max=64 * 1024, upload_bytes_max=256 * 1024, inline_bytes_max=1024, disk_free_bytes_min=1)
COMPRESS = {Encoding.GZIP: gzip.compress, Encoding.ZSTD: zstandard.compress}


@pytest.fixture
def small(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """Serve with small limits."""
    with serving(database_url, tmp_path, limits=SMALL) as site:
        yield site


def _push(sink: Sink, data: bytes, *, size: int) -> None:
    for start in range(0, len(data), size):
        sink.write(data[start : start + size])
    sink.close()


@pytest.mark.parametrize("encoding", list(COMPRESS))
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_compressed_bytes_come_out_as_they_went_in_however_they_are_cut(encoding: Encoding, size: int) -> None:
    plain = random.Random(1).randbytes(20_000) + b"0" * 200_000
    for parts in (1, 3):
        whole = Whole()
        _push(decoding(encoding, whole), COMPRESS[encoding](plain) * parts, size=size)
        assert whole.content() == plain * parts


@pytest.mark.parametrize("encoding", list(COMPRESS))
def test_compressed_bytes_that_end_early_or_are_damaged_are_malformed(encoding: Encoding) -> None:
    good = COMPRESS[encoding](b"some bytes " * 100)
    for bad in (good[:-3], good[:5], b"no such thing", good + b"rubbish"):
        with pytest.raises(Malformed):
            _push(decoding(encoding, Whole()), bad, size=64)


@pytest.mark.parametrize("encoding", list(COMPRESS))
def test_a_bomb_is_cut_off_at_the_limit_and_never_inflated_past_it(encoding: Encoding) -> None:
    bomb = COMPRESS[encoding](bytes(512 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            _push(decoding(encoding, Bounded(Whole(), bytes_max=MIB)), bomb, size=64 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "x-gzip", "identity", "GZIP"])
def test_content_encodings_are_read(shared_site: Site, encoding: str) -> None:
    content = {"gzip": gzip.compress, "zstd": zstandard.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress}
    sent = content.get(encoding, bytes)(BODY)
    answer = shared_site.client.post(IMPORT, content=sent, headers={**JSON, "Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["items_received"]) == (202, 1)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_other_content_encodings_are_415(shared_site: Site, encoding: str) -> None:
    answer = shared_site.client.post(IMPORT, content=BODY, headers={**JSON, "Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_encoding")


def _too_large(kind: str) -> tuple[bytes, dict[str, str]]:
    json_zeros, csv_zeros = b" " * (65 * 1024), b" " * (257 * 1024)
    return {
        "json": (json_zeros, JSON),
        "json.gz": (gzip.compress(json_zeros), {**JSON, "Content-Encoding": "gzip"}),
        "json.zst": (zstandard.compress(json_zeros), {**JSON, "Content-Encoding": "zstd"}),
        "csv": (csv_zeros, {"Content-Type": "text/csv"}),
        "csv.gz": (gzip.compress(csv_zeros), {"Content-Type": "text/csv", "Content-Encoding": "gzip"}),
    }[kind]


@pytest.mark.parametrize("kind", ["json", "json.gz", "json.zst", "csv", "csv.gz"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_in_the_envelope(small: Site, kind: str, *, chunked: bool) -> None:
    content, headers = _too_large(kind)
    sent = iter([content]) if chunked else content
    answer = small.client.post(IMPORT, content=sent, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "payload_too_large"
    assert {"x-request-id", "cula-request-id", "x-ratelimit-limit"} <= set(answer.headers)
    assert small.client.get("/v1/jobs").json()["page"]["total"] == 0
    assert list(small.platform.blobs.list()) == []


def test_a_client_that_sends_far_too_much_still_reads_the_answer(small: Site) -> None:
    answer = small.client.post(IMPORT, content=bytes(40 * MIB), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    chunked = small.client.post(IMPORT, content=(bytes(MIB) for _ in range(40)), headers=JSON)
    assert chunked.status_code == 413


def test_a_file_in_a_form_is_bounded_once_decompressed(small: Site) -> None:
    bomb = zlib.compress(bytes(8 * MIB), wbits=31)
    answer = small.client.post(IMPORT, files={"file": ("a.csv.gz", bomb)})
    assert answer.status_code == 413


def test_a_body_above_the_inline_size_lands_as_a_blob_and_a_smaller_one_in_its_row(small: Site) -> None:
    item = BODY.removeprefix(b'{"items": [').removesuffix(b"]}")
    large = b'{"items": [' + b", ".join([item] * 100) + b"]}"
    for content in (BODY, large):
        assert small.client.post(IMPORT, content=content, headers=JSON).status_code == 202
    (blob,) = small.platform.blobs.list()
    with small.platform.blobs.open(blob) as stored:
        assert stored.read() == large
    with small.platform.ledger.connection() as connection:
        rows = connection.execute("SELECT body, blob FROM submissions ORDER BY blob NULLS FIRST").fetchall()
    assert [(row[0], row[1]) for row in rows] == [(BODY, None), (None, blob)]


def test_a_client_that_goes_away_leaves_nothing(small: Site) -> None:
    def broken() -> Iterator[bytes]:
        yield b"timestamp,value\n" * 500
        raise httpx.WriteError("gone")

    with pytest.raises(httpx.WriteError):
        small.client.post(IMPORT, content=broken(), headers={"Content-Type": "text/csv"})
    assert small.client.get("/healthz").status_code == 200
    assert small.client.get("/v1/jobs").json()["page"]["total"] == 0
