"""`ingest jobs`: list, show and watch, read directly from the ledger, of all workspaces."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import click
import psycopg
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ingest_platform.api.jobs import job_object
from ingest_platform.cli.command import Failed, Output, command, opened_ledger, shown
from ingest_platform.cli.families import family_option
from ingest_platform.domain.errors import LedgerFault
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.job import Job, JobState, Origin
from ingest_platform.domain.rejection import Rejection, reasons
from ingest_platform.settings import Settings
from ingest_platform.storage import jobs as stored
from ingest_platform.storage import outcomes
from ingest_platform.storage.jobs import LANDED, SETTLED, JobFilter
from ingest_platform.storage.ledger import Ledger, Transaction, connect

LISTED_MAX = 1000
REJECTIONS_SHOWN = 10
# What changes without a notification (a job that is begun) is seen after at most this.
WATCH_SECONDS = 0.5
_STATE_STYLES = {
    JobState.ACCEPTED: "cyan",
    JobState.PROCESSING: "yellow",
    JobState.FINISHED: "green",
    JobState.FAILED: "red",
}
_COLUMNS = ("job", "workspace", "family", "state", "received", "accepted", "rejected", "accepted at", "took", "file")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def jobs() -> None:
    """List, show and watch jobs."""


def state_words(job: Job) -> str:
    """Write a job's state; a finished one's with what came of it."""
    return (
        job.state.value if job.verdict in {None, "succeeded", job.state.value} else f"{job.state.value}, {job.verdict}"
    )


def seconds_taken(job: Job, *, now: datetime | None = None) -> float | None:
    """Measure from acceptance to the end, or until now."""
    end = job.finished_at or now
    return None if end is None else max(0.0, (end - job.accepted_at).total_seconds())


def jobs_table(found: Sequence[Job], *, now: datetime | None = None) -> Table:
    """Lay out jobs as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in _COLUMNS:
        counted = column in {"received", "accepted", "rejected", "took"}
        table.add_column(column, justify="right" if counted else "left", no_wrap=column == "job")
    for job in found:
        taken = seconds_taken(job, now=now)
        cells = (job.received, job.accepted, job.rejected, job.accepted_at)
        table.add_row(
            *(job.id, job.workspace, job.feed),
            Text(state_words(job), style=_STATE_STYLES[job.state]),
            *(shown(cell) for cell in cells),
            "-" if taken is None else f"{taken:.1f} s",
            job.file_name or "-",
        )
    return table


@command(jobs, name="list", epilog="Example:  ingest jobs list -w demo --state failed --since 2026-05-06")
@click.option("--workspace", "-w", help="Only this workspace's.")
@family_option(required=False)
@click.option("--state", type=click.Choice([state.value for state in JobState]), help="Only in this state.")
@click.option("--origin", type=click.Choice([origin.value for origin in Origin]), help="Only those that came so.")
@click.option("--since", type=click.DateTime(), help="Only those accepted since (UTC).")
@click.option("--limit", type=click.IntRange(1, LISTED_MAX), default=25, help="How many.  [25]")
def list_command(
    output: Output,
    settings: Settings,
    *,
    workspace: str | None,
    family: Feed | None,
    state: str | None,
    origin: str | None,
    since: datetime | None,
    limit: int,
) -> None:
    """List jobs, the latest accepted first."""
    which = JobFilter(
        workspace=workspace,
        feed=family.name if family else None,
        state=JobState(state) if state else None,
        origin=Origin(origin) if origin else None,
        since=since.replace(tzinfo=UTC) if since else None,
    )
    with opened_ledger(settings) as ledger, ledger.connection() as tx:
        found = stored.list_jobs(tx, which, before_seq=None, limit=limit)
    output.give([job_object(job) for job in found])
    if not output.as_json:
        output.console.print(jobs_table(found) if found else "There are no such jobs.")


@command(jobs, epilog="Example:  ingest jobs show job_01kqzcjrpyf27tge33jwvjhkff")
@click.argument("job_id")
@click.option("--rejections", type=click.IntRange(0, LISTED_MAX), default=REJECTIONS_SHOWN, help="How many.  [10]")
def show(output: Output, settings: Settings, *, job_id: str, rejections: int) -> int:
    """Show one job: its tally, its times, its first rejections."""
    with opened_ledger(settings) as ledger, ledger.connection() as tx:
        job = _find(tx, job_id)
        rejected = outcomes.rejections(tx, job_id, limit=rejections) if rejections else []
    output.give({**job_object(job), "rejections": [rejection_object(each) for each in rejected]})
    if not output.as_json:
        tell_job(output, job, rejected)
    return 1 if job.state is JobState.FAILED else 0


