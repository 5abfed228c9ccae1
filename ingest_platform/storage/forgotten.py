"""Submissions whose bytes may not be kept: gone from the inbox with the end of their jobs, their blobs right after.

Which ones these are is decided by their feed. A dropped file's copy goes when the file is filed (`TakenFile`).
"""

from collections.abc import Sequence

from ingest_platform.storage.ledger import Transaction

_BLOBS_MAX = 1_000


def forget_bytes(tx: Transaction, job_ids: Sequence[str]) -> None:
    """Delete the bytes of jobs that end in this transaction; blobs are named in `to_delete` from its commit on."""
    tx.execute(
        """
        WITH gone AS (
            DELETE FROM submissions USING jobs
            WHERE jobs.id = ANY(%s) AND submissions.job_id = jobs.id AND submissions.day = jobs.day
            RETURNING submissions.blob
        )
        INSERT INTO forgotten_blobs (key)
        SELECT blob FROM gone
        WHERE blob IS NOT NULL AND NOT EXISTS (SELECT FROM taken_files WHERE taken_files.blob = gone.blob)
        ON CONFLICT DO NOTHING
        """,
        (list(job_ids),),
    )


def to_delete(tx: Transaction) -> list[str]:
    """List blobs that are to be deleted, the ones that have waited longest first."""
    return [
        key
        for (key,) in tx.execute("SELECT key FROM forgotten_blobs ORDER BY forgotten_at, key LIMIT %s", (_BLOBS_MAX,))
    ]


def deleted(tx: Transaction, keys: Sequence[str]) -> None:
    """Note blobs that are deleted."""
    tx.execute("DELETE FROM forgotten_blobs WHERE key = ANY(%s)", (list(keys),))
