"""Statuses of issues, against a real ledger: what stands, what stood before, and who said so."""

import pytest

from ingest_platform.feeds.issues import statuses
from ingest_platform.feeds.issues.statuses import Status
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import at_once, make_workspace

ISSUE = "iss_9mb2nwn2gzssebqfbgn13qndh1"


@pytest.fixture
def workspace(ledger: Ledger) -> str:
    """Make a workspace."""
    return make_workspace(ledger)


def _put(ledger: Ledger, workspace: str, *said: Status, by: str = "ann") -> None:
    for status in said:
        with ledger.transaction() as tx:
            statuses.put(tx, workspace=workspace, issue_id=ISSUE, status=status, by=by)


def _changes(ledger: Ledger, workspace: str) -> list[statuses.Change]:
    with ledger.connection() as tx:
        found = statuses.changes(tx, workspace=workspace, issue_id=ISSUE, before=None, limit=1_000)
        assert statuses.count_changes(tx, workspace=workspace, issue_id=ISSUE) == len(found)
    return found


def _standing(ledger: Ledger, workspace: str) -> statuses.Standing | None:
    with ledger.connection() as tx:
        return statuses.standings(tx, workspace=workspace, issue_ids=[ISSUE]).get(ISSUE)


def test_an_issue_of_which_nobody_said_anything_is_open_and_stays_so(ledger: Ledger, workspace: str) -> None:
    _put(ledger, workspace, Status.OPEN)
    assert _standing(ledger, workspace) is None
    assert _changes(ledger, workspace) == []


def test_every_change_is_kept_and_what_changes_nothing_is_none(ledger: Ledger, workspace: str) -> None:
    _put(ledger, workspace, Status.IN_PROGRESS, Status.IN_PROGRESS, Status.OPEN, Status.OPEN)
    _put(ledger, workspace, Status.CLOSED, by="bob")
    found = _changes(ledger, workspace)
    assert [(each.from_status, each.to_status, each.changed_by) for each in found] == [
        ("open", "closed", "bob"),
        ("in_progress", "open", "ann"),
        ("open", "in_progress", "ann"),
    ]
    standing = _standing(ledger, workspace)
    assert standing == statuses.Standing(status=Status.CLOSED, changed_at=found[0].changed_at)


def test_a_status_is_of_one_workspace(ledger: Ledger, workspace: str) -> None:
    other = make_workspace(ledger, "globex")
    _put(ledger, workspace, Status.CLOSED)
    assert _standing(ledger, other) is None
    assert _changes(ledger, other) == []
    with ledger.connection() as tx:
        assert statuses.ids_of(tx, workspace=other, statuses=tuple(Status)) == []
        assert statuses.ids_of(tx, workspace=workspace, statuses=[Status.CLOSED]) == [ISSUE]
        assert statuses.ids_of(tx, workspace=workspace, statuses=[Status.OPEN]) == []


def test_changes_made_at_once_are_a_chain(ledger: Ledger, workspace: str) -> None:
    choices = tuple(Status)
    at_once(lambda number: _put(ledger, workspace, choices[number % 4], choices[(number + 1) % 4]), times=6)
    chain = _changes(ledger, workspace)[::-1]
    assert chain[0].from_status == "open"
    assert [each.from_status for each in chain[1:]] == [each.to_status for each in chain[:-1]]
    assert all(each.from_status != each.to_status for each in chain)
    standing = _standing(ledger, workspace)
    assert standing is not None
    assert standing.status == chain[-1].to_status
