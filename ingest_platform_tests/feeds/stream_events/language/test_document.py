"""The document of the rule language says what is so: each of its examples."""

import json
import re
from pathlib import Path

import pytest

from ingest_platform.feeds.stream_events.language import RuleFault, columns_of, compile_expression, compile_rule
from ingest_platform.feeds.stream_events.language.reading import NESTING_MAX, TEXT_CHARACTERS_MAX
from ingest_platform.feeds.stream_events.language.regexes import REPEATED_MAX

TEXT = (Path(__file__).parents[4] / "docs" / "rules.md").read_text(encoding="utf-8")


def _rows(title: str) -> list[tuple[str, ...]]:
    """Read the rows of a section's tables: the expression without its backticks, then the other cells."""
    section = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.*?)` \| (.*) \|$", section, re.MULTILINE)
    return [(expression, *rest.split(" | ")) for expression, rest in rows]


def _event() -> dict[str, object]:
    return json.loads(re.findall(r"^```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[0])


def _evaluated(text: str) -> tuple[object, bool]:
    expression = compile_expression(text)
    return expression.evaluate(columns_of([_event()], expression.paths)).row(0)


@pytest.mark.parametrize(("text", "value"), _rows("What is written"))
def test_the_expressions_of_the_document_are_what_it_says(text: str, value: str) -> None:
    assert _evaluated(text) == (json.loads(value), False)


@pytest.mark.parametrize(("text", "value", "fault"), _rows("What it means"))
def test_the_faults_of_the_document_are_faults(text: str, value: str, fault: str) -> None:
    assert _evaluated(text) == (json.loads(value), fault == "yes")


@pytest.mark.parametrize(("text", "says"), _rows("What is refused"))
def test_what_the_document_says_is_refused_is(text: str, says: str) -> None:
    with pytest.raises(RuleFault) as caught:
        compile_rule(text)
    assert str(caught.value) == says


def test_the_limits_of_the_document_are_those_of_the_language() -> None:
    for limit in (TEXT_CHARACTERS_MAX, NESTING_MAX, REPEATED_MAX):
        assert f"{limit:,}" in TEXT
