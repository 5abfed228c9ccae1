"""Leftovers: what killed processes leave is deleted; what anybody may still ask for is not."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from ingest_platform.api.intake import BLOB_PREFIX
from ingest_platform.domain.ids import new_id
from ingest_platform.domain.submission import Format
from ingest_platform.pipeline.leftovers import SUBMISSIONS_PREFIX, sweep_blobs, sweep_scratch
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.blobs import TEMPORARY_SECONDS_MAX, LocalBlobs
from ingest_platform_tests.making import accept, make_workspace, new_job
from ingest_platform_tests.pipeline.working import put_blob

SOON = timedelta(seconds=-5)


def test_folders_of_dead_processes_are_deleted(platform: Platform) -> None:
    for folder in (platform.staging_dir / "load_1", platform.spill_dir / "worker-1"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
        os.utime(folder, (0, 0))
    assert sweep_scratch(platform) == {"staging folders deleted": 1, "spill folders deleted": 1}
    assert sweep_scratch(platform) == {"staging folders deleted": 0, "spill folders deleted": 0}


def test_a_body_whose_acceptance_never_came_is_deleted_after_a_day(platform: Platform) -> None:
    make_workspace(platform.ledger)
    orphan, accepted, file = f"submissions/{new_id('job_')}", new_job(b""), "files/acme/machine_data/job_x"
    kept = f"submissions/{accepted.id}"
    for key in (orphan, kept, file):
        put_blob(platform, key, b"x")
    accept(platform.ledger, replace(accepted, body=None, blob=kept, format=Format.NDJSON))
    assert sweep_blobs(platform)["bodies without a job deleted"] == 0
    assert sweep_blobs(platform, age=SOON)["bodies without a job deleted"] == 1
    assert list(platform.blobs.list()) == [file, kept]


def test_a_half_written_blob_is_deleted_once_nobody_can_be_writing_it(platform: Platform, tmp_path: Path) -> None:
    assert isinstance(platform.blobs, LocalBlobs)
    writer = platform.blobs.writer("submissions/job_1")
    writer.write(b"half")
    assert sweep_blobs(platform)["half-written blobs deleted"] == 0
    (half,) = (tmp_path / "blobs" / "submissions").iterdir()
    os.utime(half, (half.stat().st_mtime - TEMPORARY_SECONDS_MAX - 1,) * 2)
    assert sweep_blobs(platform)["half-written blobs deleted"] == 1
    writer.abort()


def test_bodies_lie_where_they_are_looked_for() -> None:
    assert SUBMISSIONS_PREFIX == BLOB_PREFIX
