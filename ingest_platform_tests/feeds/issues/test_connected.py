"""Issues that are created and updated are announced with their ids; and the document of webhooks is true."""

import json
import re
from dataclasses import replace
from pathlib import Path

from ingest_platform.declaring import apply
from ingest_platform.feeds import discover
from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.connected import ANNOUNCED, CONNECTORS, TOOLS
from ingest_platform.feeds.issues.connectors import READERS
from ingest_platform.feeds.issues.connectors.payload import Ignored, Payload
from ingest_platform.feeds.issues.door import complete_sourced
from ingest_platform.feeds.issues.identity import identify
from ingest_platform.feeds.issues.sources import SOURCES
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.signature import sign
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import webhooks
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, body_of, make_workspace, new_job

DOCUMENT = Path(__file__).parents[3] / "docs" / "webhooks.md"


def _blocks(language: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _send(platform: Platform, *records: dict[str, object]) -> None:
    accept(platform.ledger, replace(new_job(body_of(records, envelope_key="records")), feed="issues"))
    work_until_idle(platform, FEED, day=None, run_id="run-1", linger_seconds=0.0)


def _record(external_id: str, **more: object) -> dict[str, object]:
    return {"external_id": external_id, "source": "jira", "title": "It fails", **more}


def test_connectors_and_events_are_what_the_contract_says() -> None:
    assert set(TOOLS) <= set(SOURCES)
    assert ANNOUNCED.types == ("issue.created", "issue.updated", "pattern.detected")
    assert CONNECTORS in FEED.kinds


def test_created_and_updated_issues_are_announced_and_what_says_nothing_new_is_not(platform: Platform) -> None:
    make_workspace(platform.ledger)
    with platform.ledger.transaction() as tx:
        webhooks.create(
            tx,
            workspace="acme",
            url="https://x.example/",
            events=["issue.created", "issue.updated"],
            description="",
            secret="s" * 16,
        )
    _send(platform, _record("A-1"), _record("A-2"), _record("A-1", title="It fails again"), {"title": "no id"})
    _send(platform, _record("A-2"), _record("A-3"))
    with platform.ledger.connection() as tx:
        bodies = tx.execute(
            "SELECT convert_from(body, 'UTF8') FROM webhook_events AS event"
            " JOIN webhook_deliveries ON event_id = event.id ORDER BY seq"
        ).fetchall()
    first, second, third = (identify("acme", "jira", f"A-{number}")[0] for number in (1, 2, 3))
    told = [(event["type"], event["data"]["issue_ids"]) for event in (json.loads(body) for (body,) in bodies)]
    assert told == [
        ("issue.created", [first, second]),
        ("issue.updated", [first]),
        ("issue.created", [third]),
    ]


# The document


def test_the_documented_connectors_can_be_applied(ledger: Ledger, tmp_path: Path) -> None:
    (declaration,) = _blocks("yaml")
    file = tmp_path / "connectors.yaml"
    file.write_text(declaration, encoding="utf-8")
    changes = apply(ledger, [file], feeds=discover(), read_variable={"JIRA_WEBHOOK_SECRET": "a-secret-of-jira"}.get)
    assert [change.secret is not None for change in changes] == [False, True, False]


def test_the_documented_check_of_a_signature_is_right() -> None:
    (code,) = _blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    is_ours = names["is_ours"]
    assert callable(is_ours)
    assert is_ours("secret", b"{}", sign("secret", b"{}"))
    assert not is_ours("secret", b"{} ", sign("secret", b"{}"))


def test_the_documented_bodies_of_tools_that_have_none_of_their_own_are_taken() -> None:
    *_, zendesk, servicenow = (json.loads(block) for block in _blocks("json"))
    filled = {"id": "35436", "created_at": "2026-05-06T10:15:00Z", "updated_at": "2026-05-06T10:20:00Z"}
    zendesk["ticket"] |= filled
    for tool, payload in (("zendesk", zendesk), ("servicenow", servicenow)):
        read = READERS[tool].read(Payload(payload), {})
        assert not isinstance(read, Ignored)
        whole = json.loads(complete_sourced(json.dumps(read).encode(), SOURCES[tool]).record)
        assert set(whole) >= {"title", "external_url", "source_created_at", "source_updated_at", "team"}


def test_every_tool_and_every_event_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in (*TOOLS, *ANNOUNCED.types, "job.finished", "job.failed"):
        assert f"`{name}`" in text, name
