"""Issues that are created and updated are announced with their ids, however they came in."""

import json
from dataclasses import replace

from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.connected import ANNOUNCED, CONNECTORS, TOOLS
from ingest_platform.feeds.issues.identity import identify
from ingest_platform.feeds.issues.sources import SOURCES
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import webhooks
from ingest_platform_tests.making import accept, body_of, make_workspace, new_job


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
