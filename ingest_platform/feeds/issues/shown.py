"""Issues and their history as clients see them. Where they come from is not known here (`pending.py`, `listing.py`)."""

from datetime import datetime
from typing import cast

import msgspec

from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.issues.contract import SEVERITIES
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.statuses import UNTOUCHED, Change, Standing
from ingest_platform.feeds.issues.stored import Row

Shown = dict[str, object]


def issue_object(row: Row, *, standing: Standing = UNTOUCHED, pattern_id: str | None, pending: bool) -> Shown:
    """Show an issue: a row of the lake's columns, its status and its pattern."""
    return {
        "id": row["issue_id"],
        "title": row["title"],
        "body": row["body"],
        "status": standing.status.value,
        "severity": row["severity"],
        "severity_name": SEVERITIES[cast("str", row["severity"])],
        "source": row["source"],
        "source_raw": row["source_raw"],
        "external_id": row["external_id"],
        "external_url": row["external_url"],
        "team": row["team"],
        "metadata": _as_sent(row["metadata"]),
        "connector_id": row["connector_id"],
        "pattern_id": pattern_id,
        "occurrences": row["occurrences"],
        "source_created_at": _instant(row["source_created_at"]),
        "source_updated_at": _instant(row["source_updated_at"]),
        "created_at": _instant(row["created_at"]),
        "updated_at": _instant(_updated_at(row, standing)),
        "first_seen_at": _instant(row["first_seen_at"]),
        "last_seen_at": _instant(row["last_seen_at"]),
        "pending": pending,
    }


def record_entry(record: Row, *, outcome: str | None) -> Shown:
    """Show what one record said of an issue, as an entry of its history: the fields that it gave."""
    given: Shown = {"external_id": record["external_id"]}
    for name in TABLE.given:
        if record[name] is not None:
            # What the client calls the source is how it sent it.
            given["source" if name == "source_raw" else name] = _value(name, record[name])
    return {
        "kind": "record",
        "at": _instant(record["accepted_at"]),
        "job_id": record["job_id"],
        "record_index": record["record_index"],
        "record_id": f"{record['job_id']}:{record['record_index']}",
        "outcome": outcome,
        "given": given,
    }


def status_entry(change: Change) -> Shown:
    """Show a change of an issue's status as an entry of its history."""
    return {
        "kind": "status",
        "at": format_instant(change.changed_at),
        "from": change.from_status,
        "to": change.to_status,
        "by": change.changed_by,
    }


def _updated_at(row: Row, standing: Standing) -> object:
    """Tell when what is shown of an issue last changed: by a record, or by somebody who changed the status."""
    at = row["updated_at"]
    assert isinstance(at, datetime)
    return at if standing.changed_at is None else max(at, standing.changed_at)


def _value(name: str, value: object) -> object:
    if name == "metadata":
        return _as_sent(value)
    return _instant(value) if isinstance(value, datetime) else value


def _as_sent(metadata: object) -> object:
    """Show a JSON object in the very text in which it was sent."""
    return None if metadata is None else msgspec.Raw(cast("str", metadata).encode())


def _instant(instant: object) -> str | None:
    return None if instant is None else format_instant(cast("datetime", instant))
