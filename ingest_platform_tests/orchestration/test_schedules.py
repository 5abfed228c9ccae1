"""What runs by the clock."""

from datetime import UTC, datetime

import dagster as dg

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.factory import build_definitions
from ingest_platform.orchestration.origin import MODE_TAG
from ingest_platform.orchestration.workplace import Workplace


def never() -> Workplace:
    """Fail if anything is opened."""
    raise AssertionError


def test_every_night_works_yesterday_again_in_a_process_of_its_own() -> None:
    schedule = build_definitions([FEED], never).resolve_schedule_def("machine_data_nightly")
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 5, 6, 2, 30, tzinfo=UTC))
    found = schedule(context)
    assert isinstance(found, dg.RunRequest)
    assert (found.partition_key, found.tags[MODE_TAG]) == ("2026-05-05", "heavy")


def test_schedules_and_sensors_run_from_the_first_start_on() -> None:
    repository = build_definitions([FEED], never).get_repository_def()
    assert {each.default_status.value for each in repository.schedule_defs} == {"RUNNING"}
    assert {each.default_status.value for each in repository.sensor_defs} == {"RUNNING"}
