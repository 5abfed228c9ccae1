"""Documents cut into records: the same records whether they come as lines or as elements."""

import io
import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_platform.domain.errors import Unreadable
from ingest_platform.pipeline.documents import (
    BATCH_RECORDS,
    ENVELOPE_BYTES_MAX,
    PIECE_BYTES,
    iter_document,
    iter_lines,
    split_document,
)
from ingest_platform_tests.pipeline.test_door import RECORDS


def is_a_good_neighbour(raw: bytes) -> bool:
    """Tell whether a record is an object that only NaN, infinities or lone surrogates keep from being JSON."""
    try:
        return isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False


@given(records=st.lists(RECORDS, min_size=1, max_size=6), gap=st.sampled_from([b",", b" ,\n"]))
@settings(max_examples=500, deadline=None)
@example([b'{"x":NaN}', b'{"x":"\\ud800"}', b'{"x":"NaN","y":[-Infinity]}', b'{"\\udc00":1}'], b",")
@example([b'{"x":1}', b'{"x":1},{"y":2}'], b",")
def test_elements_are_cut_out_as_they_were_sent(records: list[bytes], gap: bytes) -> None:
    for begin, end in ((b"[", b"]"), (b'{"a":[1],"items": [ ', b'],"b":{"items":2}}')):
        document = begin + gap.join(records) + end
        try:
            found = split_document(document, "items")
        except Unreadable:
            assert not all(is_a_good_neighbour(raw) for raw in records)
        else:
            assert gap.join(found).split() == gap.join(raw.strip(b" \t\r\n") for raw in records).split()


def test_many_records_come_in_batches() -> None:
    records = [b"{}"] * (BATCH_RECORDS + 1)
    assert [len(batch) for batch in iter_document(b"[" + b",".join(records) + b"]", "items")] == [BATCH_RECORDS, 1]


@pytest.mark.parametrize(
    "around",
    [
        '{"items": [%s], "items": [1]}',
        '{"items": 5, "items": [%s]}',
        r'{"items": [%s], "item\u0073": [1]}',
    ],
)
def test_records_are_under_one_key(around: str) -> None:
    with pytest.raises(Unreadable) as raised:
        split_document((around % "{}").encode(), "items")
    assert raised.value.code in {"duplicate_key", "invalid_json"}


@pytest.mark.parametrize("record", ['{"a": [1]}', '{"a": NaN}', r'{"a": "\ud800"}', '{"": [1], "": [2]}', "{}"])
def test_without_a_key_an_object_is_itself_a_record(record: str) -> None:
    assert split_document(f"\ufeff \n{record}\r\n".encode(), "") == [record.encode()]
    assert split_document(f"[{record}, {record}]".encode(), "") == [record.encode()] * 2


@pytest.mark.parametrize(
    "document", [b'{"a": 1} x', b'{"a": 1', b"7", b"", b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
def test_without_a_key_what_is_no_json_document_can_not_be_read(document: bytes) -> None:
    with pytest.raises(Unreadable):
        split_document(document, "")


def test_what_stands_beside_the_records_is_limited() -> None:
    with pytest.raises(Unreadable) as raised:
        split_document(b'{"items": [{}], "x": "' + b"x" * ENVELOPE_BYTES_MAX + b'"}', "items")
    assert raised.value.code == "too_large"


@pytest.mark.parametrize("document", [b'[NaN,"' + b'\\"' * 500_000, b"[" * 500_000 + b"NaN", b'["' * 300_000 + b"NaN"])
def test_a_hostile_document_takes_no_longer_than_its_length(document: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(Unreadable):
        split_document(document, "items")
    assert time.process_time() - begun < 2.0


@given(lines=st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=10), ended=st.booleans())
def test_lines_are_what_stands_between_line_ends(lines: list[bytes], *, ended: bool) -> None:
    text = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    found = [line for part in iter_lines(io.BytesIO(text)) for line in part]
    plain = text.removeprefix(b"\xef\xbb\xbf")
    assert found == (plain.removesuffix(b"\n").split(b"\n") if plain else [])


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_lines_across_pieces_are_whole(shift: int) -> None:
    lines = [b"a" * (PIECE_BYTES + shift), b"", b"b" * (2 * PIECE_BYTES), b"c"]
    assert [line for part in iter_lines(io.BytesIO(b"\n".join(lines))) for line in part] == lines
