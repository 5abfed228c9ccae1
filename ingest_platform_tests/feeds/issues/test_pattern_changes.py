"""What people decide about patterns is done, kept, and undone."""

import pytest

from ingest_platform.domain.errors import Conflict, NotFound
from ingest_platform.feeds.issues import pattern_changes
from ingest_platform.feeds.issues.fingerprint import fingerprint_of
from ingest_platform.feeds.issues.patterns import METHOD, Book
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.feeds.issues.test_grouping import USERS, named
from ingest_platform_tests.feeds.issues.test_patterns import membership
from ingest_platform_tests.making import make_workspace

EVENTS = ["invoice export is empty today", "backup was never started", "search finds too little"]


@pytest.fixture(autouse=True)
def _found(ledger: Ledger) -> None:
    make_workspace(ledger)
    make_workspace(ledger, "globex")
    Book(METHOD).assign(ledger, "acme", named([*USERS, *EVENTS]))


def merge(ledger: Ledger, *gone: str, into: str, workspace: str = "acme") -> str:
    with ledger.transaction() as tx:
        return pattern_changes.merge(tx, workspace=workspace, pattern_ids=gone, into=into, by="me")


def split(ledger: Ledger, pattern_id: str, *wordings: str) -> str:
    wanted = [fingerprint_of(each) for each in wordings]
    with ledger.transaction() as tx:
        return pattern_changes.split(
            tx, workspace="acme", pattern_id=pattern_id, fingerprints=wanted, name=None, by="me"
        )


def pin(ledger: Ledger, pattern_id: str, *issues: str) -> str:
    with ledger.transaction() as tx:
        return pattern_changes.pin(tx, workspace="acme", pattern_id=pattern_id, issue_ids=issues, by="me")


def undo(ledger: Ledger, pattern_id: str, change: int | None = None) -> str:
    with ledger.transaction() as tx:
        return pattern_changes.undo(tx, workspace="acme", pattern_id=pattern_id, change=change, by="you")


def pins(ledger: Ledger) -> dict[str, str]:
    with ledger.connection() as tx:
        return dict(tx.execute("SELECT issue_id, pattern_id FROM issue_pins").fetchall())


def test_a_merge_is_undone(ledger: Ledger) -> None:
    before = membership(ledger)
    one, other, third = (before[event] for event in EVENTS)
    assert merge(ledger, one, third, into=other) == other
    assert {membership(ledger)[event] for event in EVENTS} == {other}
    assert undo(ledger, other) == other
    assert membership(ledger)[EVENTS[2]] == third
    assert undo(ledger, one) == other
    assert membership(ledger) == before
    with pytest.raises(NotFound):
        undo(ledger, other)


def test_a_split_is_undone_and_its_id_leads_back(ledger: Ledger) -> None:
    before = membership(ledger)
    old = before[USERS[0]]
    new = split(ledger, old, USERS[0], USERS[1])
    after = membership(ledger)
    assert {after[user] for user in USERS[:2]} == {new}
    assert {after[user] for user in USERS[2:]} == {old}
    assert undo(ledger, old) == old
    assert membership(ledger) == before
    with ledger.connection() as tx:
        assert pattern_changes.find(tx, workspace="acme", pattern_id=new) == old


def test_pins_are_moved_and_undone(ledger: Ledger) -> None:
    one, other = (membership(ledger)[event] for event in EVENTS[:2])
    pin(ledger, one, "iss_1", "iss_2")
    pin(ledger, other, "iss_2", "iss_3")
    assert pins(ledger) == {"iss_1": one, "iss_2": other, "iss_3": other}
    merge(ledger, one, into=other)
    assert set(pins(ledger).values()) == {other}
    undo(ledger, one)
    undo(ledger, other)
    assert pins(ledger) == {"iss_1": one, "iss_2": one}
    with ledger.transaction() as tx:
        pattern_changes.unpin(tx, workspace="acme", pattern_id=one, issue_ids=["iss_1"], by="me")
    assert pins(ledger) == {"iss_2": one}
    undo(ledger, one)
    assert pins(ledger) == {"iss_1": one, "iss_2": one}
    with ledger.transaction() as tx, pytest.raises(Conflict):
        pattern_changes.unpin(tx, workspace="acme", pattern_id=other, issue_ids=["iss_1"], by="me")


def test_what_was_changed_since_is_undone_first(ledger: Ledger) -> None:
    before = membership(ledger)
    old, other = before[USERS[0]], before[EVENTS[0]]
    new = split(ledger, old, *USERS[:2])
    merge(ledger, other, into=new)
    with ledger.connection() as tx:
        first = pattern_changes.changes_of(tx, workspace="acme", pattern_id=old)[-1]
    with pytest.raises(Conflict):
        undo(ledger, old, first.change)
    undo(ledger, new)
    undo(ledger, old, first.change)
    assert membership(ledger) == before
    with pytest.raises(Conflict):
        undo(ledger, old, first.change)


def test_changes_tell_who_did_what_and_who_undid_it(ledger: Ledger) -> None:
    one, other = (membership(ledger)[event] for event in EVENTS[:2])
    merge(ledger, one, into=other)
    undo(ledger, other)
    with ledger.connection() as tx:
        (change,) = pattern_changes.changes_of(tx, workspace="acme", pattern_id=one)
    assert (change.kind, change.pattern_id, change.other_id) == ("merged", other, one)
    assert (change.changed_by, change.undone_by) == ("me", "you")


def test_what_makes_no_sense_is_refused_and_changes_nothing(ledger: Ledger) -> None:
    before = membership(ledger)
    one, other = (before[event] for event in EVENTS[:2])
    with pytest.raises(Conflict):
        merge(ledger, one, into=one)
    with pytest.raises(NotFound):
        merge(ledger, one, "pat_unknown", into=other)
    with pytest.raises(NotFound):
        merge(ledger, one, into=other, workspace="globex")
    with pytest.raises(Conflict):
        split(ledger, one, EVENTS[0])
    with pytest.raises(Conflict):
        split(ledger, before[USERS[0]], EVENTS[0])
    assert membership(ledger) == before


def test_a_merged_pattern_takes_new_wordings_along(ledger: Ledger) -> None:
    users, other = membership(ledger)[USERS[0]], membership(ledger)[EVENTS[0]]
    merge(ledger, users, into=other)
    Book(METHOD).assign(ledger, "acme", named(["session of zoe closed by the server"]))
    assert membership(ledger)["session of zoe closed by the server"] == other
