"""What the runs of one process share: the opened platform and the values that their bodies need. No Dagster in here."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ingest_platform.pipeline.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """An opened platform, and how runs behave in this process.

    `stopping` says whether the process is about to end; `cancelled` has the ids of runs that somebody wants ended;
    `wake` has an event by feed that is set when something of it was landed.
    """

    platform: Platform
    landing: Path
    api_url: str | None
    linger_seconds: float
    run_seconds_max: float
    archive_age: timedelta
    history_age: timedelta
    stopping: Callable[[], bool] = lambda: False
    cancelled: set[str] = field(default_factory=set[str])
    wake: Mapping[str, threading.Event] = field(default_factory=dict[str, threading.Event])

    def should_stop(self, run_id: str) -> bool:
        """Tell whether a run is to take no further load."""
        return self.stopping() or run_id in self.cancelled

    def wait(self, feed: str, seconds: float) -> None:
        """Wait until something of a feed is landed, at most for the seconds."""
        event = self.wake.get(feed)
        if event is None:
            time.sleep(seconds)
            return
        event.wait(seconds)
        # Cleared before the caller looks for work, so that what lands after the look is not slept over.
        event.clear()


OpenWorkplace = Callable[[], Workplace]
