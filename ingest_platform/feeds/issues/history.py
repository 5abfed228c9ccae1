"""The history of an issue, the latest first: what records said of it (in the lake), what people did (in the ledger)."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, cast

from ingest_platform.domain.outcome import Outcome
from ingest_platform.feeds.issues import shown, statuses, stored
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.shown import Shown
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import outcomes
from ingest_platform.storage.ledger import Transaction

# An entry's place: microseconds since 1970; 1 for a change of the status, 0 for a record; then the number of the change
# and 0, or the number of the record's job and its index. At one instant, changes come first.
Place: TypeAlias = tuple[int, int, int, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CHANGE, _RECORD = 1, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Entries as they are shown, the place of the last if more follow, the number of all."""

    entries: list[Shown]
    last: Place | None
    total: int


def read_history(platform: Platform, *, workspace: str, issue_id: str, behind: Place | None, limit: int) -> Page:
    """Read the page behind a place. What has not been stored yet is not in it."""
    before_change, before_record = _bounds(behind)
    platform.warehouse.ensure([TABLE])
    with closing(platform.warehouse.session()) as session, session.transaction() as lake:
        records = stored.latest_records(
            lake, workspace=workspace, issue_id=issue_id, before=before_record, limit=limit + 1
        )
        total = stored.count_records(lake, workspace=workspace, issue_id=issue_id)
    with platform.ledger.connection() as tx:
        changes = statuses.changes(tx, workspace=workspace, issue_id=issue_id, before=before_change, limit=limit + 1)
        total += statuses.count_changes(tx, workspace=workspace, issue_id=issue_id)
        fates = _fates(tx, records)
    placed: list[tuple[Place, Shown]] = [
        *(((_us(each.changed_at), _CHANGE, each.change, 0), shown.status_entry(each)) for each in changes),
        *((_record_place(each), shown.record_entry(each, outcome=fates[_key(each)])) for each in records),
    ]
    placed.sort(key=lambda entry: entry[0], reverse=True)
    return Page(
        entries=[entry for _, entry in placed[:limit]],
        last=placed[limit - 1][0] if len(placed) > limit else None,
        total=total,
    )


def _bounds(behind: Place | None) -> tuple[tuple[datetime, int] | None, tuple[datetime, int, int] | None]:
    """Tell before which change and before which record a page begins."""
    if behind is None:
        return None, None
    us, kind, number, index = behind
    at = _EPOCH + us * _MICROSECOND
    if kind == _CHANGE:
        return (at, number), (at + _MICROSECOND, 0, 0)
    return (at, 0), (at, number, index)


def _us(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND


def _key(record: stored.Row) -> tuple[str, int]:
    return cast("str", record["job_id"]), cast("int", record["record_index"])


def _record_place(record: stored.Row) -> Place:
    at, seq = cast("datetime", record["accepted_at"]), cast("int", record["accepted_seq"])
    return _us(at), _RECORD, seq, cast("int", record["record_index"])


def _fates(tx: Transaction, records: Iterable[stored.Row]) -> dict[tuple[str, int], str | None]:
    """Look up what became of records; None for one that is stored while its job is not settled yet."""
    keys = [_key(record) for record in records]
    codes = {job_id: outcomes.codes(tx, job_id) for job_id in {job_id for job_id, _ in keys}}
    return {
        (job_id, index): None if (told := codes[job_id]) is None else Outcome(told[index]).word
        for job_id, index in keys
    }
