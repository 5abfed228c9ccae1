"""A process that delivers what is due and is killed at a named point: `python -m … POINT DATABASE_URL DATA_DIR`."""

import sys
import threading
from pathlib import Path

from ingest_platform.domain import crashpoint
from ingest_platform.feeds.stream_events.delivering.deliverer import Deliverer
from ingest_platform_tests.making import open_stores
from ingest_platform_tests.receiving import LOOPBACK


def main(point: str, database_url: str, data_dir: str) -> None:
    """Deliver until killed; it is a failure of the test if it ends by itself."""
    crashpoint.arm(point)
    # A daemon's end says nothing, and the test wants to know.
    threading.Timer(30.0, lambda: sys.exit("it was never killed")).start()
    platform = open_stores(database_url, Path(data_dir), outbound=LOOPBACK)
    Deliverer(platform, lease_seconds=1.0).run(stop=lambda: False, until_idle=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
