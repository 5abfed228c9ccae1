"""Objects in a real store: stable names, whole contents, and faults told in words that have no secret in them."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from ingest_platform.feeds.stream_events.destinations.destination import Transient
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform_tests.feeds.stream_events.destinations.batches import (
    CANARY,
    DELIVERY,
    S3_KEYS,
    batch,
    faults,
    item,
    object_store,
    opened,
)
from ingest_platform_tests.receiving import Answer, receiving

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    import boto3  # noqa: PLC0415 - slow to import.

    with object_store() as address:
        boto3.client("s3", endpoint_url=address, **S3_KEYS).create_bucket(Bucket="events")
        yield address


@pytest.fixture
def client(endpoint: str) -> "S3Client":
    import boto3  # noqa: PLC0415

    return boto3.client("s3", endpoint_url=endpoint, **S3_KEYS)


def _body(endpoint: str, **more: object) -> dict[str, object]:
    return {
        "type": "s3",
        "url": "s3://events/archive",
        "endpoint": endpoint,
        "access_key_id": "test",
        "secret_access_key": "${SECRET}",
        "format": "parquet",
        "partition": ["source", "date"],
        **more,
    }


SECRETS = {"secret_access_key": CANARY}


def _keys(client: "S3Client", prefix: str) -> list[str]:
    return [each["Key"] for each in client.list_objects_v2(Bucket="events", Prefix=prefix).get("Contents", [])]


def test_a_batch_is_an_object_for_each_partition_and_a_repetition_replaces_it(
    endpoint: str, client: "S3Client", tmp_path: Path
) -> None:
    sent = batch([item(1, source="a"), item(2, source="../b\0"), item(3, source="a")])
    for _ in range(2):
        destination = opened(_body(endpoint, url="s3://events/stable"), tmp_path, secrets=SECRETS)
        assert len(destination.send(sent).delivered) == 3
        destination.close()
    keys = _keys(client, "stable")
    assert keys == [f"stable/source={source}/date=2026-03-01/{DELIVERY}.parquet" for source in ("..%2Fb%00", "a")]
    stored = client.get_object(Bucket="events", Key=keys[1])["Body"].read()
    assert pl.read_parquet(io.BytesIO(stored))["source"].to_list() == ["a", "a"]


def test_large_objects_go_up_whole(endpoint: str, client: "S3Client", tmp_path: Path) -> None:
    sent = batch(item(number, text="x" * 1_000_000) for number in range(12))
    opened(_body(endpoint, url="s3://events/large", format="ndjson", partition=[]), tmp_path, secrets=SECRETS).send(
        sent
    )
    (key,) = _keys(client, "large")
    assert client.get_object(Bucket="events", Key=key)["Body"].read().count(b"\n") == 12


def test_without_keys_the_environments_are_used(
    endpoint: str, client: "S3Client", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    body = {"type": "s3", "url": "s3://events/ambient", "endpoint": endpoint, "format": "ndjson.zst"}
    assert len(opened(body, tmp_path).send(batch([item(1)])).delivered) == 1
    assert _keys(client, "ambient") == [f"ambient/{DELIVERY}.ndjson.zst"]


def test_a_bucket_that_does_not_exist_is_told_and_can_be_mended(
    endpoint: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    destination = opened(_body(endpoint, url="s3://absent-bucket/x"), tmp_path, secrets=SECRETS)
    with caplog.at_level(logging.DEBUG), pytest.raises(Transient) as told:
        destination.send(batch([item(1)]))
    assert told.value.reason.startswith("not stored: there is no such bucket")
    assert CANARY not in f"{told.value!r} {destination!r} {caplog.text}"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "access is denied"),
        (403, "SignatureDoesNotMatch", "the secret access key is wrong"),
        (503, "SlowDown", "slow down"),
        (500, "InternalError", "internal"),
    ],
)
def test_what_a_store_says_is_told_in_words(tmp_path: Path, status: int, code: str, words: str) -> None:
    import threading  # noqa: PLC0415
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415

    said = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no {CANARY}</Message></Error>'.encode()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_PUT = do_POST = do_GET = do_HEAD = _answer  # noqa: N815 - as the server calls them.

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        body = _body(f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(Transient) as told:
            opened(body, tmp_path, secrets=SECRETS).send(batch([item(1)]))
        server.shutdown()
    assert words in told.value.reason
    assert CANARY not in str(told.value)


def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    with receiving() as receiver:
        port = receiver.port
    with pytest.raises(Transient, match="not stored"):
        opened(_body(f"http://127.0.0.1:{port}"), tmp_path, secrets=SECRETS).send(batch([item(1)]))


def test_an_endpoint_that_may_not_be_called_is_not(tmp_path: Path) -> None:
    with receiving(lambda _: Answer()) as receiver:
        rules = OutboundRules(http_allowed=True)
        destination = opened(_body(f"http://localhost:{receiver.port}"), tmp_path, secrets=SECRETS, rules=rules)
        with pytest.raises(Transient, match="the address is loopback"):
            destination.send(batch([item(1)]))
        assert receiver.got == []


def test_every_fault_of_a_declaration_is_told() -> None:
    body = {
        "type": "s3",
        "url": "https://bucket",
        "endpoint": "nowhere",
        "access_key_id": "key",
    }
    assert set(faults(body)) == {"url", "endpoint", "secret_access_key"}
    body = {"type": "s3", "format": "csv", "partition": ["colour"], "batch_events": 0, "colour": "red"}
    assert set(faults(body)) == {"url", "format", "partition", "batch_events", "colour"}
    for url in (
        "s3://",
        "s3://B",
        "s3://bucket/../x",
        "s3://bucket//x",
        "s3://bucket/x?y",
        "s3://bucket/ü",
        "s3://b/x",
    ):
        assert list(faults({"type": "s3", "url": url})) == ["url"], url
