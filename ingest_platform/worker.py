"""Root of the worker process: opens the platform and the Dagster instance, and works until a signal ends it."""

import signal
import threading
from contextlib import closing
from dataclasses import replace

import dagster as dg

from ingest_platform.definitions import workplace_of
from ingest_platform.feeds import discover
from ingest_platform.instance import HOME
from ingest_platform.opening import open_platform
from ingest_platform.orchestration.factory import build_definitions
from ingest_platform.orchestration.worker import run_worker
from ingest_platform.pipeline.leftovers import sweep_scratch
from ingest_platform.settings import Settings, adopt
from ingest_platform.storage.ledger import migrate


def main(settings: Settings) -> int:
    """Be a worker until SIGTERM or SIGINT; the exit code is 0 if it ended in good order."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Dagster makes its storage and launcher from their names, and they read the settings themselves.
    adopt(settings)
    feeds = discover()
    platform = open_platform(settings, application="worker")
    migrate(platform.ledger.database_url)
    sweep_scratch(platform)
    place = replace(
        workplace_of(settings, platform), stopping=stop.is_set, wake={feed.name: threading.Event() for feed in feeds}
    )
    with closing(platform), dg.DagsterInstance.from_config(settings.dagster_home or str(HOME)) as instance:
        ended_well = run_worker(
            place=place,
            feeds=feeds,
            definitions=build_definitions(feeds, lambda: place),
            instance=instance,
            run_dir=settings.data_dir / "run",
            stop=stop,
        )
    return 0 if ended_well else 1
