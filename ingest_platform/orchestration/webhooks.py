"""Deliveries of webhooks by the clock: what is due and no worker has sent. How one is sent: `pipeline/deliver.py`."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ingest_platform.orchestration.origin import MODE_TAG, Mode
from ingest_platform.orchestration.workplace import OpenWorkplace
from ingest_platform.pipeline.deliver import deliver_due
from ingest_platform.storage import webhooks
from ingest_platform.storage.webhooks import DeliveryState

GROUP = "webhooks"
JOB = "webhook_retries"
# A worker sends retries within a second of their time. This is for when there is none; runs are dear, so not oftener.
CRON = "*/5 * * * *"
SECONDS_MAX = 120.0


def webhook_asset(open_workplace: OpenWorkplace) -> dg.AssetsDefinition:
    """Make the asset of all deliveries: what is due is sent, and what ended long ago is forgotten."""

    @dg.asset(
        key=dg.AssetKey([GROUP, "deliveries"]),
        group_name=GROUP,
        kinds={"http", "postgres"},
        description="Deliveries to webhooks: those that are due are sent, those that ended long ago are forgotten.",
    )
    def deliveries(context: dg.AssetExecutionContext) -> dg.MaterializeResult[object]:
        place = open_workplace()
        done = deliver_due(
            place.platform.ledger,
            place.platform.outbound,
            seconds_max=SECONDS_MAX,
            stop=lambda: place.should_stop(context.run.run_id),
        )
        with place.platform.ledger.transaction() as tx:
            forgotten = webhooks.forget_old(tx)
            waiting, overdue_seconds = webhooks.waiting(tx)
        return dg.MaterializeResult(
            metadata={
                "delivered": done[DeliveryState.DELIVERED],
                "put off": done[DeliveryState.PENDING],
                "given up": done[DeliveryState.DEAD],
                "waiting": waiting,
                "oldest overdue seconds": round(overdue_seconds or 0.0, 1),
                "forgotten": forgotten,
            }
        )

    return deliveries


def webhook_job() -> UnresolvedAssetJobDefinition:
    """Make the job of it."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.groups(GROUP),
        executor_def=dg.in_process_executor,
        tags={MODE_TAG: Mode.LIGHT.value},
        description="Sends the deliveries to webhooks that are due.",
    )


def webhook_schedule() -> dg.ScheduleDefinition:
    """Run it every few minutes."""
    return dg.ScheduleDefinition(
        name=JOB,
        job_name=JOB,
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags={MODE_TAG: Mode.LIGHT.value},
        description="Deliveries to webhooks, every five minutes; workers send them at once.",
    )
