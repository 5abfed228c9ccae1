"""The machine's clock tells UTC."""

from datetime import timedelta

from ingest_platform.domain.clock import SystemClock


def test_the_clock_tells_the_present_in_utc() -> None:
    first, second = SystemClock().now(), SystemClock().now()
    assert first.utcoffset() == timedelta(0)
    assert first <= second
