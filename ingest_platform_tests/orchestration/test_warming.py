"""Warming up: the whole path but nothing that anybody sees."""

from ingest_platform.feeds import discover
from ingest_platform.orchestration.warming import example_of, warm_up
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.parse import parse_many
from ingest_platform_tests.pipeline.working import rows


def test_every_feed_has_an_example_that_can_be_read() -> None:
    for feed in discover():
        _, unreadable = parse_many({0: example_of(feed)}, feed.contract, envelope_key=feed.envelope_key)
        assert unreadable == {}


def test_warming_up_leaves_nothing_behind(place: Workplace) -> None:
    for feed in discover():
        warm_up(place, feed)
        assert rows(place.platform, feed) == []
    assert list(place.platform.staging_dir.iterdir()) == []
