"""Paths of fields, as text and as members."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.paths import MEMBERS_MAX, WrongPath, read_path, write_path
from ingest_platform.feeds.stream_events.language import compile_expression

MEMBERS = st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8), min_size=1, max_size=5)


@given(MEMBERS)
def test_a_path_that_was_written_is_read_again(members: list[str]) -> None:
    assert read_path(write_path(tuple(members))) == tuple(members)


@pytest.mark.parametrize("text", ["source", "event.card_number", 'event."odd.name".x', 'event."with \\" quote"'])
def test_a_path_means_the_same_in_a_rule(text: str) -> None:
    assert compile_expression(text).paths == {read_path(text)}


@pytest.mark.parametrize(
    ("text", "column"),
    [("", 1), (".a", 1), ("a.", 3), ("a..b", 3), ('a."b', 3), ("a b", 2), ("a[0]", 2), ("event.'a'", 7), ('""', 1)],
)
def test_what_is_no_path_is_told_with_its_column(text: str, column: int) -> None:
    with pytest.raises(WrongPath, match=rf"^column {column}: "):
        read_path(text)


def test_a_path_has_an_end() -> None:
    assert len(read_path(".".join("a" * MEMBERS_MAX))) == MEMBERS_MAX
    with pytest.raises(WrongPath, match="at most 20"):
        read_path(".".join("a" * (MEMBERS_MAX + 1)))
