"""What the runs of a process share."""

import threading
import time
from dataclasses import replace

from ingest_platform.orchestration.workplace import Workplace


def test_a_run_stops_when_its_process_ends_or_somebody_wants_it(place: Workplace) -> None:
    place.cancelled.add("run-1")
    assert place.should_stop("run-1")
    assert not place.should_stop("run-2")
    assert replace(place, stopping=lambda: True).should_stop("run-2")


def test_waiting_ends_as_soon_as_something_is_landed(place: Workplace) -> None:
    event = threading.Event()
    awake = replace(place, wake={"machine_data": event})
    event.set()
    begun = time.monotonic()
    awake.wait("machine_data", seconds=30.0)
    assert time.monotonic() - begun < 30.0
    # What was told is not told again.
    assert not event.is_set()


def test_where_nobody_tells_waiting_takes_its_time(place: Workplace) -> None:
    begun = time.monotonic()
    place.wait("machine_data", seconds=0.05)
    assert time.monotonic() - begun >= 0.05
