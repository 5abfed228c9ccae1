"""Expressions with named groups find what Python's find, in linear time."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing.parsing.regex import lift

PATTERNS = [
    r"(?P<a>a+)(?P<b>b*)",
    r"^(?P<a>[^ ]*) (?P<b>.*)$",
    r"(?P<a>x)?(?P<b>y)?",
    r"(?i)(?P<a>A)|(?P<b>b)",
    r"(?P<a>a)(b)?(?P<c>(?P<d>c)|d)",
]


def found(text: str, pattern: str) -> object:
    (lifted,) = lift([text], pattern)
    return None if lifted is None else dict(lifted)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text(alphabet="abcdxyAB \n", max_size=12))
def test_named_groups_are_those_that_python_finds(pattern: str, text: str) -> None:
    # What ends a line is another thing in Python, which lets `$` match in front of it.
    match = re.search(pattern.replace("$", r"\Z"), text)
    expected = None if match is None else {name: part for name, part in match.groupdict().items() if part is not None}
    assert found(text, pattern) == expected


def test_a_match_of_which_no_group_took_part_is_a_match() -> None:
    assert [found("q", "(?<a>x)?q"), found("r", "(?<a>x)?q")] == [{}, None]


def test_names_with_dots_are_members_of_objects() -> None:
    assert found("GET 200", r"(?<http.verb>\w+) (?<http.status>\d+)") == {"http": {"verb": "GET", "status": "200"}}


def test_a_pattern_that_would_try_for_ever_elsewhere_does_not() -> None:
    began = time.perf_counter()
    assert list(lift(["a" * 30_000 + "!"], "^(?<a>(a|aa|a*)*)$")) == [None]
    assert time.perf_counter() - began < 5
