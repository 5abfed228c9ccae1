"""What would become of a submission if it were accepted now: the run's own parse and check, and nothing is stored.

The synchronous routes and dry runs ask here, so that the same bytes get the same verdict everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.job import Origin
from ingest_platform.domain.rejection import Rejection
from ingest_platform.domain.submission import Encoding, Format, Submission
from ingest_platform.pipeline.given import staging_folder
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.work import Reading, Stopwatch
from ingest_platform.storage import catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A submission that has not been accepted. Exactly one of `body` and `blob` is set."""

    id: str
    workspace: str
    feed: Feed
    format: Format
    sites: frozenset[str] | None
    body: bytes | None
    blob: str | None
    size: int
    at: datetime
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How many records there are and which would be rejected; or why they can't be read at all."""

    received: int
    rejections: Sequence[Rejection]
    unreadable: Unreadable | None


def judge(platform: Platform, candidate: Candidate) -> Verdict:
    """Parse and check a submission as a run would, by what is declared now."""
    with platform.ledger.connection() as connection:
        revision = catalog.revision(connection)
    submission = _submission(candidate, revision=revision)
    with staging_folder(platform.staging_dir, candidate.id) as folder:
        reading = Reading(
            platform, candidate.feed, [submission], folder=folder, watch=Stopwatch(), progress=lambda: None
        )
        (job,) = reading.finish()
    return Verdict(received=job.received or 0, rejections=tuple(job.rejections), unreadable=job.unreadable)


def _submission(candidate: Candidate, *, revision: int) -> Submission:
    return Submission(
        job_id=candidate.id,
        seq=0,
        workspace=candidate.workspace,
        feed=candidate.feed.name,
        target=candidate.target,
        format=candidate.format,
        encoding=Encoding.IDENTITY,
        origin=Origin.API.value,
        body=candidate.body,
        blob=candidate.blob,
        bytes_in=candidate.size,
        sites=None if candidate.sites is None else tuple(sorted(candidate.sites)),
        catalog_revision=revision,
        accepted_at=candidate.at,
        attempts=0,
    )
