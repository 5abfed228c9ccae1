"""Dropped files in the ledger: which content is known, and which files are not filed yet. No file is touched here."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from ingest_platform.storage.ledger import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenFile:
    """A file that has a job and does not lie in archive or quarantine yet.

    `blob` is the key of its private copy; None where none was made and the file lies in its claim. Of one that is to be
    forgotten only the outcome is filed, unless it could not be read.
    """

    job_id: str
    workspace: str
    feed: str
    folder: str
    name: str
    blob: str | None
    forgotten: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownClaim:
    """What the ledger knows of a claim: its job's bytes, and whether the claim still holds the only copy."""

    job_id: str
    bytes_in: int
    needed: bool


def identify(
    tx: Transaction, *, workspace: str, feed: str, target: str | None, sha256: str, job_id: str, name: str
) -> str:
    """Tell which job answers for this content: the one given if it is the first, else the first one's id.

    Content whose job failed is not known: whoever drops it again wants it tried again. Of two that come at once, the
    second waits here until the first has committed.
    """
    values = {
        "workspace": workspace,
        "feed": feed,
        "target": target or "",
        "sha256": sha256,
        "job_id": job_id,
        "name": name,
    }
    tx.execute(
        """
        INSERT INTO files (workspace, feed, target, sha256, job_id, name)
        VALUES (%(workspace)s, %(feed)s, %(target)s, %(sha256)s, %(job_id)s, %(name)s)
        ON CONFLICT (workspace, feed, target, sha256) DO UPDATE
            SET job_id = excluded.job_id, name = excluded.name, first_seen_at = now()
            WHERE EXISTS (SELECT FROM jobs WHERE jobs.id = files.job_id AND jobs.state = 'failed')
        """,
        values,
    )
    row = tx.execute(
        "SELECT job_id FROM files WHERE workspace = %(workspace)s AND feed = %(feed)s AND target = %(target)s"
        " AND sha256 = %(sha256)s",
        values,
    ).fetchone()
    assert row is not None
    return str(row[0])


def note(tx: Transaction, taken: TakenFile) -> None:
    """Note a file that was taken, so that it is filed once its job has ended."""
    tx.execute(
        "INSERT INTO taken_files (job_id, workspace, feed, folder, name, blob, forgotten)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (taken.job_id, taken.workspace, taken.feed, taken.folder, taken.name, taken.blob, taken.forgotten),
    )


def known_claims(tx: Transaction, job_ids: Sequence[str]) -> dict[str, KnownClaim]:
    """Look up claims by the job ids that they were made under; the ones that have no job are absent."""
    with tx.cursor(row_factory=class_row(KnownClaim)) as cursor:
        found = cursor.execute(
            """
            SELECT jobs.id AS job_id, bytes_in, taken_files.job_id IS NOT NULL AND taken_files.blob IS NULL AS needed
            FROM jobs LEFT JOIN taken_files ON taken_files.job_id = jobs.id WHERE jobs.id = ANY(%s)
            """,
            (list(job_ids),),
        ).fetchall()
    return {each.job_id: each for each in found}


def next_to_file(tx: Transaction, *, after: str) -> TakenFile | None:
    """Lock the next file whose job has ended, behind a job id; one that somebody else is filing is passed over."""
    with tx.cursor(row_factory=class_row(TakenFile)) as cursor:
        return cursor.execute(
            """
            SELECT taken.job_id, taken.workspace, taken.feed, folder, name, blob, forgotten
            FROM taken_files AS taken JOIN jobs ON jobs.id = taken.job_id
            WHERE jobs.state IN ('finished', 'failed') AND taken.job_id > %s
            ORDER BY taken.job_id LIMIT 1 FOR UPDATE OF taken SKIP LOCKED
            """,
            (after,),
        ).fetchone()


def forget(tx: Transaction, job_id: str) -> None:
    """Forget a file that is filed."""
    tx.execute("DELETE FROM taken_files WHERE job_id = %s", (job_id,))
