"""The code location as Dagster loads it."""

import subprocess
import sys

from ingest_platform.definitions import defs
from ingest_platform.feeds import discover
from ingest_platform.instance import HOME


def test_every_feed_has_its_job_and_its_night() -> None:
    repository = defs().get_repository_def()
    for feed in discover():
        assert repository.has_job(f"{feed.name}_job")
        assert repository.has_schedule_def(f"{feed.name}_nightly")


def test_what_belongs_to_the_platform_is_there_once() -> None:
    repository = defs().get_repository_def()
    assert {sensor.name for sensor in repository.sensor_defs} == {"file_drops", "stranded"}
    assert repository.has_job("upkeep")


def test_the_workspace_is_found_from_the_root_and_nothing_is_left_there() -> None:
    before = {path.name for path in HOME.iterdir()}
    # Loading opens neither the database nor the lake, so it needs no settings.
    command = ["-m", "dagster", "definitions", "validate", "--workspace", "workspace.yaml"]
    done = subprocess.run(
        [sys.executable, *command], cwd=HOME, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in HOME.iterdir()} == before
