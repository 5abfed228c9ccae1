"""What may not be kept once it was worked is gone with the end of its job, wherever it lay; all else stays."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.job import JobState
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline.backfill import work_day_again
from ingest_platform.pipeline.files import land_file
from ingest_platform.pipeline.filing import file_outcomes
from ingest_platform.pipeline.forgetting import delete_forgotten
from ingest_platform.pipeline.gather import gather
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.rejected import rejected_line
from ingest_platform.pipeline.work import work_load, work_until_idle
from ingest_platform.storage import jobs
from ingest_platform.storage.blobs import BlobFault
from ingest_platform_tests.making import accept, new_job
from ingest_platform_tests.pipeline.working import declare, job_of, put_blob, reading, rejections_of, rows, submit, work

CANARY = "canary-73c1"


def _always(known: pl.DataFrame, *, workspace: str, target: str | None, revision: int) -> bool:
    assert {"kind", "id", "body"} <= set(known.columns)
    assert revision > 0
    return workspace == "acme" and target is None


FORGETFUL = replace(FEED, forgets=_always)


def submissions_of(platform: Platform, job_ids: Sequence[str]) -> int:
    with platform.ledger.connection() as connection:
        return len(jobs.submissions(connection, job_ids))


def files_with(folder: Path, text: str) -> list[str]:
    """List the files below a folder that have a text in them."""
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_the_bytes_of_a_body_go_with_the_end_of_its_job(platform: Platform) -> None:
    declare(platform)
    declare(platform, workspace="globex", point="mdp_01kqzcjrpyf27tge9dnvsqv8t7")
    job_id = submit(platform, reading(7.0), {"note": CANARY})
    other = submit(platform, {"note": CANARY}, workspace="globex")
    work(platform, FORGETFUL)
    assert submissions_of(platform, [job_id]) == 0
    assert submissions_of(platform, [other]) == 1
    (kept,) = rejections_of(platform, job_id)
    assert (kept.record_index, kept.raw) == (1, b"")
    assert json.loads(rejected_line(kept))["record"] is None
    assert CANARY.encode() in rejections_of(platform, other)[0].raw
    assert [row["value"] for row in rows(platform)] == [7.0]


def test_the_bytes_are_there_until_the_load_is_settled(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(platform)
    job_id = submit(platform, reading(7.0))

    def stopped(*_: object) -> None:
        raise BlobFault("stopped")

    monkeypatch.setattr("ingest_platform.pipeline.consigning.Consigning.write", stopped)
    work(platform, FORGETFUL)
    assert submissions_of(platform, [job_id]) == 1
    monkeypatch.undo()
    with platform.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET lease_until = NULL")
    work(platform, FORGETFUL)
    assert job_of(platform, job_id).state is JobState.FINISHED
    assert submissions_of(platform, [job_id]) == 0


def _accept_blob(platform: Platform, key: str) -> str:
    put_blob(platform, key, json.dumps(reading(7.0)).encode() + b"\n")
    job = replace(new_job(b""), body=None, blob=key, format=Format.NDJSON)
    accept(platform.ledger, job)
    return job.id


def test_a_blob_goes_right_after_and_at_the_latest_with_the_next_sweep(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(platform)
    _accept_blob(platform, "submissions/one")
    work(platform, FORGETFUL)
    assert list(platform.blobs.list()) == []
    _accept_blob(platform, "submissions/two")
    monkeypatch.setattr(platform.blobs.__class__, "delete", _full)
    work(platform, FORGETFUL)
    assert list(platform.blobs.list()) == ["submissions/two"]
    monkeypatch.undo()
    assert delete_forgotten(platform) == 1
    assert list(platform.blobs.list()) == []
    assert delete_forgotten(platform) == 0


def _full(*_: object) -> None:
    raise OSError("away")


def test_a_dropped_file_is_filed_without_its_bytes_and_so_is_its_duplicate(platform: Platform, tmp_path: Path) -> None:
    declare(platform)
    path = tmp_path / "drop.ndjson"
    path.write_text(json.dumps(reading(7.0)) + "\n" + json.dumps({"note": CANARY}) + "\n")
    first = land_file(platform, FORGETFUL, "acme", path)
    work(platform, FORGETFUL)
    second = land_file(platform, FORGETFUL, "acme", path, name="again.ndjson")
    path.unlink()
    assert job_of(platform, second).duplicate_of == first
    assert sorted(file_outcomes(platform)) == sorted([first, second])
    archived = {each.name for each in (platform.data_dir / "archive").rglob("*") if each.is_file()}
    assert archived == {"drop.ndjson.outcome.json", "drop.ndjson.rejected.ndjson", "again.ndjson.outcome.json"}
    assert list(platform.blobs.list()) == []
    assert files_with(platform.data_dir, CANARY) == []


def test_a_file_that_can_not_be_read_stays_in_quarantine(platform: Platform, tmp_path: Path) -> None:
    declare(platform)
    path = tmp_path / "drop.parquet"
    path.write_text(CANARY)
    land_file(platform, FORGETFUL, "acme", path)
    path.unlink()
    work(platform, FORGETFUL)
    assert len(file_outcomes(platform)) == 1
    assert files_with(platform.data_dir, CANARY) == ["drop.parquet"]
    assert list(platform.blobs.list()) == []


def test_a_submission_that_is_given_up_is_forgotten_too(platform: Platform) -> None:
    declare(platform)
    job_id = submit(platform, reading(7.0))
    with platform.ledger.transaction() as tx:
        tx.execute(
            "UPDATE jobs SET state = 'processing', started_at = now(), attempts = 3, lease_until = '2000-01-01',"
            " load_id = 'load_x', fence = 1"
        )
    work(platform, FORGETFUL)
    assert job_of(platform, job_id).error_code == "attempts_exhausted"
    assert submissions_of(platform, [job_id]) == 0


def test_a_day_is_worked_again_without_what_was_forgotten(platform: Platform) -> None:
    declare(platform)
    job_id = submit(platform, reading(7.0))
    work(platform, FORGETFUL)
    day = job_of(platform, job_id).accepted_at.date()
    assert work_day_again(platform, FORGETFUL, day=day).loads_total == 0
    assert [row["value"] for row in rows(platform)] == [7.0]


@pytest.mark.parametrize("feed", [FEED, replace(FEED, forgets=lambda *_, **__: False)])
def test_what_need_not_be_forgotten_is_kept(platform: Platform, feed: Feed) -> None:
    declare(platform)
    job_id = submit(platform, reading(7.0), {"note": CANARY})
    load = gather(platform.ledger, feed.name, limits=platform.limits, day=None, run_id=None)
    assert load is not None
    work_load(platform, feed, load, run_id=None)
    work_until_idle(platform, feed, day=None, run_id="r", linger_seconds=0)
    assert submissions_of(platform, [job_id]) == 1
    assert CANARY.encode() in rejections_of(platform, job_id)[0].raw
