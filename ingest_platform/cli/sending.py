"""`ingest load --url`: files over HTTP with the client, and the tally of what became of them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ingest_platform.cli.command import Failed, Output
from ingest_platform.cli.jobs import REJECTIONS_SHOWN
from ingest_platform.client import Client, ClientError, Job, RecordError, Sent
from ingest_platform.domain.feed import Feed

# As long as a person waits for one file.
WAIT_SECONDS = 600.0
_FAILED = "failed"


def send_files(
    output: Output,
    url: str,
    token: str,
    files: Sequence[Path],
    *,
    family: Feed,
    target: str | None,
    no_wait: bool,
) -> int:
    """Send files one after the other; 1 if any of them came to nothing."""
    with Client(url, token) as client:
        return max(_send(output, client, path, family, target, no_wait=no_wait) for path in files)


def _send(output: Output, client: Client, path: Path, family: Feed, target: str | None, *, no_wait: bool) -> int:
    try:
        with _bars(output) as bars:
            bar = bars.add_task(path.name, total=path.stat().st_size, state="sending")
            sent = client.send_file(family.folder, path, target=target, see=lambda count: bars.advance(bar, count))
            bars.update(bar, state="waiting")
            jobs = [] if no_wait else [client.wait(job_id, seconds=WAIT_SECONDS) for job_id in sent.job_ids]
        errors = [*sent.errors, *_rejections(client, sent, jobs)][:REJECTIONS_SHOWN]
    except ClientError as error:
        raise Failed(f"{path}: {error}") from error
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    return _tell(output, path, sent, jobs, errors)


def _bars(output: Output) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        console=output.console,
        disable=output.as_json,
        transient=True,
    )


def _rejections(client: Client, sent: Sent, jobs: Sequence[Job]) -> list[RecordError]:
    """Ask for what the jobs rejected, where the answers to the records have not told it already."""
    if sent.given or not jobs or not jobs[0].counts.get("rejected"):
        return []
    return client.rejections(jobs[0].id, limit=REJECTIONS_SHOWN)


def _tell(output: Output, path: Path, sent: Sent, jobs: Sequence[Job], errors: Sequence[RecordError]) -> int:
    counts = {name: sum(job.counts.get(name) or 0 for job in jobs) for name in ("received", "accepted", "rejected")}
    if sent.given:
        # Bad records were left out before they were a job's.
        counts = {"received": sent.given, "accepted": sent.accepted, "rejected": sent.rejected}
    shown = [{"id": job.id, "state": job.state, "verdict": job.verdict, "error": job.body.get("error")} for job in jobs]
    told = counts if jobs or sent.given else {}
    output.give({"file": path, "jobs": shown or list(sent.job_ids), **told, "rejections": [asdict(e) for e in errors]})
    output.say(f"{path.name}  {' '.join(sent.job_ids)}", style="bold")
    if told:
        output.say("  {received:,} received = {accepted:,} accepted + {rejected:,} rejected".format(**counts))
    for job in jobs:
        if job.state == _FAILED:
            output.say(f"  {job.id}: {job.body.get('error')}", style="red")
    for error in errors:
        where = f"record {error.index}" + (f", {error.field}" if error.field else "")
        output.say(f"  {where}: {error.code}: {error.error}", style="yellow")
    nothing_good = bool(sent.given) and not sent.accepted
    return 1 if nothing_good or any(_FAILED in (job.state, job.verdict) for job in jobs) else 0
