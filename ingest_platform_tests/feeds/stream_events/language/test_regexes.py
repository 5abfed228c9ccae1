"""Regular expressions of rules: taken as Polars takes them, refused when a rule is applied."""

import time

import polars as pl
import pytest

from ingest_platform.feeds.stream_events.language import RuleFault
from ingest_platform.feeds.stream_events.language.regexes import check_regex

# About what such a text costs: at most 10 µs for each of its characters.
_TEXT = pl.Series(["é" * 2000 + "x" * 2000])
_SECONDS_MAX = 2


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("[", "unclosed character class"),
        ("(a", "unclosed group"),
        ("(?<=a)b", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(a)\1", "backreferences are not supported"),
        ("a{2,1}", "invalid repetition count range"),
        ("(" * 300 + ")" * 300, "exceed the maximum number of nested parentheses"),
        (r"\w{900}", "it is larger than 10 MiB when compiled"),
        (r"(?i)" + r"\w" * 1500, "it is larger than 10 MiB when compiled"),
        (".{0,5000}y", "more than 1000 characters when written out"),
        ("(?:a{1,50}b){20}", "more than 1000 characters when written out"),
        ("(?P<x>(ab{9}){10}){11}", "more than 1000 characters when written out"),
        ("x{99999999999999999999}", "more than 1000 characters when written out"),
    ],
)
def test_what_polars_would_not_take_or_be_slow_with_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(RuleFault) as caught:
        check_regex(pattern, 7)
    assert (caught.value.column, says in caught.value.message) == (7, True), caught.value


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{4}-\d{2}-\d{2}T",
        r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"[0-9a-f]{128}",
        r"[]{9999}] \{9999} \x{10FFFF} \p{Han}{100}",
        "x{1000}",
        "long text " * 300,
        "(?:x+x+)+y",
        "(a|b|ab)*" * 50 + "c",
        ".*" * 2000,
        "(.{0,199}){5}y",
        "x?" * 1000 + "y",
        "",
    ],
)
def test_what_is_taken_is_evaluated_in_bounded_time(pattern: str) -> None:
    check_regex(pattern, 1)
    began = time.process_time()
    _TEXT.str.contains(pattern)
    assert time.process_time() - began < _SECONDS_MAX
