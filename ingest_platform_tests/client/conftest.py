"""A served API whose worker is at work, for the client's tests."""

import threading
from collections.abc import Iterator

import pytest

from ingest_platform.domain.feed import Feed
from ingest_platform.feeds import discover
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform_tests.serving import Site, fresh_database, serving


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the API, and work off what it takes."""
    with (
        fresh_database(server_url, template) as database_url,
        serving(database_url, tmp_path_factory.mktemp("client")) as served,
    ):
        ended = threading.Event()
        threads = [threading.Thread(target=_work, args=(served, feed, ended), daemon=True) for feed in discover()]
        for thread in threads:
            thread.start()
        yield served
        ended.set()
        for thread in threads:
            thread.join(timeout=30)
            assert not thread.is_alive()


def _work(site: Site, feed: Feed, ended: threading.Event) -> None:
    while not ended.is_set():
        work_until_idle(
            site.platform, feed, day=None, run_id="run-1", linger_seconds=0.1, stop=ended.is_set, wait=ended.wait
        )
