"""A Dagster instance as dagster.yaml describes it, and a workplace, each on the test's own database and folder."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.instance import HOME
from ingest_platform.orchestration.factory import build_definitions
from ingest_platform.orchestration.runs import LocalRuns
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.platform import Platform


@pytest.fixture
def instance(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Open the instance of the top-level dagster.yaml."""
    monkeypatch.setenv("INGEST_DATABASE_URL", database_url)
    monkeypatch.setenv("INGEST_DATA_DIR", str(tmp_path))
    with dg.DagsterInstance.from_config(str(HOME)) as opened:
        yield opened


@pytest.fixture
def place(platform: Platform) -> Workplace:
    """Make a workplace whose runs end as soon as nothing waits."""
    return Workplace(
        platform=platform,
        landing=platform.data_dir / "landing",
        api_url="http://127.0.0.1:8000",
        linger_seconds=0.0,
        run_seconds_max=60.0,
        archive_age=timedelta(days=30),
        history_age=timedelta(days=7),
    )


@pytest.fixture
def runs(instance: dg.DagsterInstance, place: Workplace) -> LocalRuns:
    """Make runs of machine data in this process."""
    return LocalRuns(instance, build_definitions([FEED], lambda: place))


def lingering(place: Workplace, *, seconds: float) -> Workplace:
    """Make a workplace whose runs wait for more work."""
    return replace(place, linger_seconds=seconds)
