"""What streams do by the clock: deliveries that no worker has sent, and forgetting those that ended long ago.

How one is delivered: `delivering/`.
"""

from collections.abc import Mapping

from ingest_platform.domain.feed import FeedService, FeedTask
from ingest_platform.feeds.stream_events.consign import CONSIGNED
from ingest_platform.feeds.stream_events.delivering.deliverer import deliver, deliver_due
from ingest_platform.feeds.stream_events.delivering.deliveries import forget_old
from ingest_platform.feeds.stream_events.looks import DESTINATIONS
from ingest_platform.pipeline.platform import Platform

# A worker delivers within a second. This is for when there is none; runs are dear, so not oftener.
CRON = "*/5 * * * *"
SECONDS_MAX = 120.0
# Of deletions of some thousands; what is left is deleted by the next run.
FORGETTING_MAX = 100


def deliver_and_forget(platform: Platform) -> Mapping[str, object]:
    """Deliver what is due, and forget what ended long ago."""
    done = deliver_due(platform, seconds_max=SECONDS_MAX)
    forgotten = 0
    for _ in range(FORGETTING_MAX):
        with platform.ledger.transaction() as tx:
            deleted = forget_old(tx)
        forgotten += deleted
        if not deleted:
            break
    return {"delivered now": done["delivered"], "put off": done["again"], "died": done["dead"], "forgotten": forgotten}


DELIVERIES = FeedTask(
    name="deliveries",
    title="Deliveries that are due are sent, those that ended long ago are forgotten",
    cron=CRON,
    run=deliver_and_forget,
    aspect=DESTINATIONS,
)
DELIVERING = FeedService(name="deliver streams", channel=CONSIGNED, run=deliver)
