"""A spool holds what was written to it, in memory or in a blob, and knows its hash either way."""

import hashlib
from pathlib import Path

import pytest

from ingest_platform.api.intake import Spool
from ingest_platform.storage.blobs import LocalBlobs


@pytest.mark.parametrize("pieces", [[], [b"abc"], [b"abc", b"de"], [b"abcde", b"f"], [b"abc", b"def", b"ghi"]])
def test_a_spool_knows_its_bytes_and_their_hash_wherever_they_lie(tmp_path: Path, pieces: list[bytes]) -> None:
    blobs = LocalBlobs(tmp_path)
    spool = Spool(blobs, key="one", inline_bytes_max=5)
    for piece in pieces:
        spool.write(piece)
    spool.close()
    whole = b"".join(pieces)
    assert (spool.size, spool.digest) == (len(whole), hashlib.sha256(whole).digest())
    if len(whole) <= 5:
        assert (spool.body, spool.blob) == (whole, None)
    else:
        assert (spool.body, spool.blob) == (None, "one")
        with blobs.open("one") as stored:
            assert stored.read() == whole
