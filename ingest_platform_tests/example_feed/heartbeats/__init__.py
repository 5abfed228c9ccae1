"""Heartbeats: devices saying that they are alive. An example of a feed, in one folder."""

from ingest_platform.domain.feed import Feed
from ingest_platform_tests.example_feed.heartbeats.contract import CONTRACT
from ingest_platform_tests.example_feed.heartbeats.load import TABLE

FEED = Feed(
    name="heartbeats",
    folder="heartbeats",
    title="Heartbeats",
    job_prefix="hb_",
    contract=CONTRACT,
    envelope_key="heartbeats",
    rate_per_minute=600,
    write_scope="heartbeats:write",
    table=TABLE,
)
