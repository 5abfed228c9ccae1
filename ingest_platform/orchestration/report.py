"""What a run tells the people who look at it in the UI: tally, reasons, loads, seconds, and what a feed looks at.

Values of records are shown only where a feed's own aspect does so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import dagster as dg

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.pipeline.report import LoadReport, RunReport

# A page with more rows is not read, and every event is kept in the database.
ROWS_MAX = 50
LINKS_MAX = 10

FATES = tuple(outcome.word for outcome in Outcome if outcome is not Outcome.REJECTED)
COUNTS = ("jobs", "failed_jobs", "received", "accepted", "rejected", *FATES, "bytes")

Metadata = dict[str, dg.MetadataValue]


def merged(feed: Feed, parts: Iterable[RunReport]) -> RunReport:
    """Make one report of those of several days."""
    whole = RunReport(feed=feed.name)
    for part in parts:
        whole.loads.extend(part.loads[: RunReport.LOADS_KEPT_MAX - len(whole.loads)])
        whole.loads_total += part.loads_total
        whole.totals.update(part.totals)
        whole.reasons.update(part.reasons)
        whole.seconds.update(part.seconds)
        whole.faults.extend(part.faults)
        whole.tables.update(part.tables)
    return whole


def job_ids(done: RunReport) -> list[str]:
    """List the first jobs of a run."""
    return [job_id for load in done.loads for job_id in load.job_ids][:ROWS_MAX]


def landed_metadata(done: RunReport, *, oldest_waiting_seconds: float | None, api_url: str | None) -> Metadata:
    """Describe what came in, with a way to each job."""
    ids = job_ids(done)
    found: Metadata = {
        **_counts(done, ("jobs", "bytes")),
        "loads": dg.MetadataValue.int(done.loads_total),
        "oldest waiting (s)": dg.MetadataValue.float(round(oldest_waiting_seconds or 0.0, 3)),
        "job ids": dg.MetadataValue.json(ids),
    }
    if api_url is not None:
        found |= {job_id: dg.MetadataValue.url(f"{api_url}/v1/jobs/{job_id}") for job_id in ids[:LINKS_MAX]}
    return found


def checked_metadata(done: RunReport) -> Metadata:
    """Describe the verdicts."""
    return _counts(done, ("received", "accepted", "rejected", "failed_jobs"))


def table_metadata(done: RunReport) -> Metadata:
    """Describe what was written."""
    return {
        "rows written": dg.MetadataValue.int(done.totals["created"] + done.totals["updated"]),
        **_counts(done, FATES),
    }


def outcomes_metadata(done: RunReport) -> Metadata:
    """Describe every load, where the time went, and what went wrong on our side."""
    stages = [{"stage": name, "seconds": round(float(spent), 3)} for name, spent in done.seconds.items()]
    return {
        **_counts(done, ("jobs", "received", "accepted", "rejected")),
        "loads": _table([_row(load) for load in done.loads[-ROWS_MAX:]]),
        "seconds per stage": _table(stages),
        "faults": dg.MetadataValue.int(len(done.faults)),
    }


def rejections_metadata(done: RunReport) -> Metadata:
    """Describe why records were rejected."""
    rows = [{"code": code, "records": count} for code, count in done.reasons.most_common(ROWS_MAX)]
    return {**_counts(done, ("rejected",)), "reasons": _table(rows)}


def figures_metadata(figures: Mapping[str, object]) -> Metadata:
    """Describe what a feed tells of itself: numbers, texts, and tables as lists of rows."""
    return {name.replace("_", " "): _figure(value) for name, value in figures.items()}


def _figure(value: object) -> dg.MetadataValue:
    match value:
        case bool():
            return dg.MetadataValue.bool(value)
        case int():
            return dg.MetadataValue.int(value)
        case float():
            return dg.MetadataValue.float(round(value, 4))
        case list():
            return _table(cast("Sequence[Mapping[str, str | int | float]]", value)[:ROWS_MAX])
        case _:
            return dg.MetadataValue.text(str(value))


def _counts(done: RunReport, names: Iterable[str]) -> Metadata:
    return {name: dg.MetadataValue.int(done.totals[name]) for name in names}


def _row(load: LoadReport) -> dict[str, str | int | float]:
    return {
        "finished": format_instant(load.finished_at),
        "seconds": round(sum(load.seconds.values()), 3),
        **{name: int(getattr(load, name)) for name in COUNTS},
        "load": load.load_id,
    }


def _table(rows: Sequence[Mapping[str, str | int | float]]) -> dg.MetadataValue:
    """Make a table of the rows; one without rows is text, as Dagster can't tell its columns."""
    if not rows:
        return dg.MetadataValue.text("none")
    kinds = {str: "string", int: "int", float: "float"}
    columns = [dg.TableColumn(name, kinds[type(value)]) for name, value in rows[0].items()]
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows], dg.TableSchema(columns))
