"""Streams: events that go through a declared pipeline to destinations."""

from ingest_platform.domain.feed import Feed
from ingest_platform.feeds.stream_events.consign import StreamConsign
from ingest_platform.feeds.stream_events.contract import NAME, STRICT
from ingest_platform.feeds.stream_events.explaining import explain
from ingest_platform.feeds.stream_events.gauges import read_stream_gauges
from ingest_platform.feeds.stream_events.kinds import DESTINATIONS, STREAMS
from ingest_platform.feeds.stream_events.load import TABLE
from ingest_platform.feeds.stream_events.looks import ASPECTS
from ingest_platform.feeds.stream_events.masked import forgets
from ingest_platform.feeds.stream_events.operating import standing
from ingest_platform.feeds.stream_events.refer import refer
from ingest_platform.feeds.stream_events.shapes import find_shape
from ingest_platform.feeds.stream_events.tasks import DELIVERIES, DELIVERING

FEED = Feed(
    name=NAME,
    folder="streams",
    title="Streams",
    job_prefix="evt_",
    contract=STRICT,
    # An object is an event.
    envelope_key="",
    rate_per_minute=60_000,
    write_scope="streams:write",
    table=TABLE,
    refer=refer,
    shapes=find_shape,
    kinds=(STREAMS, DESTINATIONS),
    aspects=ASPECTS,
    tasks=(DELIVERIES,),
    # What masks that hash are keyed with.
    secret_name="mask-key",  # noqa: S106 - the name of one.
    consign=StreamConsign(),
    forgets=forgets,
    services=(DELIVERING,),
    explain=explain,
    gauges=read_stream_gauges,
    standing=standing,
)
