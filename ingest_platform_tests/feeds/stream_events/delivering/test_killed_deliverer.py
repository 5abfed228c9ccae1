"""Whoever delivers is killed with -9 between claim, send and outcome: nothing is lost, and ids tell what came twice."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ingest_platform.feeds.stream_events.delivering.deliverer import Deliverer
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.feeds.stream_events.delivering import killed
from ingest_platform_tests.feeds.stream_events.delivering.consigned import (
    HASTY,
    consign,
    declare,
    event,
    figures,
    ids_of,
)
from ingest_platform_tests.making import open_stores
from ingest_platform_tests.receiving import LOOPBACK, Receiver, receiving

EVENTS = 25
SENT_TOGETHER = 10


def _kill_at(point: str, platform: Platform) -> None:
    done = subprocess.run(
        [sys.executable, "-m", killed.__name__, point, platform.ledger.database_url, str(platform.data_dir)],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def _in_files(platform: Platform) -> Counter[str]:
    files = (platform.data_dir / "exports").rglob("*.ndjson")
    return Counter(json.loads(line)["event_id"] for file in files for line in file.read_text().splitlines())


def _received(receiver: Receiver) -> Counter[str]:
    """Count the events that came, of each delivery once; a repetition has the same ones."""
    deliveries: dict[str, list[str]] = {}
    for each in receiver.got:
        ids = [item["event_id"] for item in json.loads(each.body)]
        assert deliveries.setdefault(each.headers["x-delivery-id"], ids) == ids
    return Counter(event_id for ids in deliveries.values() for event_id in ids)


@pytest.mark.crash
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("name", ["claimed", "parted", "before_send", "sent", "kept"])
def test_nothing_is_lost_and_nothing_doubled_where_ids_are_stable(
    name: str, nth: int, database_url: str, tmp_path: Path
) -> None:
    platform = open_stores(database_url, tmp_path, outbound=LOOPBACK)
    try:
        with receiving() as receiver:
            _declare(platform, receiver)
            job = consign(platform, *(event(number, "archive", "hook") for number in range(EVENTS)))
            _kill_at(f"deliver.{name}:{nth}", platform)
            _deliver_the_rest(platform)
            assert figures(platform, "archive") == figures(platform, "hook") == (EVENTS, EVENTS, 0, 0)
            expected = Counter(ids_of(job, range(EVENTS)))
            assert _in_files(platform) == expected
            assert _received(receiver) == expected
    finally:
        platform.close()


def _declare(platform: Platform, receiver: Receiver) -> None:
    together = {"batch_events": SENT_TOGETHER, "batch_seconds": 0}
    declare(platform, "archive", type="files", path="exports/", format="ndjson", **together)
    declare(platform, "hook", type="http", url=receiver.url, **together)


def _deliver_the_rest(platform: Platform) -> None:
    begun = time.monotonic()
    Deliverer(platform, patience=HASTY).run(
        stop=lambda: _nothing_waits(platform) or time.monotonic() > begun + 30.0, wait=lambda _: time.sleep(0.05)
    )
    assert _nothing_waits(platform)


def _nothing_waits(platform: Platform) -> bool:
    return not figures(platform, "archive")[2] + figures(platform, "hook")[2]
