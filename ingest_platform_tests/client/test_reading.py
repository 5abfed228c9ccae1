"""Files into records: every form gives the same ones, and nothing is altered in silence."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from ingest_platform.client.errors import ClientError
from ingest_platform.client.reading import Unread, read_records

RECORDS = [{"a": 1, "b": {"c": [1.5, None]}}, {"a": 2}]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(RECORDS).encode()),
        ("a.json", json.dumps({"records": RECORDS}).encode()),
        ("a.ndjson", LINES),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\r\n")),
        ("a.ndjson.gz", gzip.compress(LINES, mtime=0)),
        ("A.NDJSON.ZST", zstandard.ZstdCompressor().compress(LINES)),
    ],
)
def test_each_form_gives_the_records_and_tells_how_much_was_read(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    seen: list[int] = []
    assert list(read_records(path, see=seen.append)) == RECORDS
    assert sum(seen) == len(content)


def test_a_line_that_is_no_record_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(b'{"a":1}\n{"a":1,"a":2}\n{"b":[{"a":1,"a":2}]}\n[1]\n{"a":\n\xff\n{"a":2}\n')
    read = list(read_records(path, see=lambda _: None))
    codes = [each.code if isinstance(each, Unread) else None for each in read]
    assert codes == [None, "duplicate_key", "duplicate_key", "not_an_object", "invalid_json", "invalid_json", None]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"a\n1\n"),
        ("a.json", b'"text"'),
        ("a.json", b"[1,"),
        ("a.ndjson.gz", b"none"),
        ("a.ndjson.zst", b"no"),
    ],
)
def test_a_file_that_holds_no_records_is_said_to(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ClientError):
        list(read_records(path, see=lambda _: None))


def test_a_file_that_was_cut_off_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(LINES * 1000)[:-9])
    with pytest.raises(ClientError, match="broken"):
        list(read_records(path, see=lambda _: None))
