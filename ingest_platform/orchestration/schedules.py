"""What runs by the clock, for each feed."""

from datetime import timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ingest_platform.domain.feed import Feed
from ingest_platform.orchestration.origin import FEED_TAG, MODE_TAG, Mode
from ingest_platform.orchestration.partitions import key_of

# After midnight by so much that nothing of yesterday waits any more, and before people come in.
NIGHTLY_CRON = "30 2 * * *"


def nightly(feed: Feed, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Work yesterday again every night: tables that it changes would show that something was lost or doubled."""

    @dg.schedule(
        name=f"{feed.name}_nightly",
        job=job,
        cron_schedule=NIGHTLY_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"{feed.title}: works yesterday again; the tables stay as they are.",
    )
    def run_yesterday(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        yesterday = key_of(context.scheduled_execution_time.date() - timedelta(days=1))
        return dg.RunRequest(
            run_key=yesterday, partition_key=yesterday, tags={MODE_TAG: Mode.HEAVY.value, FEED_TAG: feed.name}
        )

    return run_yesterday
