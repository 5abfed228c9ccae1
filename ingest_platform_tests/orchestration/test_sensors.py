"""The daemon's sensors: idle while a worker lives, a net when none does."""

from pathlib import Path

import dagster as dg
import pytest

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.factory import build_definitions
from ingest_platform.orchestration.origin import FEED_TAG, MODE_TAG
from ingest_platform.orchestration.sensors import WORKER_PART
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.storage import processes
from ingest_platform_tests.pipeline.working import declare, reading, submit


def tick(place: Workplace, name: str) -> dg.SensorResult | dg.SkipReason:
    """Let a sensor look once."""
    found = build_definitions([FEED], lambda: place).resolve_sensor_def(name)(dg.build_sensor_context())
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def begin_worker(place: Workplace) -> None:
    with place.platform.ledger.transaction() as tx:
        processes.beat(tx, process_id="wrk_1", part=WORKER_PART)


def let_wait(place: Workplace, *, seconds: int) -> None:
    with place.platform.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET accepted_at = accepted_at - make_interval(secs => %s)", (seconds,))


def test_without_a_worker_what_waits_gets_one_run(place: Workplace) -> None:
    declare(place.platform)
    for value in (1.0, 2.0):
        submit(place.platform, reading(value))
    found = tick(place, "file_drops")
    assert isinstance(found, dg.SensorResult)
    (request,) = found.run_requests or []
    assert request.tags.items() >= {MODE_TAG: "live", FEED_TAG: FEED.name}.items()
    assert request.partition_key is not None


def test_while_a_worker_lives_the_files_are_landed_and_no_run_is_asked_for(place: Workplace) -> None:
    declare(place.platform)
    begin_worker(place)
    submit(place.platform, reading())
    found = tick(place, "file_drops")
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message is not None
    assert "1 workers live" in found.skip_message


@pytest.mark.parametrize("name", ["file_drops", "stranded"])
def test_nothing_is_asked_for_when_nothing_waits(place: Workplace, name: str) -> None:
    assert isinstance(tick(place, name), dg.SkipReason)


def test_what_nobody_took_is_caught_by_the_net_though_a_worker_lives(place: Workplace) -> None:
    declare(place.platform)
    begin_worker(place)
    submit(place.platform, reading())
    assert isinstance(tick(place, "stranded"), dg.SkipReason)
    let_wait(place, seconds=60)
    found = tick(place, "stranded")
    assert isinstance(found, dg.SensorResult)
    assert len(found.run_requests or []) == 1


def test_the_net_is_thrown_once_a_minute(place: Workplace) -> None:
    declare(place.platform)
    submit(place.platform, reading())
    let_wait(place, seconds=60)
    keys = set[str | None]()
    for _ in range(2):
        found = tick(place, "stranded")
        assert isinstance(found, dg.SensorResult)
        keys |= {request.run_key for request in found.run_requests or []}
    # Two when a minute ended in between.
    assert len(keys) in {1, 2}


def test_a_dropped_file_is_landed_by_the_sensor(place: Workplace) -> None:
    declare(place.platform)
    folder: Path = place.landing / "acme" / FEED.folder
    folder.mkdir(parents=True)
    (folder / "empty.json").write_bytes(b'{"items": []}')
    # A file is complete once it has been seen unchanged for a while; the sensor looks every 10 s.
    first = tick(place, "file_drops")
    assert isinstance(first, dg.SkipReason)
