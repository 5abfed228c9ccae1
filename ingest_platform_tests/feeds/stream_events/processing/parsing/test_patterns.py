"""A pattern that could not be used is refused when it is declared, and the reason is told."""

from pathlib import Path

import pytest

from ingest_platform.feeds.stream_events.processing.parsing.grok_patterns import PATTERNS
from ingest_platform.feeds.stream_events.processing.parsing.patterns import check_pattern


@pytest.mark.parametrize("name", PATTERNS)
def test_every_pattern_that_is_known_can_be_used(name: str) -> None:
    assert check_pattern("grok", f"%{{{name}:value}}") is None
    assert check_pattern("grok", f"^%{{{name}}} (?<rest>.*)") is None


@pytest.mark.parametrize(
    ("kind", "pattern", "reason"),
    [
        ("regex", None, "is missing: regex needs one"),
        ("grok", "", "is missing: grok needs one"),
        ("json", "x", "belongs to grok and regex, not to json"),
        ("regex", "(?<a>", "unclosed group"),
        ("regex", "(?<a>x)(?=y)", "look-around, including look-ahead and look-behind, is not supported"),
        ("regex", r"(?<a>x)\1", "backreferences are not supported"),
        ("regex", "(?<a>x)(?<a>y)", "duplicate capture group name"),
        ("regex", "(?<a>.{0,5000}y)", "more than 1000 characters when written out"),
        ("regex", "(x)", "captures nothing"),
        ("regex", "(?<a>x)(?<a.b>y)", "a can't be a text and an object with members at once"),
        ("regex", "(?<a..b>x)", "a..b is no name of a field"),
        ("regex", "(?<a>x)" * 5_000, "has 35000 characters; at most 10000 are allowed"),
        ("grok", "%{WORD}", "captures nothing"),
        ("grok", "%{NOPE:a}", "%{NOPE} is no pattern that is known; there are BASE10NUM, "),
        ("grok", "%{WORD:a:long}", "must end with :int or :float"),
        ("grok", "%{WORD:}", " is no name of a field"),
        ("grok", "%{WORD a}", "%{WORD a} is not written as %{NAME}"),
        ("grok", "%{WORD:a", "%{WORD:a is not written as %{NAME}"),
        ("grok", "%{WORD:a} (", "unclosed group"),
        ("grok", "%{URI:a}" * 500, "stands for an expression of more than"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_with_the_reason(kind: str, pattern: str, reason: str) -> None:
    assert reason in (check_pattern(kind, pattern) or "nothing is wrong")


@pytest.mark.parametrize(("kind", "pattern"), [("json", None), ("regex", "(?<a>x)|y"), ("grok", "%{WORD:a.b} 100%")])
def test_a_pattern_that_can_be_used_is_not_refused(kind: str, pattern: str | None) -> None:
    assert check_pattern(kind, pattern) is None


def test_every_pattern_that_is_known_is_documented() -> None:
    documented = (Path(__file__).parents[5] / "docs" / "parsing.md").read_text(encoding="utf-8")
    assert [name for name in PATTERNS if f"`{name}`" not in documented] == []
