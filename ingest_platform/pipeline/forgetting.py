"""Forget: the bytes of submissions that may not be kept once they were worked, and what rejections quote of them.

Which ones these are is said by their feed (`Feed.forgets`), by what was declared when they were accepted. They go in
the transaction that settles their jobs, so that they are there for as long as they may have to be worked again.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import polars as pl
import structlog

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.submission import Submission
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.references import read_known
from ingest_platform.pipeline.settle import ReadJob
from ingest_platform.storage import catalog, forgotten
from ingest_platform.storage.blobs import BlobFault
from ingest_platform.storage.ledger import Ledger, Transaction

log = structlog.get_logger(__name__)


def forgets_now(tx: Transaction, feed: Feed, *, workspace: str, target: str | None) -> bool:
    """Tell whether what is accepted now of a target may not be kept."""
    if feed.forgets is None:
        return False
    known = read_known(tx, feed, [workspace])
    return feed.forgets(known, workspace=workspace, target=target, revision=catalog.revision(tx))


class Forgetting:
    """Forgets those submissions of one load that may not be kept."""

    def __init__(self, platform: Platform, feed: Feed, submissions: Sequence[Submission]) -> None:
        self._platform = platform
        self._jobs = frozenset[str]()
        if feed.forgets is not None:
            known = platform.known.of(feed, {each.workspace for each in submissions})
            # A load has one target, and few revisions of the catalog.
            told = {origin: _forgets(feed, known, *origin) for origin in set(map(_origin, submissions))}
            self._jobs = frozenset(each.job_id for each in submissions if told[_origin(each)])

    def strip(self, reads: Iterable[ReadJob]) -> None:
        """Take the records themselves out of the rejections; index and reasons stay, which never quote a value."""
        for read in reads:
            if read.submission.job_id in self._jobs:
                read.rejections = [dataclasses.replace(each, raw=b"") for each in read.rejections]

    def end(self, tx: Transaction) -> None:
        """Forget them with the end of their jobs."""
        if self._jobs:
            forgotten.forget_bytes(tx, sorted(self._jobs))

    def after(self) -> None:
        """Delete their blobs, once the end of their jobs is committed."""
        if self._jobs:
            delete_forgotten(self._platform)


def _origin(submission: Submission) -> tuple[str, str | None, int]:
    return submission.workspace, submission.target, submission.catalog_revision


def _forgets(feed: Feed, known: pl.DataFrame, workspace: str, target: str | None, revision: int) -> bool:
    assert feed.forgets is not None
    return feed.forgets(known, workspace=workspace, target=target, revision=revision)


def delete_forgotten(platform: Platform) -> int:
    """Delete blobs that were forgotten, and return how many. What can't be deleted now is deleted by the next sweep."""
    done = 0
    while keys := _to_delete(platform.ledger):
        try:
            for key in keys:
                platform.blobs.delete(key)
        except (BlobFault, OSError) as fault:
            log.warning("forgotten blobs not deleted yet", reason=str(fault))
            return done
        with platform.ledger.transaction() as tx:
            forgotten.deleted(tx, keys)
        done += len(keys)
    return done


def _to_delete(ledger: Ledger) -> list[str]:
    with ledger.connection() as connection:
        return forgotten.to_delete(connection)
