"""The door of issues says what the run will say, and completes records that are sent alone."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.domain.errors import Malformed
from ingest_platform.feeds.issues.contract import CONTRACT
from ingest_platform.feeds.issues.door import complete_event, complete_sourced, judge
from ingest_platform.feeds.issues.identity import identify
from ingest_platform.feeds.issues.references import refer
from ingest_platform.feeds.issues.sources import SOURCES
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.parse import parse_lines
from ingest_platform.pipeline.references import KNOWN_SCHEMA, ORIGINS_SCHEMA

RECORD = {"external_id": "A-1", "source": "jira", "title": "It fails"}


def _event(**members: object) -> dict[str, object]:
    return json.loads(complete_event(json.dumps(members).encode()).record)


def _refused(raw: bytes) -> Malformed:
    with pytest.raises(Malformed) as caught:
        complete_event(raw)
    return caught.value


def _details(refusal: Malformed) -> dict[str | None, str]:
    return {detail.param: detail.message for detail in refusal.details}


# The run's own verdict

_texts = st.sampled_from(
    ["", " ", "\x85", "A-1", "\x00", "p1", "critical", "P1", "x" * 301, "é" * 300, "http://a.b", "ftp://a", "\ud800"]
)
_values = st.one_of(_texts, st.none(), st.integers(), st.booleans(), st.just({}), st.just({"a": [1]}), st.just([]))


@st.composite
def _records(draw: st.DrawFn) -> bytes:
    """Draw a record near the contract: members left out, repeated, of other types, or not declared."""
    members: list[str] = []
    for field in (*CONTRACT.fields, None):
        name = "extra" if field is None else field.name
        for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0, 2]))):
            example = st.just("good" if field is None else field.example)
            members.append(f"{json.dumps(name)}: {json.dumps(draw(st.one_of(example, example, example, _values)))}")
    return ("{" + ", ".join(members) + "}").encode()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(_records(), st.sampled_from([b"7", b"{", b'{"a": NaN}', b"null"])), min_size=1, max_size=5))
def test_the_door_says_of_every_record_what_the_run_says(records: list[bytes]) -> None:
    judged = judge(records, workspace="acme")
    origins = pl.DataFrame([{"submission": 0, "workspace": "acme", "catalog_revision": 0}], schema=ORIGINS_SCHEMA)
    in_the_run = check(
        parse_lines(records, 0, CONTRACT),
        CONTRACT,
        refer=refer,
        origins=origins,
        known=pl.DataFrame(schema=KNOWN_SCHEMA),
    )
    assert list(judged.rejections) == [(each.record_index, each.problems) for each in in_the_run.rejections]
    accepted = in_the_run.accepted.sort("record_index").select("issue_id", "key_hash")
    assert list(judged.issues) == accepted.rows()


def test_an_issue_that_is_named_twice_is_one_subject() -> None:
    judged = judge([json.dumps(RECORD | {"title": title}).encode() for title in ("a", "b")], workspace="acme")
    assert len(judged.issues) == 2
    assert judged.subjects == [identify("acme", "jira", "A-1")[1]]


# Events


def test_an_event_keeps_what_it_says_to_the_byte() -> None:
    sent = b'{"title":"t", "metadata": {"n": 1.50, "a":[ ]}, "external_id":"x","more":1e2}'
    alone = complete_event(sent)
    assert b'"metadata":{"n": 1.50, "a":[ ]}' in alone.record
    assert b'"more":1e2' in alone.record
    assert alone.body == b'{"records":[' + alone.record + b"]}"
    assert alone.named


@pytest.mark.parametrize("nothing", [{}, {"source": None}, {"source": ""}, {"source": " \n"}])
def test_an_event_without_a_source_is_one_of_custom_api(nothing: dict[str, object]) -> None:
    assert _event(title="t", **nothing)["source"] == "custom_api"


def test_an_event_keeps_its_source_as_sent() -> None:
    assert _event(title="t", source=" Zabbix ")["source"] == " Zabbix "


@pytest.mark.parametrize("nothing", [{}, {"title": None}, {"title": "  "}])
def test_the_title_of_an_event_falls_back_to_its_external_id(nothing: dict[str, object]) -> None:
    assert _event(external_id="db-3", **nothing)["title"] == "db-3"
    assert _event(external_id="x" * 500, **nothing)["title"] == "x" * 300


def test_an_event_without_an_external_id_gets_one_of_its_own() -> None:
    ids = {str(_event(title="t", external_id=None)["external_id"]) for _ in range(3)}
    assert len(ids) == 3
    assert all(external_id.startswith("evt-") for external_id in ids)
    assert not complete_event(b'{"title":"t"}').named


def test_an_event_is_given_no_severity() -> None:
    # It is p3 when the issue is created; a later event that omits it must not change what the issue has.
    assert "severity" not in _event(title="t")


@pytest.mark.parametrize("nothing", [{}, {"title": None, "external_id": ""}, {"body": "b", "title": " "}])
def test_an_event_needs_a_title_or_an_external_id(nothing: dict[str, object]) -> None:
    refusal = _refused(json.dumps(nothing).encode())
    assert _details(refusal) == {"title": "title is required where there is no external_id"}


def test_everything_that_is_wrong_with_an_event_is_told_by_field() -> None:
    refusal = _refused(b'{"title": 7, "severity": "p9", "team": "a", "team": "b", "external_url": "ftp://x"}')
    assert set(_details(refusal)) == {"title", "severity", "team", "external_url"}
    assert refusal.status == 400


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b" ", b"{", b"[]", b'[{"title":"t"}]', b"null", b'"t"', b'{"title":"t"}{}', b'{"title":"\xff"}'),
        *(b'{"title":"t","x":NaN}', b'{"title":"t","x":1e999}', b'{"title":"t","x":{"a":1,"a":2}}'),
        *(b'{"title":"\\ud800"}', b'{"title":"t","x":' + b"[" * 65 + b"]" * 65 + b"}"),
    ],
)
def test_what_is_no_sane_object_is_refused_as_a_whole(raw: bytes) -> None:
    refusal = _refused(raw)
    assert refusal.message
    assert refusal.status == 400


# Sources


def _sourced(source: str, /, **members: object) -> dict[str, object]:
    return json.loads(complete_sourced(json.dumps(members).encode(), SOURCES[source]).record)


@pytest.mark.parametrize("sent", [{}, {"source": "jira"}, {"source": " JIRA "}, {"source": None}])
def test_the_source_is_the_one_of_the_path(sent: dict[str, object]) -> None:
    assert _sourced("jira", external_id="ABC-1", title="t", **sent)["source"] == "jira"


def test_a_source_that_contradicts_the_path_is_refused() -> None:
    with pytest.raises(Malformed) as caught:
        _sourced("jira", external_id="ABC-1", title="t", source="github")
    assert set(_details(caught.value)) == {"source"}


@pytest.mark.parametrize("missing", ["external_id", "title"])
def test_a_record_of_a_source_is_a_whole_record(missing: str) -> None:
    members = {"external_id": "ABC-1", "title": "t"}
    members[missing] = " "
    with pytest.raises(Malformed) as caught:
        _sourced("jira", **members)
    assert _details(caught.value) == {missing: f"{missing} is required"}


def test_a_source_adds_its_own_requirements() -> None:
    with pytest.raises(Malformed) as caught:
        _sourced("jira", external_id="17", title="t")
    assert _details(caught.value) == {"external_id": SOURCES["jira"].requirement}
