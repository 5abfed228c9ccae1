"""`ingest load`: a local file by the same path as a dropped one, with a person who waits for its tally.

With an address it goes over HTTP instead (`sending.py`).
"""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ingest_platform.api.jobs import job_object
from ingest_platform.cli.command import Failed, Output, command, opened_ledger
from ingest_platform.cli.families import family_option
from ingest_platform.cli.jobs import REJECTIONS_SHOWN, follow, rejection_object, state_words, tell_job
from ingest_platform.cli.sending import send_files
from ingest_platform.domain.errors import Refusal
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.job import Job, JobState
from ingest_platform.opening import open_platform
from ingest_platform.pipeline.files import land_file, reading_of
from ingest_platform.pipeline.platform import Platform
from ingest_platform.settings import Settings
from ingest_platform.storage import jobs as stored
from ingest_platform.storage import outcomes, processes
from ingest_platform.storage.ledger import Transaction

# How far a job is, for the bar: landed, begun, ended.
_STEPS = {JobState.ACCEPTED: 1, JobState.PROCESSING: 2, JobState.FINISHED: 3, JobState.FAILED: 3}


_EPILOG = """Examples:

\b
  ingest load readings.csv more.ndjson.gz -w demo -f machine-data
  INGEST_TOKEN=ing_live_… ingest load trips.ndjson -f datasets --target 13 --url https://ingest.example.com
"""


@command(epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--workspace", "-w", help="Workspace that the data is for; over HTTP it is the key's.")
@family_option(required=True)
@click.option("--target", help="Dataset or stream, for the families that have them.")
@click.option("--url", help="Address of an API to send to, instead of landing the files here.  [INGEST_URL]")
@click.option("--token", help="API key to send with.  [INGEST_TOKEN]")
@click.option("--no-wait", is_flag=True, help="Print the job ids and do not wait.")
def load(
    output: Output,
    settings: Settings,
    *,
    files: Sequence[Path],
    workspace: str | None,
    family: Feed,
    target: str | None,
    url: str | None,
    token: str | None,
    no_wait: bool,
) -> int:
    """Send files through the same path as dropped ones, wait, and print the tally and the first rejections.

    The format is told by the name: .json .ndjson .jsonl .csv .parquet .arrow, each also with .gz or .zst.
    """
    for path in files:
        if reading_of(path.name) is None:
            # Before anything is taken, so that a second call with the name mended takes each file once.
            raise Failed(f"{path}: its name does not tell how to read it; see --help. Nothing was sent.")
    if (address := url or settings.url) is not None:
        if (key := token or settings.token) is None:
            raise click.UsageError("Over HTTP an API key is needed: --token or INGEST_TOKEN.")
        return send_files(output, address, key, files, family=family, target=target, no_wait=no_wait)
    if workspace is None:
        raise click.UsageError("Missing option '--workspace' / '-w'; without --url it must be told.")
    with opened_ledger(settings):
        # It is there and has its tables: the rest opens without a question.
        platform = open_platform(settings, application="load")
    try:
        job_ids = [_land(platform, family, workspace, path, target=target) for path in files]
        if no_wait:
            output.give({"jobs": job_ids})
            output.say("\n".join(job_ids))
            return 0
        return _wait(output, platform, job_ids, files)
    finally:
        platform.close()


def _land(platform: Platform, family: Feed, workspace: str, path: Path, *, target: str | None) -> str:
    try:
        return land_file(platform, family, workspace, path, target=target)
    except Refusal as refusal:
        raise Failed(f"{path}: {refusal.message}") from refusal
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error


def _wait(output: Output, platform: Platform, job_ids: Sequence[str], files: Sequence[Path]) -> int:
    with platform.ledger.connection() as tx:
        if not processes.alive(tx, part="worker"):
            output.warn(
                "No worker is alive: the files are accepted and wait. `ingest up` or `ingest worker` starts one."
            )
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        console=output.console,
        disable=output.as_json,
        transient=True,
    )
    tasks = {job_id: bars.add_task(path.name, total=3, state="") for job_id, path in zip(job_ids, files, strict=True)}

    def look(tx: Transaction) -> list[Job]:
        found = [stored.get_job(tx, workspace=None, job_id=job_id) for job_id in job_ids]
        return [job for job in found if job is not None]

    try:
        with bars:
            ended = follow(platform.ledger, look, until_ended=True, see=lambda found: _draw(bars, tasks, found))
    except KeyboardInterrupt:
        output.warn(f"No longer waiting; the jobs go on: ingest jobs watch {job_ids[0]}")
        raise
    return _tell(output, platform, ended)


def _draw(bars: Progress, tasks: dict[str, TaskID], found: Sequence[Job]) -> None:
    for job in found:
        bars.update(tasks[job.id], completed=_STEPS[job.state], state=state_words(job))


def _tell(output: Output, platform: Platform, ended: Sequence[Job]) -> int:
    for job in ended:
        with platform.ledger.connection() as tx:
            rejected = outcomes.rejections(tx, job.id, limit=REJECTIONS_SHOWN)
        output.give({**job_object(job), "rejections": [rejection_object(each) for each in rejected]})
        if not output.as_json:
            tell_job(output, job, rejected)
    return 1 if any("failed" in (job.state, job.verdict) for job in ended) else 0
