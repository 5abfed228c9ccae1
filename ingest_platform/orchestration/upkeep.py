"""The platform's own assets: what keeps it small and quick. How each thing is done is not known here."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ingest_platform.domain.feed import Feed
from ingest_platform.orchestration.origin import MODE_TAG, Mode
from ingest_platform.orchestration.retention import forget_runs
from ingest_platform.orchestration.workplace import OpenWorkplace
from ingest_platform.pipeline.archive import archive_days, forget_old_days
from ingest_platform.pipeline.filing import forget_old_filed
from ingest_platform.pipeline.leftovers import sweep_blobs, sweep_scratch
from ingest_platform.storage import idempotency, jobs, limits, processes

GROUP = "platform"
JOB = "upkeep"
# Often enough that small files of a quarter of an hour are merged while they are few; a quiet tick takes a second.
CRON = "*/15 * * * *"


def upkeep_assets(feeds: Sequence[Feed], open_workplace: OpenWorkplace) -> list[dg.AssetsDefinition]:
    """Make the assets that keep the lake, the inbox, the request tables and Dagster's history small."""
    return [
        _lake(open_workplace),
        _archive(feeds, open_workplace),
        _leftovers(open_workplace),
        _request_memory(open_workplace),
        _run_history(open_workplace),
    ]


def upkeep_job() -> UnresolvedAssetJobDefinition:
    """Make the one job of all of them; each is its own step, so one that fails leaves the others."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.groups(GROUP),
        executor_def=dg.in_process_executor,
        tags={MODE_TAG: Mode.LIGHT.value},
        description="Keeps lake, inbox and history small.",
    )


def upkeep_schedule() -> dg.ScheduleDefinition:
    """Run it every quarter of an hour."""
    return dg.ScheduleDefinition(
        name=JOB,
        job_name=JOB,
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags={MODE_TAG: Mode.LIGHT.value},
        description="Upkeep, every quarter of an hour.",
    )


def _lake(open_workplace: OpenWorkplace) -> dg.AssetsDefinition:
    @dg.asset(
        key=dg.AssetKey([GROUP, "lake"]),
        group_name=GROUP,
        kinds={"duckdb", "parquet"},
        description="The lake's files: small ones merged, deleted rows and old snapshots removed.",
    )
    def lake() -> dg.MaterializeResult[object]:
        platform = open_workplace().platform
        with platform.ledger.connection() as tx:
            first_open = jobs.first_open(tx)
        done = platform.warehouse.maintain(applied_before=first_open)
        return dg.MaterializeResult(metadata={str(name): value for name, value in done.items()})

    return lake


def _archive(feeds: Sequence[Feed], open_workplace: OpenWorkplace) -> dg.AssetsDefinition:
    @dg.asset(
        key=dg.AssetKey([GROUP, "archive"]),
        group_name=GROUP,
        kinds={"zstandard", "postgres"},
        description="Past days' submissions, compressed, in the blob store; the inbox keeps the last days.",
    )
    def archive() -> dg.MaterializeResult[object]:
        place = open_workplace()
        done = archive_days(place.platform, feeds)
        forgotten = forget_old_days(place.platform, archive_days=place.archive_age.days)
        forget_old_filed(place.platform.data_dir, days=place.archive_age.days, today=datetime.now(UTC).date())
        rows = [f"{each.feed} {each.day}: {each.submissions} submissions, {each.bytes} bytes" for each in done]
        return dg.MaterializeResult(metadata={"days archived": len(rows), "days": rows, "days forgotten": forgotten})

    return archive


def _leftovers(open_workplace: OpenWorkplace) -> dg.AssetsDefinition:
    @dg.asset(
        key=dg.AssetKey([GROUP, "leftovers"]),
        group_name=GROUP,
        kinds={"file"},
        description="What killed processes left behind: staged and spilled data, half-written and unaccepted blobs.",
    )
    def leftovers() -> dg.MaterializeResult[object]:
        platform = open_workplace().platform
        return dg.MaterializeResult(metadata={**sweep_scratch(platform), **sweep_blobs(platform)})

    return leftovers


def _request_memory(open_workplace: OpenWorkplace) -> dg.AssetsDefinition:
    @dg.asset(
        key=dg.AssetKey([GROUP, "request_memory"]),
        group_name=GROUP,
        kinds={"postgres"},
        description="Answers kept for repeated requests, rate buckets, processes that are gone: deleted when old.",
    )
    def request_memory() -> dg.MaterializeResult[object]:
        with open_workplace().platform.ledger.connection() as tx:
            return dg.MaterializeResult(
                metadata={
                    "answers deleted": idempotency.forget_old(tx),
                    "rate buckets deleted": limits.forget_old(tx),
                    "processes deleted": processes.forget_dead(tx),
                }
            )

    return request_memory


def _run_history(open_workplace: OpenWorkplace) -> dg.AssetsDefinition:
    @dg.asset(
        key=dg.AssetKey([GROUP, "run_history"]),
        group_name=GROUP,
        kinds={"dagster"},
        description="Dagster's finished runs: deleted when old or many; the newest of each feed and day stays.",
    )
    def run_history(context: dg.AssetExecutionContext) -> dg.MaterializeResult[object]:
        done = forget_runs(context.instance, now=datetime.now(UTC), age_max=open_workplace().history_age)
        oldest = done.oldest.isoformat(timespec="seconds") if done.oldest else "none"
        return dg.MaterializeResult(
            metadata={"runs deleted": done.deleted, "runs left": done.left, "oldest run": oldest}
        )

    return run_history
