"""What tests of destinations open is closed when they end."""

from collections.abc import Iterator

import pytest

from ingest_platform_tests.feeds.stream_events.destinations import batches


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while batches.OPENED:
        batches.OPENED.pop().close()
