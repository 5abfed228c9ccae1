"""The job that a client polls: one per submission, moving forward only."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique


@unique
class JobState(StrEnum):
    """`accepted` -> `processing` -> `finished` or `failed`; a terminal job never changes."""

    ACCEPTED = "accepted"
    PROCESSING = "processing"
    FINISHED = "finished"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self in {JobState.FINISHED, JobState.FAILED}


@unique
class Origin(StrEnum):
    """How a submission came in."""

    API = "api"
    FILE = "file"
    WEBHOOK = "webhook"
    REPLAY = "replay"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the ledger has it. Counts are None before the end; `received` may be known earlier."""

    id: str
    seq: int
    workspace: str
    feed: str
    target: str | None
    origin: Origin
    state: JobState
    verdict: str | None
    received: int | None
    accepted: int | None
    rejected: int | None
    created: int | None
    updated: int | None
    unchanged: int | None
    stale: int | None
    superseded: int | None
    duplicate: int | None
    bytes_in: int
    file_name: str | None
    file_sha256: str | None
    request_id: str | None
    accepted_at: datetime
    started_at: datetime | None
    validated_at: datetime | None
    stored_at: datetime | None
    finished_at: datetime | None
    cpu_ms: int | None
    bytes_written: int | None
    queue_ms: int | None
    run_id: str | None
    load_id: str | None
    attempts: int
    parent_job_id: str | None
    duplicate_of: str | None
    error_code: str | None
    error_message: str | None
