"""Blobs, local and in an object store: visible whole or not at all, durable, by sound keys only."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ingest_platform.domain.errors import Unavailable
from ingest_platform.storage.blobs import TEMPORARY_SECONDS_MAX, BlobFault, Blobs, LocalBlobs, S3Blobs, open_blobs

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """Start an object store on a free port of the loopback."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow to import.

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """Open an empty store of each kind."""
    if request.param == "local":
        return open_blobs(tmp_path / "blobs")
    return _s3(request.getfixturevalue("s3_endpoint"), tmp_path)


def _s3(endpoint: str, tmp_path: Path) -> Blobs:
    import boto3  # noqa: PLC0415

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    bucket = f"b{abs(hash(tmp_path))}"
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket=bucket)
    return open_blobs(
        f"s3://{bucket}/some/prefix",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="test",
        secret_access_key="test",
        spool=tmp_path / "spool",
    )


def _write(blobs: Blobs, key: str, data: bytes) -> None:
    with blobs.writer(key) as writer:
        writer.write(data)
        writer.commit()


@contextmanager
def disk_that_takes(size: int) -> Iterator[None]:
    """Let this process write no file larger than this: the kernel refuses the rest as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_committed_blob_is_read_as_it_was_written(blobs: Blobs) -> None:
    data = os.urandom(3 * MIB)
    with blobs.writer("files/acme/one") as writer:
        for begin in range(0, len(data), MIB):
            writer.write(data[begin : begin + MIB])
        writer.commit()
    assert blobs.exists("files/acme/one")
    assert blobs.size("files/acme/one") == len(data)
    with blobs.open("files/acme/one") as source:
        assert source.read() == data
    with blobs.local_path("files/acme/one") as path:
        assert path.read_bytes() == data


def test_a_large_blob_goes_up_in_parts(blobs: Blobs) -> None:
    data = os.urandom(MIB) * 23
    _write(blobs, "large", data)
    with blobs.local_path("large") as path:
        assert path.read_bytes() == data


def test_an_empty_blob_is_a_blob(blobs: Blobs) -> None:
    _write(blobs, "empty", b"")
    assert blobs.exists("empty")
    assert blobs.size("empty") == 0


def test_nothing_is_visible_before_the_commit_nor_after_an_abort(blobs: Blobs) -> None:
    with blobs.writer("files/half") as writer:
        writer.write(b"half")
        assert not blobs.exists("files/half")
        assert list(blobs.list()) == []
    assert not blobs.exists("files/half")
    assert list(blobs.list()) == []


def test_an_error_while_writing_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with suppress(RuntimeError), blobs.writer("files/half") as writer:
        writer.write(b"half")
        raise RuntimeError
    assert not blobs.exists("files/half")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_key_can_be_written_again(blobs: Blobs) -> None:
    _write(blobs, "again", b"first")
    _write(blobs, "again", b"second")
    with blobs.open("again") as source:
        assert source.read() == b"second"


def test_a_missing_blob_is_a_fault_and_deleting_it_is_none(blobs: Blobs) -> None:
    assert not blobs.exists("absent")
    with pytest.raises(BlobFault):
        blobs.open("absent")
    with pytest.raises(BlobFault):
        blobs.size("absent")
    with pytest.raises(BlobFault), blobs.local_path("absent"):
        pass
    blobs.delete("absent")


def test_a_deleted_blob_is_gone(blobs: Blobs) -> None:
    _write(blobs, "files/one", b"1")
    blobs.delete("files/one")
    assert not blobs.exists("files/one")
    assert list(blobs.list()) == []


def test_keys_are_listed_in_order_by_prefix(blobs: Blobs) -> None:
    for key in ("b/2", "b/10/x", "a/1", "bb"):
        _write(blobs, key, b"x")
    assert list(blobs.list()) == ["a/1", "b/10/x", "b/2", "bb"]
    assert list(blobs.list("b/")) == ["b/10/x", "b/2"]
    assert list(blobs.list("b/1")) == ["b/10/x"]
    assert list(blobs.list("none/")) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        "a/./b",
        ".hidden",
        "a/.x.tmp",
        "a\\b",
        "a\0b",
        "a\n",
        "ä",
    ],
)
def test_keys_that_could_leave_the_store_are_refused(blobs: Blobs, key: str) -> None:
    for use in (blobs.writer, blobs.open, blobs.exists, blobs.size, blobs.delete):
        with pytest.raises(ValueError, match="not a key"):
            use(key)


def test_an_overlong_key_is_refused(blobs: Blobs) -> None:
    with pytest.raises(ValueError, match="not a key"):
        blobs.writer("a" * 1000)


def test_a_full_disk_is_unavailable_and_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with disk_that_takes(MIB), blobs.writer("files/large") as writer, pytest.raises(Unavailable):
        writer.write(bytes(3 * MIB))
    assert not blobs.exists("files/large")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    _write(blobs, "files/large", bytes(3 * MIB))


def test_temporary_files_are_swept_once_nobody_can_be_writing_them(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    _write(blobs, "files/kept", b"kept")
    died = blobs.writer("files/died")
    died.write(b"half")
    assert blobs.sweep() == 0
    assert blobs.sweep(now=time.time() + TEMPORARY_SECONDS_MAX + 60) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["kept"]
    died.abort()


def test_a_store_that_is_away_is_a_fault(tmp_path: Path) -> None:
    away = S3Blobs(
        "s3://bucket",
        endpoint="http://127.0.0.1:9",
        access_key_id="x",
        secret_access_key="x",
        region="x",
        spool=tmp_path,
    )
    with pytest.raises(BlobFault), away.writer("a") as writer:
        writer.commit()
