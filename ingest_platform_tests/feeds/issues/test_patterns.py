"""Patterns in the ledger: every fingerprint has one, whoever stores it and however often; and a rebuild agrees."""

import random
from collections.abc import Iterable

import polars as pl
import pytest

from ingest_platform.feeds.issues.deriving import derive
from ingest_platform.feeds.issues.fingerprint import fingerprint_of
from ingest_platform.feeds.issues.grouping import Method
from ingest_platform.feeds.issues.patterns import METHOD, Book, revision_of
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.feeds.issues.test_grouping import USERS, made_up, make_groups, named
from ingest_platform_tests.making import at_once, make_workspace


def membership(ledger: Ledger, workspace: str = "acme") -> dict[str, str]:
    """Read the pattern of every wording."""
    with ledger.connection() as tx:
        return dict(
            tx.execute(
                "SELECT wording, pattern_id FROM issue_fingerprints WHERE workspace = %s", (workspace,)
            ).fetchall()
        )


def sets_of(membership: dict[str, str]) -> set[frozenset[str]]:
    found: dict[str, set[str]] = {}
    for wording, pattern in membership.items():
        found.setdefault(pattern, set()).add(wording)
    return {frozenset(each) for each in found.values()}


def expected(wordings: Iterable[str]) -> set[frozenset[str]]:
    """Group the wordings in memory."""
    groups, listed = make_groups(), list(wordings)
    groups.add(named(listed))
    return sets_of({each: groups.group_of(fingerprint_of(each)) for each in listed})


@pytest.fixture(autouse=True)
def _acme(ledger: Ledger) -> None:
    make_workspace(ledger)


def test_a_frame_is_fingerprinted_and_each_fingerprint_belongs_to_a_pattern_of_its_workspace(ledger: Ledger) -> None:
    make_workspace(ledger, "globex")
    rows = pl.DataFrame(
        {
            "written_row": [1, 2, 3],
            "workspace": ["acme", "globex", "acme"],
            "title": ["Order 1 failed again", "Order 2 failed again", "Order 3 failed again"],
            "body": ["x", None, "y"],
        }
    )
    derived = derive(rows, ledger=ledger)
    assert derived.drop("fingerprint").equals(rows)
    assert derived["fingerprint"].to_list() == [fingerprint_of("order <num> failed again")] * 3
    acme, globex = membership(ledger), membership(ledger, "globex")
    assert acme.keys() == globex.keys() == {"order <num> failed again"}
    assert acme != globex


def test_known_wordings_cost_nothing_and_change_nothing(ledger: Ledger) -> None:
    book = Book(METHOD)
    book.assign(ledger, "acme", named(USERS))
    before = membership(ledger)
    with ledger.connection() as tx:
        revision = revision_of(tx, "acme")
    book.assign(ledger, "acme", named(USERS))
    Book(METHOD).assign(ledger, "acme", named(USERS))
    with ledger.connection() as tx:
        assert revision_of(tx, "acme") == revision
    assert membership(ledger) == before


def test_a_pattern_that_went_into_another_leads_there_and_the_oldest_stays(ledger: Ledger) -> None:
    book = Book(METHOD)
    for user in USERS[:4]:
        book.assign(ledger, "acme", named([user]))
    before = membership(ledger)
    assert len(set(before.values())) == 4
    book.assign(ledger, "acme", named([USERS[4]]))
    oldest = before[USERS[0]]
    assert set(membership(ledger).values()) == {oldest}
    with ledger.connection() as tx:
        gone = tx.execute("SELECT id, merged_into FROM patterns WHERE merged_into IS NOT NULL").fetchall()
        kinds = tx.execute("SELECT DISTINCT kind, changed_by FROM pattern_changes").fetchall()
        names = tx.execute("SELECT name FROM patterns WHERE id = %s", (oldest,)).fetchall()
    assert dict(gone) == dict.fromkeys(set(before.values()) - {oldest}, oldest)
    assert kinds == [("grouped", None)]
    assert names == [("session of <*> closed by the server",)]


@pytest.mark.parametrize("seed", range(2))
def test_two_processes_in_turn_find_what_one_would(ledger: Ledger, seed: int) -> None:
    wordings = made_up(seed)
    books = [Book(METHOD), Book(METHOD)]
    chance = random.Random(seed)
    left = list(wordings)
    while left:
        some, left = left[: (count := chance.randint(1, 6))], left[count:]
        chance.choice(books).assign(ledger, "acme", named(some))
    assert sets_of(membership(ledger)) == expected(wordings)


def test_several_processes_at_once_give_each_wording_one_pattern(ledger: Ledger) -> None:
    wordings = made_up(3)
    books = [Book(METHOD) for _ in range(3)]

    def work(number: int) -> None:
        mine = random.Random(number).sample(wordings, k=len(wordings))
        for start in range(0, len(mine), 20):
            books[number].assign(ledger, "acme", named(mine[start : start + 20]))

    at_once(work, times=3)
    assert sets_of(membership(ledger)) == expected(wordings)


def test_an_index_that_could_not_be_written_is_forgotten(ledger: Ledger) -> None:
    book = Book(METHOD)
    book.assign(ledger, "acme", named(USERS[:2]))
    with pytest.raises(Exception, match="NUL"):
        book.assign(ledger, "acme", {"0" * 16: "not to be\x00stored", **named(USERS[2:])})
    book.assign(ledger, "acme", named(USERS))
    assert sets_of(membership(ledger)) == {frozenset(USERS)}


def test_other_settings_are_carried_through_by_whoever_groups_next(ledger: Ledger) -> None:
    Book(Method(variable_values_min=100)).assign(ledger, "acme", named(USERS))
    assert len(set(membership(ledger).values())) == len(USERS)
    Book(METHOD).assign(ledger, "acme", named(["quite another event of the day"]))
    assert sets_of(membership(ledger)) == {frozenset(USERS), frozenset(["quite another event of the day"])}
