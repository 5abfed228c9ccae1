"""Objects of a bucket, at AWS or at whatever speaks its protocol. An object is visible once the store has all of it."""

import re
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, ClassVar, Protocol, cast
from urllib.parse import urlsplit

from ingest_platform.feeds.stream_events.destinations import connecting, objects
from ingest_platform.feeds.stream_events.destinations.calling import read_url
from ingest_platform.feeds.stream_events.destinations.connecting import Deadline
from ingest_platform.feeds.stream_events.destinations.destination import (
    CONNECT_SECONDS_MAX,
    MIB,
    SECONDS_MAX,
    Batch,
    BatchRule,
    Body,
    DeclaredField,
    DestinationFault,
    DestinationType,
    Sent,
    Site,
    Transient,
    batch_fields,
    batch_rule,
)
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.pipeline.outbound import why_wrong

RULE = BatchRule(events_max=100_000, bytes_max=64 * MIB, linger_seconds=30.0, at_once=2)
REGION = "us-east-1"
URL_CHARACTERS_MAX = 500
# What is not stored by then is left to the next attempt: hostile sources may be a partition each.
_STORING_SECONDS_MAX = 20.0
_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[0-9A-Za-z_-][0-9A-Za-z_.=-]*)*/?")
_AWS_ERROR = re.compile(r"AWS Error ([A-Z_]+)")
_STATUS = re.compile(r"HTTP status(?: code)?:? (\d{3})", re.IGNORECASE)
_IN_WORDS: Mapping[str, str] = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "ACCESS_DENIED": "access is denied",
    "INVALID_ACCESS_KEY_ID": "the access key is not known",
    "SIGNATURE_DOES_NOT_MATCH": "the secret access key is wrong",
    "NETWORK_CONNECTION": "the store is away",
    "SLOW_DOWN": "the store asks to slow down",
}

BUCKET_FIELDS = (
    DeclaredField(name="url", meaning="Bucket and prefix, `s3://bucket/prefix`.", required=True),
    DeclaredField(name="endpoint", meaning="Address of a store that is not AWS's, `https://host:port`."),
    DeclaredField(name="region", meaning="Region of the bucket.", default=REGION),
    DeclaredField(
        name="access_key_id",
        meaning="Access key; absent, with its secret: what AWS's own chain finds in the worker's environment.",
    ),
    DeclaredField(name="secret_access_key", meaning="Secret of the access key.", secret=True),
)


class _Store(Protocol):
    """The part of Arrow's file systems that is used here; Arrow comes without types."""

    def open_output_stream(self, path: str, metadata: Mapping[str, str]) -> AbstractContextManager[BinaryIO]: ...
    def get_file_info(self, paths: str) -> object: ...


def check_bucket(body: Body) -> list[DestinationFault]:
    """Find what is wrong with the fields that name a bucket."""
    faults = list[DestinationFault]()
    url = str(body["url"])
    if _URL.fullmatch(url) is None or len(url) > URL_CHARACTERS_MAX:
        allowed = "must be s3://bucket or s3://bucket/prefix, of letters, digits, “_”, “-”, “=” and “.”"
        faults.append(DestinationFault(path="url", message=allowed))
    if "endpoint" in body:
        faults += read_url(body, "endpoint", path_allowed=False)
    if ("access_key_id" in body) != ("secret_access_key" in body):
        missing = "secret_access_key" if "access_key_id" in body else "access_key_id"
        faults.append(DestinationFault(path=missing, message="is missing; an access key and its secret go together"))
    return faults


