"""Bytes that are forgotten are gone from the inbox; blobs that nobody else needs are named until they are deleted."""

from dataclasses import replace

from ingest_platform.domain.submission import Format
from ingest_platform.storage import files, forgotten, jobs
from ingest_platform.storage.files import TakenFile
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, make_workspace, new_job


def test_submissions_go_and_their_blobs_are_named_until_they_are_deleted(ledger: Ledger) -> None:
    make_workspace(ledger)
    small, kept = new_job(b"[1]"), new_job(b"[2]")
    large = replace(new_job(b""), body=None, blob="submissions/x", format=Format.NDJSON)
    accept(ledger, small, large, kept)
    with ledger.transaction() as tx:
        forgotten.forget_bytes(tx, [small.id, large.id])
    with ledger.transaction() as tx:
        assert [each.job_id for each in jobs.submissions(tx, [small.id, large.id, kept.id])] == [kept.id]
        assert forgotten.to_delete(tx) == ["submissions/x"]
        # As by a worker that was killed before it could delete it.
        forgotten.forget_bytes(tx, [large.id])
        forgotten.deleted(tx, ["submissions/x"])
        assert forgotten.to_delete(tx) == []


def test_the_copy_of_a_file_that_is_not_filed_yet_is_left_to_the_filing(ledger: Ledger) -> None:
    make_workspace(ledger)
    job = replace(new_job(b""), body=None, blob="files/x", format=Format.NDJSON)
    accept(ledger, job)
    with ledger.transaction() as tx:
        taken = TakenFile(
            job_id=job.id, workspace="acme", feed="f", folder="f", name="x", blob="files/x", forgotten=True
        )
        files.note(tx, taken)
        forgotten.forget_bytes(tx, [job.id])
        assert forgotten.to_delete(tx) == []
        assert jobs.submissions(tx, [job.id]) == []
