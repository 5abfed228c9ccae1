"""Root of the Dagster instance: the classes that `dagster.yaml` names, made from the settings.

The parts themselves are in `orchestration/`; here is only where they get their values from.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from dagster._config.config_schema import UserConfigSchema
from dagster._core import telemetry_upload
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData

from ingest_platform.orchestration.history import PooledPostgresStorage
from ingest_platform.orchestration.launcher import WarmRunLauncher
from ingest_platform.settings import load_settings
from ingest_platform.storage.embedded import database_url

# Where dagster.yaml and workspace.yaml lie.
HOME = Path(__file__).resolve().parent.parent


def _upload_nothing(stop_event: threading.Event, raise_errors: bool = False) -> None:  # noqa: FBT001, FBT002
    del stop_event, raise_errors


class PlatformStorage(PooledPostgresStorage):
    """Runs, events and ticks in the platform's PostgreSQL: the configured one, else the embedded one (started)."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Take nothing from dagster.yaml."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, object]) -> Self:
        """Open the storage of the settings' database."""
        del config_value
        # Telemetry is off, and yet its thread makes `logs/` and `.logs_queue/` beside dagster.yaml.
        telemetry_upload.upload_logs = _upload_nothing
        settings = load_settings()
        return cls(database_url(settings.data_dir, settings.database_url), inst_data=inst_data)


class PlatformRunLauncher(WarmRunLauncher):
    """The warm launcher with the sockets of the settings' data directory."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Take nothing from dagster.yaml."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, object]) -> Self:
        """Look for workers of the settings' data directory."""
        del config_value
        return cls(load_settings().data_dir / "run", inst_data=inst_data)


class PlatformArtifacts(LocalArtifactStorage):
    """Files of Dagster's own, under the settings' data directory instead of beside dagster.yaml."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Take nothing from dagster.yaml."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, object]) -> Self:
        """Keep them in `<data>/dagster/`."""
        del config_value
        return cls(base_dir=str(load_settings().data_dir / "dagster"), inst_data=inst_data)