@dataclass(slots=True, kw_only=True)
class Bucket:
    """A bucket and a prefix in it; connected to when it is first written to."""

    url: str
    endpoint: str | None
    region: str
    access_key_id: str | None
    secret_access_key: str | None = field(repr=False)
    rules: OutboundRules
    _store: _Store | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def root(self) -> str:
        """Bucket and prefix, without a slash at the end."""
        return self.url.removeprefix("s3://").rstrip("/")

    def put(self, path: str, content: bytes, *, once: bool = False) -> None:
        """Store an object; `once`: leave one that is there as it is. Raises Transient, as all of it can be mended."""
        store = self._opened()
        where = f"{self.root}/{path}"
        try:
            if once and getattr(store.get_file_info(where), "is_file", False):
                return
            with store.open_output_stream(where, metadata={"Content-Type": "application/octet-stream"}) as stream:
                stream.write(content)
        except OSError as error:
            raise Transient(f"not stored: {reason_of(str(error))}") from None

    def _opened(self) -> _Store:
        self._vet()
        with self._lock:
            if self._store is None:
                self._store = self._connect()
            return self._store

    def _vet(self) -> None:
        """Look at where an endpoint leads; AWS's own are not a client's words."""
        if self.endpoint is None:
            return
        wrong = why_wrong(self.endpoint, self.rules)
        if wrong is not None:
            raise Transient(f"not sent: the endpoint {wrong}")
        parts = urlsplit(self.endpoint)
        connecting.permitted(parts.hostname or "", parts.port or 443, rules=self.rules)

    def _connect(self) -> _Store:
        # Importing Arrow's file systems takes longer than everything else here.
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem  # noqa: PLC0415

        parts = urlsplit(self.endpoint or "")
        store: object = S3FileSystem(
            access_key=self.access_key_id,
            secret_key=self.secret_access_key,
            region=self.region,
            endpoint_override=parts.netloc or None,
            scheme=parts.scheme or "https",
            connect_timeout=CONNECT_SECONDS_MAX,
            request_timeout=SECONDS_MAX,
            # Attempts are counted, and spread, by whoever sends.
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
        )
        return cast("_Store", store)


def open_bucket(body: Body, rules: OutboundRules) -> Bucket:
    """Take the bucket of a sound declaration."""
    return Bucket(
        url=str(body["url"]),
        endpoint=cast("str | None", body.get("endpoint")),
        region=str(body.get("region", REGION)),
        access_key_id=cast("str | None", body.get("access_key_id")),
        secret_access_key=cast("str | None", body.get("secret_access_key")),
        rules=rules,
    )


def reason_of(said: str) -> str:
    """Say what the store has said, without the rest of Arrow's words: those have parts of the request in them."""
    found = _AWS_ERROR.search(said)
    word = found[1] if found else ""
    status = _STATUS.search(said)
    told = _IN_WORDS.get(word) or word.replace("_", " ").lower() or "the store can't be reached"
    return told + (f" (status {status[1]})" if status else "")


@dataclass(slots=True)
class S3:
    """Objects of one destination."""

    type: ClassVar[str] = "s3"
    batch: BatchRule
    bucket: Bucket
    form: str
    partition: tuple[str, ...]

    def send(self, batch: Batch) -> Sent:
        """Store an object for each partition; those there was no time for are told to be sent again."""
        deadline = Deadline(_STORING_SECONDS_MAX)
        delivered, retry = list[str](), dict[str, str]()
        for file in objects.divide(batch, form=self.form, partition=self.partition):
            ids = [item.event_id for item in file.items]
            # One at least in every attempt, so that there is an end.
            if delivered and deadline.left <= 0:
                retry |= dict.fromkeys(ids, "not stored yet: there are many partitions")
                continue
            self.bucket.put(file.path, objects.encode(file.items, batch, form=self.form))
            delivered += ids
        return Sent(delivered=delivered, retry=retry, retry_after_seconds=0.0 if retry else None)

    def close(self) -> None:
        """Do nothing: Arrow closes the connections with the last reference."""


def _open(body: Body, site: Site) -> S3:
    return S3(
        batch=batch_rule(body, RULE),
        bucket=open_bucket(body, site.outbound),
        form=objects.read_format(body),
        partition=objects.read_partition(body),
    )


KIND = DestinationType(
    type=S3.type,
    fields=(*BUCKET_FIELDS, objects.FORMAT_FIELD, objects.PARTITION_FIELD, *batch_fields(RULE)),
    check=check_bucket,
    opened=_open,
)
