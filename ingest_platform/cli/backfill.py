"""`ingest backfill`: days of acceptance worked again, in this process. In Dagster it is a backfill of partitions."""

from datetime import date, datetime, timedelta

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ingest_platform.cli.command import Output, command, opened_ledger
from ingest_platform.cli.families import family_option
from ingest_platform.domain.feed import Feed
from ingest_platform.opening import open_platform
from ingest_platform.pipeline.backfill import work_day_again
from ingest_platform.settings import Settings

# Ten years of days; what is more is most likely a mistyped year.
DAYS_MAX = 3660
_DAY = click.DateTime(formats=["%Y-%m-%d"])


@command(epilog="Example:  ingest backfill -f machine-data --from 2026-05-01 --to 2026-05-06")
@family_option(required=True)
@click.option("--from", "first", type=_DAY, required=True, help="First day of acceptance (UTC).")
@click.option("--to", "last", type=_DAY, required=True, help="Last day, included.")
def backfill(output: Output, settings: Settings, *, family: Feed, first: datetime, last: datetime) -> None:
    """Work every submission of some days again: whatever is missing from the warehouse is put back, nothing doubles.

    No job changes. Live work goes on at the same time and comes first.
    """
    days = _days(first.date(), last.date())
    with opened_ledger(settings):
        platform = open_platform(settings, application="backfill")
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=output.console,
        disable=output.as_json,
        transient=True,
    )
    rows: list[dict[str, object]] = []
    try:
        with bars:
            task = bars.add_task("days", total=len(days))
            for day in days:
                bars.update(task, description=str(day))
                report = work_day_again(platform, family, day=day)
                sums = report.totals
                put_back = sums["created"] + sums["updated"]
                rows.append(
                    {"day": day, "loads": report.loads_total, "records": sums["received"], "put_back": put_back}
                )
                bars.advance(task)
    finally:
        platform.close()
    output.give(rows)
    output.table(("day", "loads", "records", "put back"), [tuple(row.values()) for row in rows], empty="no days")


def _days(first: date, last: date) -> list[date]:
    count = (last - first).days + 1
    if not 1 <= count <= DAYS_MAX:
        raise click.BadParameter(f"from {first} to {last} are {count} days; 1 to {DAYS_MAX} are allowed")
    return [first + timedelta(days=each) for each in range(count)]
