"""The daemon's two sensors: dropped files, and the safety net below the worker. Both are idle while a worker lives."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ingest_platform.domain.feed import Feed
from ingest_platform.orchestration.origin import FEED_TAG, MODE_TAG, Mode
from ingest_platform.orchestration.partitions import key_of
from ingest_platform.orchestration.workplace import OpenWorkplace, Workplace
from ingest_platform.pipeline.files import collect
from ingest_platform.pipeline.filing import file_outcomes
from ingest_platform.storage.jobs import Waiting, waiting
from ingest_platform.storage.processes import alive

Jobs = Mapping[str, UnresolvedAssetJobDefinition]

WORKER_PART = "worker"
# The worker's watcher takes files within a second; the daemon looks no more often than every 5 s anyway.
FILES_SECONDS = 10
STRANDED_SECONDS = 15
# What a live worker has not taken for so long, it will not take.
STRANDED_AGE_SECONDS = 30.0
# A run key is used once for ever, so a net that failed is thrown again only in the next bucket.
BUCKET_SECONDS = 60


def file_drops(feeds: Sequence[Feed], jobs: Jobs, open_workplace: OpenWorkplace) -> dg.SensorDefinition:
    """Land every file that is complete; without a worker also start one run per feed that has work."""

    @dg.sensor(
        name="file_drops",
        jobs=list(jobs.values()),
        minimum_interval_seconds=FILES_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lands files from the landing folder; starts runs only where no worker lives.",
    )
    def look(_context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        place = open_workplace()
        taken = collect(place.platform, feeds)
        filed = file_outcomes(place.platform)
        said = f"{len(taken)} files landed, {len(filed)} filed"
        with place.platform.ledger.connection() as tx:
            workers = alive(tx, part=WORKER_PART)
        if workers:
            return dg.SkipReason(f"{said}; {workers} workers live and take them.")
        requests = [
            _request(feed, jobs, found) for feed in feeds if (found := _waiting(place, feed)).oldest_day is not None
        ]
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(f"{said}; nothing waits.")

    return look


def stranded(feeds: Sequence[Feed], jobs: Jobs, open_workplace: OpenWorkplace) -> dg.SensorDefinition:
    """Start a run for what nobody took."""

    @dg.sensor(
        name="stranded",
        jobs=list(jobs.values()),
        minimum_interval_seconds=STRANDED_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="The safety net: starts a run for submissions that no worker took within half a minute.",
    )
    def look(_context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        place = open_workplace()
        found = [(feed, _waiting(place, feed)) for feed in feeds]
        late = [(feed, each) for feed, each in found if (each.oldest_age_seconds or 0.0) > STRANDED_AGE_SECONDS]
        if late:
            return dg.SensorResult(run_requests=[_request(feed, jobs, each) for feed, each in late])
        return dg.SkipReason(f"{sum(each.submissions for _, each in found)} submissions wait, none for long.")

    return look


def _waiting(place: Workplace, feed: Feed) -> Waiting:
    with place.platform.ledger.connection() as tx:
        return waiting(tx, feed.name)


def _request(feed: Feed, jobs: Jobs, found: Waiting) -> dg.RunRequest:
    assert found.oldest_day is not None
    return dg.RunRequest(
        run_key=_run_key(feed, found.oldest_day, now=datetime.now(UTC)),
        job_name=jobs[feed.name].name,
        partition_key=key_of(found.oldest_day),
        tags={MODE_TAG: Mode.LIVE.value, FEED_TAG: feed.name},
    )


def _run_key(feed: Feed, day: date, *, now: datetime) -> str:
    return f"{feed.name}:{key_of(day)}:{int(now.timestamp()) // BUCKET_SECONDS}"
