"""The stores of tests of deliveries: opened once a module, with nothing to be delivered at the beginning of a test."""

from collections.abc import Iterator

import pytest

from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.feeds.stream_events.delivering.consigned import declare
from ingest_platform_tests.making import open_stores
from ingest_platform_tests.serving import fresh_database


@pytest.fixture(scope="module")
def stores(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Open all the stores of a process."""
    with fresh_database(server_url, template) as url:
        opened = open_stores(url, tmp_path_factory.mktemp("stores"))
        try:
            yield opened
        finally:
            opened.close()


@pytest.fixture
def acme(stores: Platform) -> Platform:
    """Declare two destinations for which there was never anything. What other tests have stored is left in the lake."""
    with stores.ledger.transaction() as tx:
        tx.execute(
            "TRUNCATE stream_parcels, stream_deliveries, stream_dead_letters, stream_destinations, stream_counts,"
            " stream_rule_counts, stream_consigned, stream_delivered"
        )
        tx.execute("DELETE FROM catalog")
    declare(stores, "archive", "siem")
    return stores
