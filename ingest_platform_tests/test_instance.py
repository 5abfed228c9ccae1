"""The instance as dagster.yaml describes it: in PostgreSQL and the data directory, nowhere else."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.run_coordinator import DefaultRunCoordinator
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._serdes import deserialize_value, serialize_value

from ingest_platform.instance import HOME, PlatformRunLauncher


@pytest.fixture
def data_dir(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the settings at the test's own database and folder."""
    monkeypatch.setenv("INGEST_DATABASE_URL", database_url)
    monkeypatch.setenv("INGEST_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def instance(data_dir: Path) -> Iterator[dg.DagsterInstance]:
    """Open the instance of the top-level dagster.yaml."""
    assert not data_dir.exists()
    with dg.DagsterInstance.from_config(str(HOME)) as opened:
        yield opened


def test_a_run_is_launched_at_once_by_the_warm_launcher(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_launcher, PlatformRunLauncher)
    assert isinstance(instance.run_coordinator, DefaultRunCoordinator)


def test_nothing_is_written_beside_the_data_directory(instance: dg.DagsterInstance, data_dir: Path) -> None:
    assert Path(instance.storage_directory()).is_relative_to(data_dir)
    assert isinstance(instance.compute_log_manager, NoOpComputeLogManager)
    assert not instance.telemetry_enabled


def test_a_run_in_a_process_of_its_own_finds_the_same_instance(instance: dg.DagsterInstance) -> None:
    sent = serialize_value(instance.get_ref())
    with dg.DagsterInstance.from_ref(deserialize_value(sent, InstanceRef)) as there:
        assert there.event_log_storage is not instance.event_log_storage
        assert there.get_runs_count() == instance.get_runs_count()


def test_the_password_of_the_database_is_not_sent_along(instance: dg.DagsterInstance, database_url: str) -> None:
    assert database_url not in serialize_value(instance.get_ref())


def test_runs_that_hang_are_found(instance: dg.DagsterInstance) -> None:
    assert instance.run_monitoring_enabled
    assert instance.run_launcher.supports_check_run_worker_health
