"""Files are where they were declared to be, whole, once for each delivery and partition, whatever the sources are."""

import json
import os
import time
from pathlib import Path

import polars as pl
import pytest

from ingest_platform.feeds.stream_events.destinations import files
from ingest_platform.feeds.stream_events.destinations.destination import Transient, WrongDestination
from ingest_platform.storage.blobs import TEMPORARY_SECONDS_MAX, LocalBlobs, open_blobs
from ingest_platform_tests.feeds.stream_events.destinations.batches import (
    DELIVERY,
    S3_KEYS,
    batch,
    faults,
    item,
    object_store,
    opened,
)
from ingest_platform_tests.storage.test_blobs import disk_that_takes

BODY = {"type": "files", "path": "exports/", "format": "parquet", "partition": ["source", "date"]}


def _written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_batch_is_a_file_for_each_partition_below_the_folder_of_its_workspace(tmp_path: Path) -> None:
    destination = opened(BODY, tmp_path)
    sent = destination.send(batch([item(1, source="a"), item(2, source="b"), item(3, source="a")]))
    assert len(sent.delivered) == 3
    assert (sent.retry, sent.dead) == ({}, {})
    assert _written(tmp_path) == [
        f"exports/acme/source={source}/date=2026-03-01/{DELIVERY}.parquet" for source in ("a", "b")
    ]
    read = pl.read_parquet(tmp_path / "exports", hive_partitioning=True)
    assert sorted(read["event_id"]) == sorted(sent.delivered)


def test_a_repetition_replaces_the_same_file_by_the_same_bytes(tmp_path: Path) -> None:
    destination, sent = opened(BODY, tmp_path), batch([item(1), item(2)])
    destination.send(sent)
    (path,) = (tmp_path / "exports").rglob("*.parquet")
    before = path.read_bytes()
    assert len(opened(BODY, tmp_path).send(sent).delivered) == 2
    assert path.read_bytes() == before
    assert len(_written(tmp_path)) == 1


@pytest.mark.parametrize("source", ["../../../etc/passwd", "..", "a\0b\n", "💥" * 200, "", None, "con/../nul"])
def test_hostile_sources_stay_inside(tmp_path: Path, source: str | None) -> None:
    folder = tmp_path / "data"
    destination = opened(BODY, folder)
    destination.send(batch([item(1, source=source)]))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.resolve().is_relative_to(folder / "exports" / "acme")
    assert len(path.relative_to(folder).parts) == 5
    assert pl.read_parquet(path, hive_partitioning=False)["source"].to_list() == [source]


def test_a_folder_below_is_a_folder_below(tmp_path: Path) -> None:
    opened({"type": "files", "path": "exports/audit/2026", "format": "ndjson"}, tmp_path).send(batch([item(1)]))
    assert _written(tmp_path) == [f"exports/acme/audit/2026/{DELIVERY}.ndjson"]


@pytest.mark.parametrize(
    "path",
    ["", "/", "/exports", "..", "exports/..", "exports/../..", "exports//x", "exports/.x", "data", "exports/a b"],
)
def test_a_path_that_could_lead_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    body = BODY | {"path": path}
    assert list(faults(body)) == ["path"]
    with pytest.raises(WrongDestination, match="path"):
        opened(body, tmp_path)


def test_a_full_disk_is_told_and_leaves_nothing_that_can_be_seen(tmp_path: Path) -> None:
    destination = opened({"type": "files", "format": "ndjson"}, tmp_path)
    sent = batch(item(number, text="x" * 1000) for number in range(100))
    with disk_that_takes(20_000), pytest.raises(Transient, match="no room"):
        destination.send(sent)
    assert _written(tmp_path) == []
    assert len(destination.send(sent).delivered) == 100


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "exports").write_text("a file")
    with pytest.raises(Transient) as told:
        opened(BODY, tmp_path).send(batch([item(1)]))
    assert told.value.reason.startswith("not written: ")
    assert str(tmp_path) not in told.value.reason


def test_there_is_an_end_to_one_attempt_although_every_event_is_a_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_WRITING_SECONDS_MAX", 0.0)
    destination = opened(BODY, tmp_path)
    left = list(batch(item(number, source=f"s{number}") for number in range(4)).items)
    for written in range(1, 5):
        sent = destination.send(batch(left))
        assert len(sent.delivered) == 1
        assert set(sent.retry) | set(sent.delivered) == {each.event_id for each in left}
        left = [each for each in left if each.event_id in sent.retry]
        assert len(_written(tmp_path)) == written
    assert left == []


def test_what_a_process_that_died_left_behind_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "exports" / "acme"
    folder.mkdir(parents=True)
    half = folder / f".{DELIVERY}.parquet.0123456789abcdef.tmp"
    half.write_bytes(b"PAR1")
    old = time.time() - TEMPORARY_SECONDS_MAX - 10
    os.utime(half, (old, old))
    opened(BODY, tmp_path).send(batch([item(1)]))
    assert not half.exists()


def test_where_the_platform_has_a_bucket_files_lie_in_it(tmp_path: Path) -> None:
    import boto3  # noqa: PLC0415 - slow to import.

    with object_store() as endpoint:
        boto3.client("s3", endpoint_url=endpoint, **S3_KEYS).create_bucket(Bucket="platform")
        blobs = open_blobs(
            "s3://platform/blobs",
            endpoint=endpoint,
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
            spool=tmp_path / "spool",
        )
        destination = opened(BODY | {"format": "ndjson"}, tmp_path, blobs=blobs)
        destination.send(batch([item(1, source="a b")]))
        (key,) = blobs.list("exports/")
        assert key == f"exports/acme/source=a%20b/date=2026-03-01/{DELIVERY}.ndjson"
        with blobs.open(key) as source:
            assert json.loads(source.read())["source"] == "a b"
        assert not isinstance(blobs, LocalBlobs)
    with pytest.raises(Transient) as told:
        destination.send(batch([item(1)]))
    assert told.value.reason == "not written: the store is away"
