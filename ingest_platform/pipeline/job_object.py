"""The job object: what a job looks like to whoever follows it, by GET and in webhooks, the same for every feed."""

from datetime import datetime

from ingest_platform.domain.job import Job
from ingest_platform.domain.timestamps import format_instant

COUNTS = ("received", "accepted", "rejected", "created", "updated", "unchanged", "stale", "superseded", "duplicate")


def job_object(job: Job) -> dict[str, object]:
    """Show a job, the same for every feed."""
    return {
        "id": job.id,
        "family": job.feed,
        "target": job.target,
        "workspace": job.workspace,
        "origin": job.origin.value,
        "file": {"name": job.file_name, "sha256": job.file_sha256} if job.file_name is not None else None,
        "state": job.state.value,
        "verdict": job.verdict,
        "counts": {name: getattr(job, name) for name in COUNTS},
        "bytes_in": job.bytes_in,
        "times": {
            "accepted": shown(job.accepted_at),
            "started": shown(job.started_at),
            "validated": shown(job.validated_at),
            "stored": shown(job.stored_at),
            "finished": shown(job.finished_at),
        },
        "cost": {"cpu_ms": job.cpu_ms, "bytes_written": job.bytes_written, "queue_ms": job.queue_ms},
        "run_id": job.run_id,
        "parent_job_id": job.parent_job_id,
        "duplicate_of": job.duplicate_of,
        "error": None if job.error_code is None else {"code": job.error_code, "message": job.error_message},
    }


def shown(instant: datetime | None) -> str | None:
    """Write an instant that may not have come yet."""
    return None if instant is None else format_instant(instant)
