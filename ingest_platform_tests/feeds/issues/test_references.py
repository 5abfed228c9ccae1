"""Which issue a record is about, and what is said of its source: the same for one record and for a frame."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.issues.contract import CONTRACT
from ingest_platform.feeds.issues.identity import identify, key_hash_of, source_key_of
from ingest_platform.feeds.issues.references import refer
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.parse import parse_lines
from ingest_platform.pipeline.references import ORIGINS_SCHEMA
from ingest_platform_tests.pipeline.sent import known

TEXTS = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() != "" and "\x00" not in text)


def referred(*records: dict[str, object], workspace: str = "acme") -> list[dict[str, object]]:
    """Check records as a run does; the rows of the good ones."""
    parsed = parse_lines([json.dumps({"title": "t", **record}).encode() for record in records], 0, CONTRACT)
    origins = pl.DataFrame([{"submission": 0, "workspace": workspace, "catalog_revision": 0}], schema=ORIGINS_SCHEMA)
    return check(parsed, CONTRACT, refer=refer, origins=origins, known=known()).accepted.to_dicts()


@settings(deadline=None)
@given(workspace=TEXTS, source=TEXTS, external_id=TEXTS)
def test_the_run_and_the_reply_name_the_same_issue(workspace: str, source: str, external_id: str) -> None:
    (row,) = referred({"source": source, "external_id": external_id}, workspace=workspace)
    issue_id, key_hash = identify(workspace, source_key_of(source), external_id)
    assert (row["issue_id"], row["key_hash"], row["source_key"]) == (issue_id, key_hash, source_key_of(source))
    assert key_hash_of(issue_id) == key_hash
    assert row["source_raw"] == source


def test_two_unknown_tools_are_shown_alike_and_never_overwrite_each_other() -> None:
    first, second, third = referred(
        {"source": "Our CRM", "external_id": "1"},
        {"source": "Their CRM", "external_id": "1"},
        {"source": " our crm\t", "external_id": "1"},
    )
    assert first["source"] == second["source"] == "custom_api"
    assert first["issue_id"] != second["issue_id"]
    assert first["issue_id"] == third["issue_id"]
    assert third["source_raw"] == " our crm\t"


@pytest.mark.parametrize(
    ("sent", "stored"),
    [("p1", "p1"), ("critical", "p1"), ("high", "p2"), ("medium", "p3"), ("low", "p4"), (None, None)],
)
def test_a_severity_is_taken_either_way(sent: str | None, stored: str | None) -> None:
    (row,) = referred({"source": "JIRA", "external_id": "1", "severity": sent})
    assert (row["severity"], row["source"]) == (stored, "jira")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "iss_",
        "iss_0",
        "iss_" + "0" * 25,
        "iss_" + "0" * 27,
        "iss_" + "u" * 26,
        "ISS_" + "0" * 26,
        "iss_" + "é" * 13,
    ],
)
def test_what_is_no_id_has_no_hash(text: str) -> None:
    assert key_hash_of(text) is None


@pytest.mark.parametrize("name", ["external_id", "source", "title"])
def test_what_is_blank_is_missing(name: str) -> None:
    record = {"source": "jira", "external_id": "1", "title": "t", name: " \u2003"}
    parsed = parse_lines([json.dumps(record).encode()], 0, CONTRACT)
    (rejection,) = check(parsed, CONTRACT, refer=None, origins=known(), known=known()).rejections
    assert [(each.code, each.field) for each in rejection.problems] == [("missing_field", name)]
