"""Values are gathered from documents and put back where they belong, whatever stands in the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing.paths import MISSING, fresh, gather, objects_at, put, take

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
DOCUMENTS = st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), max_size=5)
PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)


@pytest.mark.parametrize("inner", [None, "text", ["list"], 5])
def test_what_stands_in_the_way_and_is_no_object_gives_way_to_one(inner: object) -> None:
    documents = [{"event": {"http": inner}}]
    put(documents, ("event", "http", "status"), [200])
    assert documents == [{"event": {"http": {"status": 200}}}]


def test_null_is_taken_and_what_is_missing_is_not() -> None:
    assert take([{"a": None}, {}, {"b": 1}], ("a",)) == [None, MISSING, MISSING]


def test_the_object_at_no_path_is_the_document() -> None:
    document: dict[str, object] = {"a": 1}
    assert objects_at([document], ())[0] is document


@given(documents=DOCUMENTS, path=PATHS, value=JSON)
def test_what_is_put_is_gathered(documents: list[dict[str, object]], path: tuple[str, ...], value: object) -> None:
    put(documents, path, [value for _ in documents])
    assert gather(documents, path) == [value for _ in documents]


@given(documents=DOCUMENTS, path=PATHS)
def test_what_is_taken_is_gone(documents: list[dict[str, object]], path: tuple[str, ...]) -> None:
    before = gather(documents, path)
    taken = take(documents, path)
    assert [None if value is MISSING else value for value in taken] == before
    assert gather(documents, path) == [None for _ in documents]
    assert take(documents, path) == [MISSING for _ in documents]


@given(value=JSON)
def test_copies_are_equal_and_share_nothing_that_could_be_changed(value: object) -> None:
    new = fresh(value)
    assert new() == value
    assert _changeable(new()).isdisjoint(_changeable(kept := new()) | _changeable(value))
    assert kept == value


def _changeable(value: object) -> set[int]:
    if isinstance(value, dict):
        return {id(value)}.union(*map(_changeable, value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*map(_changeable, value))
    return set()
