"""Groups of wordings: what belongs together, what does not, and that neither order nor batches matter to variables."""

import itertools
import random
from collections.abc import Mapping, Sequence

import pytest

from ingest_platform.feeds.issues.fingerprint import fingerprint_of
from ingest_platform.feeds.issues.grouping import Groups, Method


def make_groups(method: Method | None = None, *, first: int = 1) -> Groups:
    numbers = itertools.count(first)
    return Groups(method or Method(), new_group=lambda: f"group {next(numbers)}")


def named(wordings: Sequence[str]) -> dict[str, str]:
    return {fingerprint_of(wording): wording for wording in wordings}


def sets_of(groups: Groups, wordings: Sequence[str]) -> set[frozenset[str]]:
    found: dict[str, set[str]] = {}
    for wording in wordings:
        found.setdefault(groups.group_of(fingerprint_of(wording)), set()).add(wording)
    return {frozenset(each) for each in found.values()}


def grouped(*wordings: str) -> set[frozenset[str]]:
    groups = make_groups()
    groups.add(named(wordings))
    return sets_of(groups, wordings)


USERS = [f"session of {user} closed by the server" for user in ("ann", "bob", "cyd", "dan", "eve")]


@pytest.mark.parametrize(
    "wordings",
    [
        ("login fails on safari", "the login fails in safari"),
        ("login fails on safari", "safari: login fails!"),
        ("order <num> failed", "order <id> failed"),
        ("order <num>, <num> failed", "order <num> failed"),
        USERS,
    ],
)
def test_the_same_root_wording_is_one_group(wordings: Sequence[str]) -> None:
    assert grouped(*wordings) == {frozenset(wordings)}


@pytest.mark.parametrize(
    "wordings",
    [
        ("login fails on safari", "login fails on firefox"),
        ("password reset email sent", "password reset email not sent"),
        ("container started", "container starting"),
        ("order failed", "order <num> failed"),
        # One more value is another message, however much they share.
        (
            "authentication failure; logname= uid=<num> euid=<num> tty=ssh ruser= rhost=<host>",
            "authentication failure; logname= uid=<num> euid=<num> tty=ssh ruser= rhost=<host> user=root",
        ),
        # With too little left, words are no variables.
        ("sending diff", "sending snap", "sending trunc", "sending ack", "sending ping"),
    ],
)
def test_different_events_are_different_groups(wordings: Sequence[str]) -> None:
    assert grouped(*wordings) == {frozenset([wording]) for wording in wordings}


def test_groups_do_not_grow_from_neighbour_to_neighbour() -> None:
    words = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    chain = [" ".join(words[start : start + 14]) for start in range(12)]
    groups = make_groups(Method(similarity_min=0.8))
    groups.add(named(chain))
    assert groups.group_of(fingerprint_of(chain[0])) == groups.group_of(fingerprint_of(chain[1]))
    assert groups.group_of(fingerprint_of(chain[0])) != groups.group_of(fingerprint_of(chain[-1]))


def test_a_variable_is_found_when_enough_words_were_seen_and_the_oldest_group_stays() -> None:
    groups = make_groups()
    for user in USERS[:4]:
        groups.add(named([user]))
    assert len(sets_of(groups, USERS[:4])) == 4
    change = groups.add(named([USERS[4]]))
    assert change.merged == {"group 2": "group 1", "group 3": "group 1", "group 4": "group 1"}
    assert set(change.assignments) == {fingerprint_of(user) for user in USERS[1:]}
    assert change.names == {"group 1": "session of <*> closed by the server"}
    assert sets_of(groups, USERS) == {frozenset(USERS)}


def test_an_assignment_is_explained_by_the_words_that_matched() -> None:
    groups = make_groups()
    groups.add(named(["login fails on safari"]))
    change = groups.add(named(["the login fails in safari"]))
    (assignment,) = change.assignments.values()
    assert assignment.by == "similar"
    assert 0.9 <= assignment.confidence < 1
    assert {term for term, _ in assignment.terms} == {"login", "fails", "safari"}
    assert sum(share for _, share in assignment.terms) == pytest.approx(assignment.confidence, abs=0.001)


def made_up(seed: int) -> list[str]:
    """Make messages of a few events, with words in their variable places."""
    chance = random.Random(seed)
    names = ["".join(chance.choices("bcdfghklmnprst", k=6)) for _ in range(24)]
    events = ["cannot open channel {} to the peer", "user {} was refused by {}", "worker {} leaves the {} pool early"]
    pairs = ((event, chance.choice(names[:12]), chance.choice(names[12:])) for event in events * 40)
    return list(dict.fromkeys(event.format(one, other) for event, one, other in pairs))


@pytest.mark.parametrize("seed", range(5))
def test_order_and_batches_do_not_matter_to_variables(seed: int) -> None:
    wordings = made_up(seed)
    whole = make_groups()
    whole.add(named(wordings))
    shuffled = random.Random(seed).sample(wordings, k=len(wordings))
    stepwise = make_groups()
    for wording in shuffled:
        stepwise.add(named([wording]))
    assert sets_of(whole, wordings) == sets_of(stepwise, wordings)


@pytest.mark.parametrize("seed", range(5))
def test_changes_add_up_to_the_partition(seed: int) -> None:
    groups = make_groups()
    told: dict[str, str] = {}
    for wording in [*made_up(seed), "worker left early", "early left the worker"]:
        change = groups.add(named([wording]))
        told |= {fingerprint: assignment.group for fingerprint, assignment in change.assignments.items()}
    assert told == groups.partition()


def restored(groups: Groups, wordings: Mapping[str, str]) -> Groups:
    partition = groups.partition()
    again = make_groups(first=len(wordings) + 1)
    again.restore([(fingerprint, wording, partition[fingerprint]) for fingerprint, wording in wordings.items()])
    return again


def test_restored_groups_are_the_same_and_go_on_the_same() -> None:
    wordings = named([*made_up(1), "login fails on safari", "the login fails in safari"])
    groups = make_groups()
    groups.add(wordings)
    again = restored(groups, wordings)
    assert again.partition() == groups.partition()
    more = ["worker zzz leaves the qqq pool early", "in safari login fails", "a new event"]
    assert groups.add(named(more)).assignments.keys() == again.add(named(more)).assignments.keys()
    everything = [*wordings.values(), *more]
    assert sets_of(again, everything) == sets_of(groups, everything)


def test_other_settings_are_told_with_the_next_change() -> None:
    wordings = named(USERS)
    strict = make_groups(Method(variable_values_min=100))
    strict.add(wordings)
    again = restored(strict, wordings)
    change = again.add({})
    assert change.merged == {f"group {number}": "group 1" for number in (2, 3, 4, 5)}
    assert set(again.partition().values()) == {"group 1"}
