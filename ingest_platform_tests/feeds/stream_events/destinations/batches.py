"""Batches of events that tests send, and an object store that takes them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import msgspec

from ingest_platform.feeds.stream_events.destinations.destination import (
    Batch,
    Destination,
    Item,
    Site,
    destination_types,
)
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.storage.blobs import Blobs, LocalBlobs

LOOPBACK = OutboundRules(networks=(ip_network("127.0.0.0/8"),), http_allowed=True)
NOON = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
DELIVERY = "dlv_01kqzcjrpyf27tge33jwvjhkff"
STREAM = "a0c3b4de-1923-4ff1-8dba-f92ad912d20f"
# What must be found nowhere.
CANARY = "canary-9f8e7d6c5b4a"
S3_KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
# Closed by conftest.py.
OPENED = list[Destination]()


def item(number: int = 0, *, source: str | None = "checkout", at: datetime = NOON, **more: object) -> Item:
    """Make an event; more members of its `event` by name."""
    document = {"timestamp": at, "source": source, "event": {"number": number, **more}, "metadata": {"env": "prod"}}
    return Item(
        event_id=f"evt_01kqzcjrpyf27tge33jwvjhkff-{number}",
        timestamp=at + timedelta(milliseconds=number),
        source=source,
        document=msgspec.json.encode(document),
        weight=1.0,
    )


def batch(items: Iterable[Item], *, attempt: int = 1) -> Batch:
    """Make a batch."""
    return Batch(
        delivery_id=DELIVERY,
        workspace="acme",
        destination="archive",
        stream_id=STREAM,
        stream_version=3,
        first_attempt_at=NOON,
        attempt=attempt,
        items=tuple(items),
    )


def raw(number: int, document: bytes) -> Item:
    """Make an event of a document as it is."""
    return replace(item(number), document=document)


def opened(
    body: Mapping[str, object],
    folder: Path,
    *,
    secrets: Mapping[str, str] | None = None,
    rules: OutboundRules = LOOPBACK,
    blobs: Blobs | None = None,
) -> Destination:
    """Open a declaration; it is closed when the test ends."""
    site = Site(data_dir=folder, blobs=blobs or LocalBlobs(folder / "blobs"), outbound=rules)
    OPENED.append(destination_types()[str(body["type"])].open(body, secrets=secrets or {}, site=site))
    return OPENED[-1]


def faults(body: Mapping[str, object]) -> dict[str, str]:
    """Read a declaration; its faults by field."""
    return {fault.path: fault.message for fault in destination_types()[str(body["type"])].read(body)}


@contextmanager
def object_store() -> Iterator[str]:
    """Start an object store on a free port of loopback; its address."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow to import.

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
