"""From feeds to Dagster definitions: one multi-asset, one job and one nightly schedule each, and the platform's own.

An asset's body reads, calls a plain function of `pipeline/` and reports. What the path does is not known here.
"""

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.errors import DagsterExecutionInterruptedError

from ingest_platform.domain.feed import AppendTable, Feed, FeedAspect, FoldedTable, KeyedTable, Look, Table
from ingest_platform.orchestration import checks, report
from ingest_platform.orchestration.origin import FEED_TAG, JOBS_TAG, LOADS_TAG, MODE_TAG, WORKER_TAG, Executor, Mode
from ingest_platform.orchestration.partitions import DAYS, days_of
from ingest_platform.orchestration.schedules import nightly
from ingest_platform.orchestration.sensors import file_drops, stranded
from ingest_platform.orchestration.tasks import task_assets, task_jobs, task_schedules
from ingest_platform.orchestration.upkeep import upkeep_assets, upkeep_job, upkeep_schedule
from ingest_platform.orchestration.webhooks import webhook_asset, webhook_job, webhook_schedule
from ingest_platform.orchestration.workplace import OpenWorkplace, Workplace
from ingest_platform.pipeline.backfill import work_day_again
from ingest_platform.pipeline.report import RunReport
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage.jobs import waiting

HTTP_DOOR = dg.AssetKey(["landing", "http"])
FILE_DOOR = dg.AssetKey(["landing", "files"])


def job_name(feed: Feed) -> str:
    """Name the job that works a feed off."""
    return f"{feed.name}_job"


def build_definitions(feeds: Sequence[Feed], open_workplace: OpenWorkplace) -> dg.Definitions:
    """Make everything that Dagster knows of the platform; nothing is opened before a body runs."""
    jobs = {feed.name: _feed_job(feed) for feed in feeds}
    return dg.Definitions(
        assets=[
            *_doors(),
            *(feed_asset(feed, open_workplace) for feed in feeds),
            *(asset for feed in feeds for asset in task_assets(feed, open_workplace)),
            *upkeep_assets(feeds, open_workplace),
            webhook_asset(open_workplace),
        ],
        jobs=[*jobs.values(), *(job for feed in feeds for job in task_jobs(feed)), upkeep_job(), webhook_job()],
        schedules=[
            *(nightly(feed, jobs[feed.name]) for feed in feeds),
            *(schedule for feed in feeds for schedule in task_schedules(feed)),
            upkeep_schedule(),
            webhook_schedule(),
        ],
        sensors=[file_drops(feeds, jobs, open_workplace), stranded(feeds, jobs, open_workplace)],
        executor=dg.in_process_executor,
    )


def _doors() -> Sequence[dg.AssetSpec]:
    return (
        dg.AssetSpec(
            HTTP_DOOR, group_name="landing", kinds={"http"}, description="Bodies that clients sent to the API (2xx)."
        ),
        dg.AssetSpec(
            FILE_DOOR,
            group_name="landing",
            kinds={"file"},
            description="Files that were dropped into the landing folder.",
        ),
    )


def _feed_job(feed: Feed) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        job_name(feed),
        selection=dg.AssetSelection.assets(*(spec.key for spec in _specs(feed))),
        executor_def=dg.in_process_executor,
        description=f"{feed.title}: works off what was landed, or whole days again.",
    )


def _specs(feed: Feed) -> list[dg.AssetSpec]:
    """Describe the stations of a record's way, so that its lineage can be seen.

    None has two parents here: Dagster's UI refuses a backfill of several days then, as it adds the days of both up to
    what it does not take for the same days.
    """
    landed, checked, table, outcomes, rejections = _keys(feed)
    described = (
        (landed, [HTTP_DOOR, FILE_DOOR], {"postgres"}, "Submissions as they were received, waiting to be worked off."),
        (checked, [landed], {"polars", "pandera"}, "Records as typed frames, each with its verdict."),
        (table, [checked], {"duckdb", "parquet"}, _described(feed.table)),
        (outcomes, [table], {"postgres"}, "What became of every record, and the tally of every job."),
        (rejections, [checked], {"postgres"}, "Rejected records with every reason, as they were sent."),
        *((_aspect_key(feed, aspect), [table], {"postgres"}, aspect.title) for aspect in feed.aspects),
    )
    return [
        dg.AssetSpec(
            key,
            deps=list(deps),
            group_name=feed.name,
            kinds=set(kinds),
            description=f"{feed.title}. {text}",
            metadata={"dagster/table_name": f"lake.{feed.table.name}"} if key == table else None,
        )
        for key, deps, kinds, text in described
    ]


def _described(table: Table) -> str:
    match table:
        case KeyedTable():
            return "The warehouse table: one row per key, the one accepted last."
        case FoldedTable():
            return "The warehouse table: one row per key, folded from all that was said of it."
        case AppendTable():
            return "The warehouse table: one row per accepted record."


def _keys(feed: Feed) -> tuple[dg.AssetKey, dg.AssetKey, dg.AssetKey, dg.AssetKey, dg.AssetKey]:
    def key(name: str) -> dg.AssetKey:
        return dg.AssetKey([feed.name, name])

    return key("landed"), key("checked"), key(feed.table.name), key("outcomes"), key("rejections")


