"""What each source asks of an external id."""

import json
import re

import pytest

from ingest_platform.feeds.issues.door import complete_sourced
from ingest_platform.feeds.issues.references import SOURCES as KNOWN
from ingest_platform.feeds.issues.sources import SOURCES, Source

UUID = "70413a06-38d6-4c85-92b8-5ebc900d42e2"
GOOD = {
    "jira": ("ABC-123", "A1_B-1"),
    "servicenow": ("INC0010023", "RITM0010001", "SCTASK0010001", "46e18c0fa9fe19810066a0083f76bd56"),
    "github": ("octo/hello.world#1", "a-b/c_d#1347"),
    "pagerduty": ("PT4KHLK", "Q1XQJ3MWTB5UH2"),
    "opsgenie": (UUID, f"{UUID}-1422263583", f"{UUID}-1422263583001"),
    "linear": ("ENG-123", "A-1", UUID),
    "zendesk": ("35436",),
    "custom_api": ("anything at all", "1"),
}
BAD = {
    "jira": ("123", "ABC-", "ABC-0", "abc-1", "ABC-1 ", "ABC-1\n", "-1", "ABC 1", "ABC-1x"),
    "servicenow": ("10023", "inc0010023", "INC", "46e18c0fa9fe19810066a0083f76bd5"),
    "github": ("octo/hello", "hello#1", "octo/hello#0", "octo/hello#", "#1", "/hello#1", "octo/hello#1 "),
    "pagerduty": ("pt4khlk", "P-4KHLK", "PT4"),
    "opsgenie": ("alert", UUID.upper(), f"{UUID}-1"),
    "linear": ("123", "eng-123", "ENG-0"),
    "zendesk": ("0", "-1", "1.0", "ABC-1", "٣"),
}
# Sources that take a number if it comes with the URL that says whose number it is.
NUMBERED = ("github", "pagerduty", "opsgenie")


@pytest.mark.parametrize(("name", "external_id"), [(name, each) for name, ids in GOOD.items() for each in ids])
def test_good_external_ids_are_taken(name: str, external_id: str) -> None:
    assert SOURCES[name].problems(external_id=external_id, has_url=False) == []


@pytest.mark.parametrize(("name", "external_id"), [(name, each) for name, ids in BAD.items() for each in ids])
def test_other_external_ids_are_refused_with_or_without_a_url(name: str, external_id: str) -> None:
    for has_url in (False, True):
        (problem,) = SOURCES[name].problems(external_id=external_id, has_url=has_url)
        assert (problem.code, problem.field) == ("invalid_format", "external_id")
        assert problem.message == SOURCES[name].requirement


@pytest.mark.parametrize("name", NUMBERED)
def test_a_number_needs_the_url_that_says_whose_it_is(name: str) -> None:
    assert SOURCES[name].problems(external_id="17", has_url=True) == []
    (problem,) = SOURCES[name].problems(external_id="17", has_url=False)
    assert (problem.code, problem.field) == ("missing_field", "external_url")


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_a_source_is_documented_by_an_example_that_it_takes(source: Source) -> None:
    assert source.name in KNOWN
    complete_sourced(json.dumps(source.example).encode(), source)
    if source.schema_pattern is None:
        return
    accepted = [*GOOD[source.name], *(["17"] if source.name in NUMBERED else [])]
    assert all(re.search(source.schema_pattern, each) for each in accepted)
    assert not any(re.search(source.schema_pattern.replace("$", r"\Z"), each) for each in BAD[source.name])


def test_every_tool_with_a_form_of_ids_has_its_bad_ones_tried() -> None:
    assert set(GOOD) == set(SOURCES)
    assert set(BAD) == {name for name, source in SOURCES.items() if source.id_pattern is not None}
