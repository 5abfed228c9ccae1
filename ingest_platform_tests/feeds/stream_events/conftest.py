"""A stream that is read, for the tests of this folder."""

from collections.abc import Iterator

import pytest

from ingest_platform_tests.feeds.stream_events.followed import Followed, followed_stream


@pytest.fixture(scope="module")
def followed(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    """Serve a stream whose events went all the way, to all tests of a module."""
    with followed_stream(server_url, template, tmp_path_factory.mktemp("followed")) as followed:
        yield followed