def _aspect_key(feed: Feed, aspect: FeedAspect) -> dg.AssetKey:
    return dg.AssetKey([feed.name, aspect.name])


def _check_specs(feed: Feed) -> list[dg.AssetCheckSpec]:
    landed, _, table, outcomes, _ = _keys(feed)
    return [
        dg.AssetCheckSpec(
            checks.NOTHING_OVERDUE, asset=landed, description="No submission waits for longer than a minute."
        ),
        dg.AssetCheckSpec(checks.NO_DUPLICATE_KEYS, asset=table, description="No key that was touched has two rows."),
        dg.AssetCheckSpec(
            checks.COUNTS_BALANCE, asset=outcomes, description="received = accepted + rejected, in every load."
        ),
        *(spec for aspect in feed.aspects for spec in checks.aspect_check_specs(_aspect_key(feed, aspect), aspect)),
    ]


def feed_asset(feed: Feed, open_workplace: OpenWorkplace) -> dg.AssetsDefinition:
    """Make the multi-asset of a feed: one body, all stations (an asset per step costs two to four times as much)."""

    @dg.multi_asset(
        name=feed.name,
        specs=_specs(feed),
        check_specs=_check_specs(feed),
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=False,
        description=f"{feed.title}: gather, parse, check, dedupe, load, settle.",
    )
    def work_off(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[object]]:
        place = open_workplace()
        done = _work(context, place, feed)
        context.instance.add_run_tags(
            context.run.run_id, {LOADS_TAG: str(done.loads_total), JOBS_TAG: str(done.totals["jobs"])}
        )
        yield from _results(context, place, feed, done)

    return work_off


def is_live(context: dg.AssetExecutionContext) -> bool:
    """Tell whether the run takes what waits; any other one works its days again."""
    return context.run.tags.get(MODE_TAG) == Mode.LIVE


def _work(context: dg.AssetExecutionContext, place: Workplace, feed: Feed) -> RunReport:
    days = days_of(context.partition_keys)
    if WORKER_TAG not in context.run.tags:
        # A process of its own: so that the daemon can tell when it is gone.
        context.instance.add_run_tags(context.run.run_id, {WORKER_TAG: str(Executor.here()), FEED_TAG: feed.name})
    if is_live(context):
        done = work_until_idle(
            place.platform,
            feed,
            day=days[0],
            run_id=context.run.run_id,
            linger_seconds=place.linger_seconds,
            seconds_max=place.run_seconds_max,
            stop=lambda: place.should_stop(context.run.run_id),
            wait=lambda seconds: place.wait(feed.name, seconds),
        )
    else:
        parts = (work_day_again(place.platform, feed, day=day, run_id=context.run.run_id) for day in days)
        done = report.merged(feed, parts)
    if context.run.run_id in place.cancelled:
        message = "The run was cancelled; the loads that it had settled stay settled."
        raise DagsterExecutionInterruptedError(message)
    if done.faults and not done.loads:
        # Nothing could be settled: somebody has to look. What had been claimed waits for its next attempt.
        raise dg.Failure(description=done.faults[-1], metadata={"faults": len(done.faults)}, allow_retries=False)
    return done


def _results(
    context: dg.AssetExecutionContext, place: Workplace, feed: Feed, done: RunReport
) -> Iterator[dg.MaterializeResult[object]]:
    """Report what was done, one result a station."""
    landed, checked, table, outcomes, rejections = _keys(feed)
    live = is_live(context)
    again = [] if live else days_of(context.partition_keys)
    looks = {
        aspect.name: aspect.look(place.platform, report.job_ids(done) if live else None) for aspect in feed.aspects
    }
    with place.platform.ledger.connection() as tx:
        oldest_seconds = waiting(tx, feed.name).oldest_age_seconds
    yield dg.MaterializeResult(
        asset_key=landed,
        metadata=report.landed_metadata(done, oldest_waiting_seconds=oldest_seconds, api_url=place.api_url),
        check_results=[checks.check_waiting(landed, oldest_seconds=oldest_seconds)],
    )
    yield dg.MaterializeResult(asset_key=checked, metadata=report.checked_metadata(done))
    yield dg.MaterializeResult(
        asset_key=table,
        # What people look for first is told with the rows, too.
        metadata=report.table_metadata(done) | report.figures_metadata(_tables(looks.values())),
        check_results=[checks.check_keys(table, place, done.tables.values(), job_ids=report.job_ids(done), days=again)],
    )
    yield dg.MaterializeResult(
        asset_key=outcomes,
        metadata=report.outcomes_metadata(done),
        check_results=[checks.check_counts(outcomes, done)],
    )
    yield dg.MaterializeResult(asset_key=rejections, metadata=report.rejections_metadata(done))
    for aspect in feed.aspects:
        key = _aspect_key(feed, aspect)
        yield dg.MaterializeResult(
            asset_key=key,
            metadata=report.figures_metadata(looks[aspect.name].figures),
            check_results=checks.aspect_results(key, looks[aspect.name]),
        )


def _tables(looks: Iterable[Look]) -> dict[str, object]:
    return {name: value for look in looks for name, value in look.figures.items() if isinstance(value, list)}
