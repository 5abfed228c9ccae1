"""Packed bodies are what they were, each in its place."""

from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.storage.packing import PACKED_BYTES_MIN, pack, unpack

_LARGE = st.binary(min_size=1, max_size=9).map(lambda part: part * PACKED_BYTES_MIN)
BODIES = st.lists(st.none() | st.binary(max_size=50) | _LARGE, max_size=8)


@given(bodies=BODIES)
def test_what_was_packed_is_unpacked_to_the_same_in_the_same_order(bodies: list[bytes | None]) -> None:
    packed = pack(bodies)
    assert [unpack(body) if is_packed and body is not None else body for body, is_packed in packed] == bodies


@given(bodies=BODIES)
def test_exactly_the_larger_ones_are_packed(bodies: list[bytes | None]) -> None:
    assert [is_packed for _, is_packed in pack(bodies)] == [len(body or b"") >= PACKED_BYTES_MIN for body in bodies]
