"""Each tool's payloads become records that are as good as those of the source's own route."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.errors import Malformed
from ingest_platform.feeds.issues.connectors import READERS
from ingest_platform.feeds.issues.connectors.payload import (
    Ignored,
    Payload,
    instant_of,
    severity_of_labels,
    severity_of_word,
)
from ingest_platform.feeds.issues.door import complete_sourced
from ingest_platform.feeds.issues.sources import SOURCES
from ingest_platform_tests.feeds.issues.connectors import payloads
from ingest_platform_tests.feeds.issues.connectors.payloads import Json

CREATED, UPDATED = "2026-05-06T10:15:00", "2026-05-06T10:20:00"
GITHUB_HEADERS = {"x-github-event": "issues"}
WHOLE: dict[str, tuple[str, Json, Json]] = {
    "github": (
        "github",
        payloads.GITHUB,
        {
            "external_id": "acme/checkout#17",
            "title": "Payment form loses its focus",
            "body": "On Safari only.",
            "severity": "p2",
            "external_url": "https://github.com/acme/checkout/issues/17",
            "source_created_at": f"{CREATED}Z",
            "source_updated_at": f"{UPDATED}Z",
            "metadata": {
                "event": "issues.labeled",
                "state": "open",
                "labels": ["bug", "priority: high"],
                "author": "octocat",
                "assignees": ["hubot"],
            },
        },
    ),
    "jira": (
        "jira",
        payloads.JIRA,
        {
            "external_id": "CHECKOUT-123",
            "title": "Checkout times out after 30 s",
            "body": "POST /checkout answered 504.",
            "severity": "p1",
            "team": "payments",
            "external_url": "https://acme.atlassian.net/browse/CHECKOUT-123",
            "source_created_at": f"{CREATED}.000+02:00",
            "source_updated_at": f"{UPDATED}.000+02:00",
            "metadata": {
                "event": "jira:issue_updated",
                "status": "In Progress",
                "type": "Bug",
                "project": "CHECKOUT",
                "priority": "Highest",
                "labels": ["backend"],
                "reporter": "Ann",
            },
        },
    ),
    "pagerduty": (
        "pagerduty",
        payloads.PAGERDUTY,
        {
            "external_id": "PGR0VU2",
            "title": "checkout-api: error rate above 5 %",
            "severity": "p1",
            "team": "Engineering",
            "external_url": "https://acme.pagerduty.com/incidents/PGR0VU2",
            "source_created_at": f"{CREATED}Z",
            "source_updated_at": f"{UPDATED}.000Z",
            "metadata": {
                "event": "incident.triggered",
                "status": "triggered",
                "number": 2,
                "urgency": "high",
                "priority": "P1",
                "service": "checkout-api",
                "incident_key": "d3640fbd41094207a1c11e58e46b1662",
                "assignees": ["User 123"],
            },
        },
    ),
    "opsgenie": (
        "opsgenie",
        payloads.OPSGENIE,
        {
            "external_id": "70413a06-38d6-4c85-92b8-5ebc900d42e2-1778062500000",
            "title": "Disk of db-3 is 95 % full",
            "body": "/var is at 95 %.",
            "severity": "p2",
            "team": "storage",
            "source_created_at": f"{CREATED}.000Z",
            "source_updated_at": f"{UPDATED}.000Z",
            "metadata": {
                "event": "Create",
                "tiny_id": "1791",
                "alias": "db-3-disk",
                "entity": "db-3",
                "source": "ann@acme.example",
                "tags": ["disk", "db"],
                "user": "ann@acme.example",
                "integration": "Ingest",
            },
        },
    ),
    "zendesk": (
        "zendesk",
        payloads.ZENDESK,
        {
            "external_id": "35436",
            "title": "Invoice shows the wrong address",
            "body": "The street is the old one.",
            "severity": "p1",
            "team": "8447320466430",
            "source_created_at": f"{CREATED}Z",
            "source_updated_at": f"{UPDATED}Z",
            "metadata": {
                "event": "ticket.status_changed",
                "status": "OPEN",
                "type": "PROBLEM",
                "priority": "URGENT",
                "tags": ["invoice"],
                "requester": "8447388090494",
            },
        },
    ),
    "zendesk trigger": (
        "zendesk",
        payloads.ZENDESK_TRIGGER,
        {
            "external_id": "35436",
            "title": "Invoice shows the wrong address",
            "body": "The street is the old one.",
            "severity": "p4",
            "team": "Billing",
            "external_url": "https://acme.zendesk.com/agent/tickets/35436",
            "source_created_at": f"{CREATED}Z",
            "source_updated_at": f"{UPDATED}Z",
            "metadata": {"event": "ticket solved", "status": "Solved", "priority": "Low"},
        },
    ),
    "linear": (
        "linear",
        payloads.LINEAR,
        {
            "external_id": "ENG-123",
            "title": "Export runs out of memory",
            "body": "With more than 1 M rows.",
            "severity": "p2",
            "team": "Engineering",
            "external_url": "https://linear.app/acme/issue/ENG-123/export",
            "source_created_at": f"{CREATED}.000Z",
            "source_updated_at": f"{UPDATED}.000Z",
            "metadata": {
                "event": "Issue.update",
                "state": "In Progress",
                "labels": ["Bug"],
                "assignee": "Ben",
                "id": "539068e2-ae88-4d09-bd75-22eb4a59612f",
            },
        },
    ),
    "servicenow": (
        "servicenow",
        payloads.SERVICENOW,
        {
            "external_id": "INC0010023",
            "title": "Mail is not delivered to the Lyon office",
            "body": "Since this morning.",
            "severity": "p1",
            "team": "Network",
            "external_url": "https://acme.service-now.com/incident.do?sys_id=9d385017c611228701d22104cc95c371",
            "source_created_at": f"{CREATED}Z",
            "source_updated_at": f"{UPDATED}Z",
            "metadata": {
                "event": "update",
                "state": "In Progress",
                "priority": "1 - Critical",
                "category": "network",
                "table": "incident",
                "sys_id": "9d385017c611228701d22104cc95c371",
                "caller": "Fred Luddy",
            },
        },
    ),
}


def _read(tool: str, payload: Json, headers: dict[str, str] | None = None) -> Json | Ignored:
    return READERS[tool].read(Payload(payload), headers or {})


def _changed(payload: Json, path: str, value: object) -> Json:
    """Copy a payload with one value changed; None takes it out."""
    copy: Any = deepcopy(payload)
    *parents, last = path.split(".")
    place = copy
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return copy


@pytest.mark.parametrize(("tool", "payload", "record"), WHOLE.values(), ids=list(WHOLE))
def test_a_payload_becomes_a_record_that_its_source_takes(tool: str, payload: Json, record: Json) -> None:
    read = _read(tool, payload, GITHUB_HEADERS)
    assert read == record
    whole = complete_sourced(json.dumps(read).encode(), SOURCES[tool]).record
    assert json.loads(whole) == {**record, "source": tool}


def test_every_tool_has_a_payload_here() -> None:
    assert {tool for tool, *_ in WHOLE.values()} == set(READERS)


def test_github_is_understood_without_its_header() -> None:
    assert _read("github", payloads.GITHUB) == WHOLE["github"][2]
    assert _read("github", {"zen": "Design for failure.", "hook_id": 1}) == Ignored("ping")
    assert isinstance(_read("github", {**payloads.GITHUB, "comment": {"body": "x"}, "action": "created"}), Ignored)


def test_jiras_newer_description_is_read_as_text() -> None:
    def text(said: str) -> Json:
        return {"type": "text", "text": said}

    tree = {
        "type": "doc",
        "version": 1,
        "content": [
            {"type": "paragraph", "content": [text("It "), {"type": "text", "text": "fails", "marks": []}]},
            {
                "type": "bulletList",
                "content": [{"type": "listItem", "content": [{"type": "paragraph", "content": [text("often")]}]}],
            },
        ],
    }
    read = _read("jira", _changed(payloads.JIRA, "issue.fields.description", tree))
    assert isinstance(read, dict)
    assert str(read["body"]).split() == ["It", "fails", "often"]
    assert str(read["body"]).startswith("It fails\n")


def test_jiras_automation_sends_the_issue_itself() -> None:
    read = _read("jira", payloads.JIRA["issue"])
    assert isinstance(read, dict)
    assert (read["external_id"], "event" in read["metadata"]) == ("CHECKOUT-123", False)


def test_servicenow_sends_the_fields_bare_as_well() -> None:
    bare = {"number": "INC0010023", "short_description": "Mail", "priority": "2", "sys_updated_on": f"{UPDATED}Z"}
    assert _read("servicenow", bare) == {
        "external_id": "INC0010023",
        "title": "Mail",
        "severity": "p2",
        "source_updated_at": f"{UPDATED}Z",
        "metadata": {"priority": "2"},
    }
    assert _read("servicenow", {"result": bare}) == _read("servicenow", bare)


def test_an_incident_without_a_priority_is_as_bad_as_it_is_urgent() -> None:
    for urgency, severity in (("high", "p2"), ("low", "p4")):
        payload = _changed(_changed(payloads.PAGERDUTY, "event.data.priority", None), "event.data.urgency", urgency)
        read = _read("pagerduty", payload)
        assert isinstance(read, dict)
        assert read["severity"] == severity


@pytest.mark.parametrize(
    ("tool", "payload", "headers", "what"),
    [
        ("github", {"zen": "x"}, {"x-github-event": "ping"}, "ping"),
        ("github", payloads.GITHUB, {"x-github-event": "issue_comment"}, "issue_comment"),
        ("github", {"ref": "refs/heads/main"}, {"x-github-event": "push"}, "push"),
        ("github", {**payloads.GITHUB, "action": "deleted"}, GITHUB_HEADERS, "issues.deleted"),
        ("jira", {**payloads.JIRA, "webhookEvent": "jira:issue_deleted"}, {}, "jira:issue_deleted"),
        ("jira", {"webhookEvent": "sprint_created", "sprint": {}}, {}, "sprint_created"),
        ("pagerduty", {"event": {"event_type": "pagey.ping", "data": {"message": "Hello"}}}, {}, "pagey.ping"),
        ("pagerduty", {"event": {"event_type": "service.created", "data": {}}}, {}, "service.created"),
        (
            "pagerduty",
            {"event": {"event_type": "incident.annotated", "data": {"type": "incident_note", "id": "P1"}}},
            {},
            "incident.annotated",
        ),
        ("opsgenie", {**payloads.OPSGENIE, "action": "Delete"}, {}, "Delete"),
        ("opsgenie", {"action": "test", "integrationName": "x"}, {}, "test"),
        ("zendesk", {"type": "zen:event-type:user.created", "detail": {}}, {}, "user.created"),
        ("zendesk", {**payloads.ZENDESK, "type": "zen:event-type:ticket.soft_deleted"}, {}, "ticket.soft_deleted"),
        ("linear", {**payloads.LINEAR, "type": "Comment"}, {}, "Comment.update"),
        ("linear", {**payloads.LINEAR, "action": "remove"}, {}, "Issue.remove"),
        ("servicenow", {**payloads.SERVICENOW, "operation": "delete"}, {}, "delete"),
    ],
)
def test_what_is_about_no_issue_is_ignored(tool: str, payload: Json, headers: dict[str, str], what: str) -> None:
    assert _read(tool, payload, headers) == Ignored(what)


@pytest.mark.parametrize(
    ("tool", "payload", "field"),
    [
        ("github", _changed(payloads.GITHUB, "issue.title", None), "issue.title"),
        ("github", _changed(payloads.GITHUB, "issue.number", "  "), "issue.number"),
        ("github", _changed(payloads.GITHUB, "repository", None), "repository"),
        ("github", _changed(payloads.GITHUB, "issue", []), "issue"),
        ("github", {}, "action"),
        ("jira", _changed(payloads.JIRA, "issue.fields.summary", 1.5), "issue.fields.summary"),
        ("jira", _changed(payloads.JIRA, "issue.key", None), "issue.key"),
        ("jira", {}, "issue"),
        ("pagerduty", {}, "event"),
        ("pagerduty", _changed(payloads.PAGERDUTY, "event.data.id", None), "event.data.id"),
        ("pagerduty", _changed(payloads.PAGERDUTY, "event.data", None), "event.data"),
        ("opsgenie", {}, "action"),
        ("opsgenie", _changed(payloads.OPSGENIE, "alert.message", None), "alert.message"),
        ("zendesk", {}, "ticket"),
        ("zendesk", _changed(payloads.ZENDESK, "detail", None), "detail"),
        ("zendesk", _changed(payloads.ZENDESK_TRIGGER, "ticket.id", None), "ticket.id"),
        ("linear", {}, "type"),
        ("linear", _changed(payloads.LINEAR, "data.title", None), "data.title"),
        ("servicenow", {}, "number"),
        ("servicenow", {"number": "INC0010023"}, "short_description"),
    ],
)
def test_a_payload_that_can_not_be_mapped_says_what_is_missing(tool: str, payload: Json, field: str) -> None:
    with pytest.raises(Malformed) as raised:
        _read(tool, payload, GITHUB_HEADERS)
    assert [(detail.param, detail.message) for detail in raised.value.details] == [(field, f"{field} is required")]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("tool", "payload"), [each[:2] for each in WHOLE.values()], ids=list(WHOLE))
@given(data=st.data())
def test_whatever_a_field_holds_the_answer_is_a_record_a_refusal_or_nothing(
    tool: str, payload: Json, data: st.DataObject
) -> None:
    paths = _paths(payload)
    changed = _changed(
        payload, data.draw(st.sampled_from(paths)), data.draw(_json.filter(lambda each: each is not None))
    )
    try:
        read = _read(tool, changed, GITHUB_HEADERS)
        if not isinstance(read, Ignored):
            complete_sourced(json.dumps(read).encode(), SOURCES[tool])
    except Malformed:
        return


def _paths(payload: Json, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, value in payload.items():
        found.append(prefix + name)
        if isinstance(value, dict):
            found += _paths(value, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        *((each, "p1") for each in ("P1", "1", "critical", "Blocker", "Highest", "urgent", "SEV1", "sev-1", "S1")),
        *((each, "p2") for each in ("p2", "2 - High", "high", "Major", "severity:2", "priority/high")),
        *((each, "p3") for each in ("p3", "medium", "Normal", "3 - Moderate")),
        *((each, "p4") for each in ("p4", "p5", "low", "Lowest", "Trivial", "5 - Planning", "info")),
        *((each, None) for each in (None, "", "none", "p0", "p6", "12", "bug", "highly unlikely")),
    ],
)
def test_words_for_how_bad_it_is(word: str | None, severity: str | None) -> None:
    assert severity_of_word(word) == severity


def test_labels_say_a_severity_only_if_they_mean_one() -> None:
    assert severity_of_labels(["bug", "high", "2", "info"]) is None
    assert severity_of_labels(["P3", "severity: low"]) == "p3"


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        (f"{CREATED}Z", f"{CREATED}Z"),
        (f"{CREATED}+0000", f"{CREATED}+00:00"),
        (f"{CREATED}.123-0530", f"{CREATED}.123-05:30"),
        ("2026-05-06 10:15:00", f"{CREATED}Z"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_in_the_forms_of_the_tools(text: str, instant: str) -> None:
    assert instant_of(text) == instant


@pytest.mark.parametrize("number", [1778062500, 1778062500000, 1778062500000000, 1778062500000000000])
def test_times_that_are_counted(number: int) -> None:
    assert Payload({"at": number}).instant("at") == f"{CREATED}.000Z"
    assert Payload({"at": 10**40}).instant("at") == str(10**40)
