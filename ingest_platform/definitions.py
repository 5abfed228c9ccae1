"""Root of the Dagster code location: discovers the feeds and builds what Dagster shows of them.

Loading it opens nothing: the platform is opened by the first body or sensor that needs it, once a process.
"""

from datetime import timedelta
from functools import cache

import dagster as dg

from ingest_platform.feeds import discover
from ingest_platform.opening import open_platform
from ingest_platform.orchestration.factory import build_definitions
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.platform import Platform
from ingest_platform.settings import Settings, load_settings
from ingest_platform.storage.ledger import migrate


def workplace_of(settings: Settings, platform: Platform) -> Workplace:
    """Say how runs behave in a process with these settings."""
    return Workplace(
        platform=platform,
        landing=settings.data_dir / "landing",
        api_url=f"http://{settings.api_host}:{settings.api_port}",
        linger_seconds=settings.linger_seconds,
        run_seconds_max=settings.run_seconds_max,
        archive_age=timedelta(days=settings.archive_days),
        history_age=timedelta(days=settings.history_days),
    )


@cache
def _open_workplace() -> Workplace:
    settings = load_settings()
    platform = open_platform(settings, application="dagster")
    # `dagster dev` may be the first thing that anybody starts here.
    migrate(platform.ledger.database_url)
    return workplace_of(settings, platform)


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions of all feeds."""
    return build_definitions(discover(), _open_workplace)
