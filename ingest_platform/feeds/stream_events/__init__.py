"""Streams: events that go through a declared pipeline to destinations."""

from ingest_platform.domain.feed import Feed
from ingest_platform.feeds.stream_events.contract import NAME, STRICT
from ingest_platform.feeds.stream_events.kinds import DESTINATIONS, STREAMS
from ingest_platform.feeds.stream_events.load import AS_SENT
from ingest_platform.feeds.stream_events.shapes import find_shape

FEED = Feed(
    name=NAME,
    folder="streams",
    title="Streams",
    job_prefix="evt_",
    contract=STRICT,
    envelope_key="events",
    rate_per_minute=60_000,
    write_scope="streams:write",
    table=AS_SENT,
    shapes=find_shape,
    kinds=(STREAMS, DESTINATIONS),
)
