"""What Dagster is told of patterns: the ones that a run touched, and issues that have none."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.issues import FEED, pattern_changes
from ingest_platform.feeds.issues.identity import identify
from ingest_platform.feeds.issues.pattern_look import ONE_PATTERN_EACH, look
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.making import accept, body_of, make_workspace, new_job
from ingest_platform_tests.pipeline.working import work

FULL = "Disk of node 17 is full"
LATE = "Mail is late for customers of the north"


def send(platform: Platform, *titles: str, workspace: str = "acme", begin: int = 1) -> str:
    """Send issues and work them off; the job."""
    make_workspace(platform.ledger, workspace)
    records = [
        {"source": "jira", "external_id": f"A-{number}", "title": title}
        for number, title in enumerate(titles, start=begin)
    ]
    body = body_of(records, envelope_key=FEED.envelope_key)
    sent = replace(new_job(body, workspace=workspace, feed=FEED.name), id=new_id(FEED.job_prefix))
    accept(platform.ledger, sent)
    work(platform, FEED)
    return sent.id


def tops(platform: Platform, job_ids: list[str] | None) -> list[tuple[object, object]]:
    rows = look(platform, job_ids).figures["top patterns"]
    assert isinstance(rows, list)
    return [(row["issues"], row["workspace"]) for row in rows]


def test_the_patterns_that_a_run_touched_are_told_the_commonest_first(platform: Platform) -> None:
    first = send(platform, FULL, LATE, FULL.replace("17", "18"))
    second = send(platform, FULL.replace("17", "19"), begin=4)
    found = look(platform, [first])
    assert found.figures["issues"] == 3
    assert found.figures["patterns"] == 2
    assert tops(platform, [first]) == [(2, "acme"), (1, "acme")]
    assert tops(platform, [second]) == [(1, "acme")]
    assert found.passed == {ONE_PATTERN_EACH: True}


def test_everything_is_looked_at_if_no_jobs_are_named(platform: Platform) -> None:
    send(platform, FULL, LATE)
    send(platform, FULL, FULL, workspace="globex")
    assert tops(platform, None) == [(2, "globex"), (1, "acme"), (1, "acme")]
    assert tops(platform, []) == []


def test_an_issue_that_was_put_into_a_pattern_counts_there(platform: Platform) -> None:
    send(platform, FULL, LATE)
    pattern_of = {str(row["pattern"]): str(row["id"]) for row in look(platform, None).figures["top patterns"]}  # type: ignore[attr-defined]
    (into,) = (pattern_id for name, pattern_id in pattern_of.items() if "mail" in name)
    pinned, _ = identify("acme", "jira", "A-1")
    with platform.ledger.transaction() as tx:
        pattern_changes.pin(tx, workspace="acme", pattern_id=into, issue_ids=[pinned], by="somebody")
    assert tops(platform, None) == [(2, "acme")]


def _forget(platform: Platform) -> None:
    with platform.ledger.transaction() as tx:
        tx.execute("DELETE FROM issue_fingerprints WHERE wording LIKE 'mail%'")


def _leave_in_a_merged_one(platform: Platform) -> None:
    with platform.ledger.transaction() as tx:
        tx.execute(
            "UPDATE patterns SET merged_into = (SELECT id FROM patterns WHERE name LIKE 'disk%')"
            " WHERE name LIKE 'mail%'"
        )


def _give_to_another_workspace(platform: Platform) -> None:
    make_workspace(platform.ledger, "globex")
    with platform.ledger.transaction() as tx:
        tx.execute("UPDATE patterns SET workspace = 'globex' WHERE name LIKE 'mail%'")


@pytest.mark.parametrize("spoil", [_forget, _leave_in_a_merged_one, _give_to_another_workspace])
def test_an_issue_without_a_pattern_of_its_own_is_found(platform: Platform, spoil: Callable[[Platform], None]) -> None:
    job_id = send(platform, FULL, LATE)
    spoil(platform)
    for asked in ([job_id], None):
        found = look(platform, asked)
        assert found.figures["issues without a pattern"] == 1
        assert found.passed == {ONE_PATTERN_EACH: False}
