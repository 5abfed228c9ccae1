"""An issue as it stands: the stored row, and folded over it what was accepted and has not been stored yet.

The fold is the one that the load carries out in the lake (`domain/feed.py`, FoldedTable), a record at a time. How the
result is shown is not known here (`shown.py`).
"""

import threading
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import reduce
from typing import cast

import polars as pl

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.submission import Submission
from ingest_platform.feeds.issues import stored
from ingest_platform.feeds.issues.fingerprint import fingerprints
from ingest_platform.feeds.issues.identity import key_hash_of
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.stored import Row
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.parse import parse_many
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.references import origins_of
from ingest_platform.storage import jobs
from ingest_platform.storage.warehouse import LakeSession

# Look-ups of one process that parse at once: of a few MiB of bodies the parser makes frames many times as large.
PARSING_MAX = 2
# Records of one issue that are folded again for one look-up, when one waits that was accepted before the last stored.
REFOLDED_RECORDS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """An issue at this moment. `pending`: something that was sent of it has not been stored yet.

    `row` has the columns of the lake's table.
    """

    row: Row
    pending: bool


class Issues:
    """Looks issues up by id."""

    def __init__(self, platform: Platform, feed: Feed) -> None:
        self._platform = platform
        self._feed = feed
        self._parsing = threading.BoundedSemaphore(PARSING_MAX)

    def find(self, *, workspace: str, issue_id: str) -> Issue | None:
        """Look up an issue of a workspace as it stands; None if it was never sent, or is another workspace's."""
        key_hash = key_hash_of(issue_id)
        if key_hash is None:
            return None
        # First what waits, then the lake: what is stored in between is met in the lake, and known to be taken in.
        waiting = self._waiting(workspace=workspace, issue_id=issue_id, key_hash=key_hash)
        self._platform.warehouse.ensure([TABLE])
        with closing(self._platform.warehouse.session()) as session:
            if not waiting:
                row = stored.find(session, workspace=workspace, issue_id=issue_id)
                return None if row is None else Issue(row=row, pending=False)
            # In one transaction, because the row and what is taken in must be of one moment.
            with session.transaction() as lake:
                return _stand(lake, waiting, workspace=workspace, issue_id=issue_id)

    def _waiting(self, *, workspace: str, issue_id: str, key_hash: int) -> list[Row]:
        """Read the accepted records of an issue whose jobs have not ended, in order of acceptance."""
        with self._platform.ledger.connection() as tx:
            # Where very many wait, the first of them: the issue is shown as it will be up to there.
            submissions = jobs.pending_of_subject(tx, workspace=workspace, feed=self._feed.name, subject=key_hash)
        if not submissions:
            return []
        with self._parsing:
            accepted = self._read(submissions).filter(pl.col("issue_id") == issue_id)
        columns = ["submission", "record_index", *(column.name for column in TABLE.columns)]
        return [_placed(row, submissions[row["submission"]]) for row in accepted.select(columns).iter_rows(named=True)]

    def _read(self, submissions: Sequence[Submission]) -> pl.DataFrame:
        """Parse and check as the run will."""
        near = {ordinal: self._with_body(each) for ordinal, each in enumerate(submissions)}
        parsed, _ = parse_many(near, self._feed.contract, envelope_key=self._feed.envelope_key)
        known = self._platform.known.of(self._feed, {each.workspace for each in submissions})
        origins = origins_of(submissions)
        return check(parsed, self._feed.contract, refer=self._feed.refer, origins=origins, known=known).accepted

    def _with_body(self, submission: Submission) -> Submission:
        if submission.blob is None:
            return submission
        with self._platform.blobs.open(submission.blob) as blob:
            return replace(submission, body=blob.read(), blob=None)


def _placed(record: Row, submission: Submission) -> Row:
    """Add to a record what the kernel knows of it, as the lake keeps it."""
    named = {name: value for name, value in record.items() if name != "submission"}
    return {
        **named,
        "workspace": submission.workspace,
        "job_id": submission.job_id,
        "accepted_seq": submission.seq,
        "accepted_at": submission.accepted_at,
    }


def _stand(lake: LakeSession, waiting: Sequence[Row], *, workspace: str, issue_id: str) -> Issue | None:
    row = stored.find(lake, workspace=workspace, issue_id=issue_id)
    taken = stored.taken_in(lake, seqs=[_place(record)[0] for record in waiting])
    left = [record for record in waiting if _place(record)[0] not in taken]
    if not left:
        return None if row is None else Issue(row=row, pending=False)
    if row is not None and _place(left[0]) < stored.place_of(row):
        # A later record was stored first, as when two workers are at it.
        if cast("int", row["occurrences"]) <= REFOLDED_RECORDS_MAX:
            known = stored.records(lake, workspace=workspace, issue_id=issue_id)
            return Issue(row=_derived(fold(None, sorted([*known, *left], key=_place))), pending=True)
        left = [record for record in left if _place(record) > stored.place_of(row)]
    return Issue(row=_derived(fold(row, left)), pending=True)


def _place(record: Row) -> stored.Place:
    return cast("int", record["accepted_seq"]), cast("int", record["record_index"])


def _derived(row: Row) -> Row:
    """Add what the feed derives of a row; it may be a pattern's before the row is stored."""
    texts = (pl.Series([row[name]], dtype=pl.String) for name in ("title", "body"))
    return {**row, "fingerprint": fingerprints(*texts)["fingerprint"].item()}


def fold(row: Row | None, records: Iterable[Row]) -> Row:
    """Fold records, in order of acceptance, over a row (None: there is none yet, and at least one record)."""
    folded = reduce(_fold_one, records, row)
    assert folded is not None
    return folded


def _fold_one(row: Row | None, record: Row) -> Row:
    at, (seq, index) = record["accepted_at"], _place(record)
    place = {"accepted_seq": seq, "accepted_index": index}
    if row is None:
        given = {name: value for name, value in record.items() if value is not None}
        counted = dict.fromkeys(("first_seen_at", "last_seen_at", "created_at", "updated_at"), at)
        fallen_back = {name: record[column] for name, column in TABLE.fallbacks.items()}
        return {**record, **TABLE.defaults, **fallen_back, **given, "occurrences": 1, **counted, **place}
    before, now = row[TABLE.newer], record[TABLE.newer]
    # Both are instants or null.
    if before is not None and now is not None and now < before:  # type: ignore[operator]
        return row
    given = {name: record[name] for name in TABLE.given if record[name] is not None}
    counted = {"occurrences": cast("int", row["occurrences"]) + 1, "last_seen_at": at, "updated_at": at}
    return {**row, **given, **counted, **place}
