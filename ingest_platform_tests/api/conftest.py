"""A served API for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_platform_tests.serving import Site, fresh_database, serving


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """Serve the whole API."""
    with serving(database_url, tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def shared_site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API to all tests of a module, which must not mind each other's jobs."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as site:
        yield site
