"""Figures of streams, as they are scraped."""

from pathlib import Path

import httpx

from ingest_platform.api.metrics import Metrics
from ingest_platform.feeds.stream_events.gauges import read_stream_gauges
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.feeds.stream_events.delivering.consigned import (
    STREAM,
    Flaky,
    consign,
    declare,
    deliver,
    event,
)
from ingest_platform_tests.serving import serving


def test_the_accounts_are_figures_for_dashboards(platform: Platform) -> None:
    declare(platform, "archive", "siem")
    consign(
        platform,
        event(1, "archive", "siem", rules="errors"),
        event(2, decision="sampled_out", rules="chatter"),
        {"source": "api"},
    )
    declare(platform, "siem", retired=True)
    deliver(platform, {"archive": Flaky()})
    with platform.ledger.connection() as tx:
        text = Metrics().text([], read_stream_gauges(tx)).decode()
    of_stream = f'stream="{STREAM}",workspace="acme"'
    of_siem = f'destination="siem",{of_stream}'
    lines = text.splitlines()
    for line in (
        f'ingest_stream_records{{outcome="received",{of_stream}}} 3.0',
        f'ingest_stream_records{{outcome="rejected",{of_stream}}} 1.0',
        f'ingest_stream_records{{outcome="sampled_out",{of_stream}}} 1.0',
        f'ingest_stream_records{{outcome="routed",{of_stream}}} 1.0',
        f'ingest_stream_rule_events{{outcome="matched",rule="chatter",{of_stream}}} 1.0',
        f'ingest_stream_deliveries{{destination="archive",state="delivered",{of_stream}}} 1.0',
        f'ingest_stream_deliveries{{destination="siem",state="waiting",{of_stream}}} 1.0',
        f"ingest_stream_unaccounted{{{of_siem}}} 0.0",
        f'ingest_stream_unaccounted{{destination="",{of_stream}}} 0.0',
        'ingest_stream_destination_state{destination="siem",state="blocked",workspace="acme"} 1.0',
        'ingest_stream_destination_state{destination="archive",state="closed",workspace="acme"} 1.0',
    ):
        # Labels stand in the order of their declaration or of their names, whichever the library's version likes.
        assert any(_same(line, each) for each in lines), line
    assert any(each.startswith("ingest_stream_oldest_waiting_seconds{") for each in lines)


def _same(one: str, other: str) -> bool:
    return sorted(one.replace("{", ",").replace("}", ",").split(",")) == sorted(
        other.replace("{", ",").replace("}", ",").split(",")
    )


def test_the_figures_of_streams_are_among_those_that_are_scraped(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path) as site:
        declare(site.platform, "archive")
        consign(site.platform, event(1, "archive"))
        text = httpx.get(f"{site.url}/metrics", timeout=20).text
    assert (
        f'ingest_stream_deliveries{{destination="archive",state="waiting",stream="{STREAM}",workspace="acme"}} 1.0'
        in text
    )
    assert "ingest_jobs{" in text