def _find(tx: Transaction, job_id: str) -> Job:
    job = stored.get_job(tx, workspace=None, job_id=job_id)
    if job is None:
        raise Failed(f"There is no job {job_id}; `ingest jobs list` shows the latest.")
    return job


def rejection_object(rejection: Rejection) -> dict[str, object]:
    """Show a rejection to a program."""
    return {"index": rejection.record_index, "reasons": reasons(rejection.problems)}


def tell_job(output: Output, job: Job, rejected: Sequence[Rejection]) -> None:
    """Show a job to a person."""
    output.console.print(Text.assemble((job.id, "bold"), "  ", (state_words(job), _STATE_STYLES[job.state])))
    taken = seconds_taken(job)
    output.say(f"  {job.workspace} · {job.feed} · {job.origin.value} · {job.bytes_in:,} bytes · {job.file_name or ''}")
    output.say(f"  accepted {shown(job.accepted_at)}" + (f", took {taken:.2f} s" if taken is not None else ""))
    if job.duplicate_of:
        output.say(f"  the same content as {job.duplicate_of}: nothing was done again")
    if job.received is not None and job.rejected is not None:
        output.say(f"  {job.received:,} received = {job.accepted:,} accepted + {job.rejected:,} rejected")
        parts = ("created", "updated", "unchanged", "stale", "superseded", "duplicate")
        counted = [f"{getattr(job, name):,} {name}" for name in parts if getattr(job, name)]
        if counted:
            output.say(f"  accepted: {', '.join(counted)}")
    if job.error_code:
        output.say(f"  {job.error_code}: {job.error_message}", style="red")
    for rejection in rejected:
        for problem in rejection.problems:
            where = f"record {rejection.record_index}" + (f", {problem.field}" if problem.field else "")
            output.say(f"  {where}: {problem.code}: {problem.message}", style="yellow")
    if job.rejected and job.rejected > len(rejected):
        output.say(f"  … and {job.rejected - len(rejected):,} more; `ingest jobs show {job.id} --rejections 1000`")


@command(jobs, epilog="Examples:  ingest jobs watch    ingest jobs watch job_01kqzcjrpyf27tge33jwvjhkff")
@click.argument("job_id", required=False)
@click.option("--workspace", "-w", help="Only this workspace's.")
@family_option(required=False)
@click.option("--limit", type=click.IntRange(1, 100), default=15, help="How many of the latest.  [15]")
def watch(
    output: Output, settings: Settings, *, job_id: str | None, workspace: str | None, family: Feed | None, limit: int
) -> int:
    """Watch jobs live: one until its end, or the latest until Ctrl-C. With --json: a line a change."""
    which = JobFilter(workspace=workspace, feed=family.name if family else None)

    def look(tx: Transaction) -> list[Job]:
        return [_find(tx, job_id)] if job_id else stored.list_jobs(tx, which, before_seq=None, limit=limit)

    with opened_ledger(settings) as ledger:
        if output.as_json:
            last = follow(ledger, look, until_ended=job_id is not None, see=_printer(output))
        else:
            with Live(console=output.console, auto_refresh=False) as live:

                def draw(found: Sequence[Job]) -> None:
                    table = jobs_table(found, now=datetime.now(UTC))
                    hint = Text("" if job_id else "Ctrl-C ends watching; the jobs go on.", style="dim")
                    live.update(Group(table, hint), refresh=True)

                last = follow(ledger, look, until_ended=job_id is not None, see=draw)
    return 1 if job_id and any(job.state is JobState.FAILED for job in last) else 0


def _printer(output: Output) -> Callable[[Sequence[Job]], None]:
    told: dict[str, JobState] = {}

    def print_changed(found: Sequence[Job]) -> None:
        for job in reversed(found):
            if told.get(job.id) is not job.state:
                told[job.id] = job.state
                output.give(job_object(job))

    return print_changed


def follow(
    ledger: Ledger,
    look: Callable[[Transaction], list[Job]],
    *,
    until_ended: bool,
    see: Callable[[Sequence[Job]], None],
) -> list[Job]:
    """Look at jobs whenever something is accepted or settled, until all of them have ended or for ever."""
    while True:
        try:
            with connect(ledger.database_url, application="ingest-watch") as listener:
                for channel in (LANDED, SETTLED):
                    listener.execute(f"LISTEN {channel}".encode())
                while True:
                    with ledger.connection() as tx:
                        found = look(tx)
                    see(found)
                    if until_ended and all(job.state.terminal for job in found):
                        return found
                    # The first notification ends the wait; a burst of them is one look.
                    for _ in listener.notifies(timeout=WATCH_SECONDS, stop_after=1):
                        pass
        except (LedgerFault, psycopg.OperationalError):
            # The database is being restarted; what is watched goes on.
            time.sleep(WATCH_SECONDS)
