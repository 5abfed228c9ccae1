"""What feeds do from time to time, as assets with a job and a schedule each. What is done is the feed's business."""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ingest_platform.domain.feed import Feed, FeedTask
from ingest_platform.orchestration import checks, report
from ingest_platform.orchestration.origin import FEED_TAG, MODE_TAG, WORKER_TAG, Executor, Mode
from ingest_platform.orchestration.workplace import OpenWorkplace


def task_job_name(feed: Feed, task: FeedTask) -> str:
    """Name the job, and the schedule, that does a task."""
    return f"{feed.name}_{task.name}"


def task_key(feed: Feed, task: FeedTask) -> dg.AssetKey:
    """Name a task's asset."""
    return dg.AssetKey([feed.name, task.name])


def task_assets(feed: Feed, open_workplace: OpenWorkplace) -> list[dg.AssetsDefinition]:
    """Make an asset of each task of a feed."""
    return [_asset(feed, task, open_workplace) for task in feed.tasks]


def task_jobs(feed: Feed) -> list[UnresolvedAssetJobDefinition]:
    """Make the job of each task."""
    return [
        dg.define_asset_job(
            task_job_name(feed, task),
            selection=dg.AssetSelection.assets(task_key(feed, task)),
            executor_def=dg.in_process_executor,
            tags=_tags(feed, task),
            description=f"{feed.title}: {task.title}.",
        )
        for task in feed.tasks
    ]


def task_schedules(feed: Feed) -> list[dg.ScheduleDefinition]:
    """Make the schedule of each task."""
    return [
        dg.ScheduleDefinition(
            name=task_job_name(feed, task),
            job_name=task_job_name(feed, task),
            cron_schedule=task.cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            tags=_tags(feed, task),
            description=f"{feed.title}: {task.title}.",
        )
        for task in feed.tasks
    ]


def _tags(feed: Feed, task: FeedTask) -> dict[str, str]:
    return {MODE_TAG: (Mode.HEAVY if task.heavy else Mode.LIGHT).value, FEED_TAG: feed.name}


def _asset(feed: Feed, task: FeedTask, open_workplace: OpenWorkplace) -> dg.AssetsDefinition:
    key = task_key(feed, task)
    behind = [dg.AssetKey([feed.name, name]) for name in _behind(feed)]

    @dg.multi_asset(
        # Not that of its job: Dagster wants names of steps and jobs to differ.
        name="__".join(key.path),
        specs=[
            dg.AssetSpec(
                key, deps=behind, group_name=feed.name, kinds={"python"}, description=f"{feed.title}. {task.title}."
            )
        ],
        check_specs=checks.aspect_check_specs(key, task.aspect) if task.aspect else [],
    )
    def do(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[object]]:
        if WORKER_TAG not in context.run.tags:
            # A process of its own: so that the daemon can tell when it is gone.
            context.instance.add_run_tags(context.run.run_id, {WORKER_TAG: str(Executor.here())})
        platform = open_workplace().platform
        done = task.run(platform)
        if task.aspect is None:
            yield dg.MaterializeResult(asset_key=key, metadata=report.figures_metadata(done))
            return
        found = task.aspect.look(platform, None)
        yield dg.MaterializeResult(
            asset_key=key,
            metadata=report.figures_metadata({**done, **found.figures}),
            check_results=checks.aspect_results(key, found),
        )

    return do


def _behind(feed: Feed) -> Sequence[str]:
    """Tell what tasks work on: what the feed works out of its table, or the table itself."""
    return [aspect.name for aspect in feed.aspects] or [feed.table.name]
