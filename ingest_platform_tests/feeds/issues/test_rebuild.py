"""A rebuild gives the patterns that the increments gave, with their ids, and leaves what people decided."""

import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from ingest_platform.feeds.issues import pattern_changes
from ingest_platform.feeds.issues.fingerprint import fingerprint_of, fingerprints
from ingest_platform.feeds.issues.grouping import Method
from ingest_platform.feeds.issues.patterns import METHOD, Book
from ingest_platform.feeds.issues.rebuild import agreement, rebuild, rebuild_all
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.feeds.issues.test_grouping import USERS, made_up, named
from ingest_platform_tests.feeds.issues.test_patterns import membership
from ingest_platform_tests.making import make_workspace


@pytest.fixture(autouse=True)
def _acme(ledger: Ledger) -> None:
    make_workspace(ledger)


def titles() -> list[str]:
    """Write titles as people do: the same, with other values, other words of grammar, other order."""
    chance = random.Random(5)
    things = ["checkout page", "invoice export", "password reset mail", "nightly backup", "search index", "login form"]
    faults = ["times out after {} s", "fails with error {}", "is empty for the customer {}", "was slow on {} hosts"]
    made: list[str] = []
    for _ in range(400):
        thing, fault = chance.choice(things), chance.choice(faults).format(chance.randint(1, 999))
        made.append(chance.choice(("{} {}", "The {} {}", "{}: {}", "our {} {} for us")).format(thing, fault))
    return made


def increments(ledger: Ledger, wordings: dict[str, str], *, together: int) -> None:
    listed = list(wordings.items())
    for start in range(0, len(listed), together):
        Book(METHOD).assign(ledger, "acme", dict(listed[start : start + together]))


def test_a_rebuild_agrees_with_the_increments_and_keeps_the_ids(ledger: Ledger) -> None:
    told = fingerprints(pl.Series(titles()), pl.Series([None] * 400, dtype=pl.String))
    increments(ledger, dict(told.unique(maintain_order=True).iter_rows()) | named(made_up(1)), together=7)
    before = membership(ledger)
    done = rebuild(ledger, "acme")
    assert done.agreement >= 0.95
    assert agreement(before, membership(ledger)) >= 0.95
    kept = {each for each in before if membership(ledger)[each] == before[each]}
    assert len(kept) >= 0.95 * len(before)
    assert rebuild(ledger, "acme").moved == 0


def labelled(shared: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for path in sorted((shared / "data" / "loghub").glob("*.csv")):
        lines = pl.read_csv(path, infer_schema=False)["Content"]
        told = fingerprints(lines, pl.Series([None] * len(lines), dtype=pl.String))
        yield path.name, dict(told.unique(maintain_order=True).iter_rows())


@pytest.mark.corpus
def test_a_rebuild_of_real_lines_agrees_with_the_increments(ledger: Ledger, shared: Path) -> None:
    wordings: dict[str, str] = {}
    for _, some in labelled(shared):
        wordings |= some
    increments(ledger, wordings, together=40)
    before = membership(ledger)
    assert rebuild(ledger, "acme").agreement >= 0.95
    assert agreement(before, membership(ledger)) >= 0.95


def test_other_settings_regroup_everything_with_the_ids_of_the_larger_part(ledger: Ledger) -> None:
    Book(METHOD).assign(ledger, "acme", named(USERS))
    (one,) = set(membership(ledger).values())
    rebuild(ledger, "acme", method=Method(variable_values_min=100))
    apart = membership(ledger)
    assert len(set(apart.values())) == len(USERS)
    assert one in apart.values()
    rebuild(ledger, "acme")
    assert set(membership(ledger).values()) == {one}


def test_what_people_decided_stands_after_a_rebuild(ledger: Ledger) -> None:
    others = ["invoice export is empty today", "backup was never started"]
    Book(METHOD).assign(ledger, "acme", named([*USERS, *others]))
    before = membership(ledger)
    with ledger.transaction() as tx:
        pattern_changes.merge(
            tx, workspace="acme", pattern_ids=[before[others[0]]], into=before[others[1]], by="somebody"
        )
        pattern_changes.split(
            tx,
            workspace="acme",
            pattern_id=before[USERS[0]],
            fingerprints=[fingerprint_of(USERS[0])],
            name="Ann's sessions",
            by="somebody",
        )
    decided = membership(ledger)
    assert rebuild(ledger, "acme").moved == 0
    assert membership(ledger) == decided
    # Also of processes that go on with the groups.
    Book(METHOD).assign(ledger, "acme", named(["session of zoe closed by the server"]))
    after = membership(ledger)
    assert after.pop("session of zoe closed by the server") == decided[USERS[1]]
    assert after == decided


def test_every_workspace_is_rebuilt_and_the_figures_are_told(platform: Platform) -> None:
    make_workspace(platform.ledger, "globex")
    for workspace in ("acme", "globex"):
        Book(METHOD).assign(platform.ledger, workspace, named(USERS))
    assert rebuild_all(platform) == {
        "workspaces": 2,
        "wordings": 10,
        "groups": 2,
        "moved": 0,
        "least_agreement": 1.0,
    }
