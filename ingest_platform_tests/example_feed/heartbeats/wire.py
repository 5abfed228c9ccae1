"""The words of the heartbeats' API. How anything is decided is not known here."""

from ingest_platform.domain.errors import Unprocessable, Unreadable
from ingest_platform.domain.job import Job, JobState
from ingest_platform.pipeline.documents import split_document

HEARTBEATS = "heartbeats"
STATUS_WORDS = {
    JobState.ACCEPTED: "waiting",
    JobState.PROCESSING: "waiting",
    JobState.FINISHED: "done",
    JobState.FAILED: "unreadable",
}


def count(body: bytes) -> int:
    """Count the heartbeats of a body. Raises Unprocessable if they can't be counted."""
    try:
        return len(split_document(body, HEARTBEATS))
    except Unreadable as unreadable:
        raise Unprocessable(str(unreadable), code=unreadable.code, param=HEARTBEATS) from None


def receipt(job_id: str) -> dict[str, object]:
    """Show a receipt."""
    return {"receipt": job_id}


def status(job: Job) -> dict[str, object]:
    """Show what became of a submission."""
    return {"receipt": job.id, "status": STATUS_WORDS[job.state], "kept": job.accepted, "refused": job.rejected}
