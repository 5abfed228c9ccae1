"""`ingest apply`: what is declared, what is changed, and every mistake told at once."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_platform.declaring import AppliedChange, Sign, WronglyDeclared, apply
from ingest_platform.domain.feed import DeclaredKind, Kept
from ingest_platform.feeds import discover
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.storage import catalog, secrets, workspaces
from ingest_platform.storage.ledger import Ledger, Transaction

PLATFORM = """
workspaces:
  - name: acme
    projects: [local]
    quotas: {datasets: 100000}          # records a month, -1 unlimited
    rate_limits: {issues: 1000}         # a minute
sites:
  - {workspace: acme, name: plant-a}
machine_data_point_configs:
  - {workspace: acme, id: mdp_01kqzcjrpyf27tge9dnvsqv8t2, site: plant-a, machine: kiln-1, measurement: temperature,
     unit: °C, factor: 1.0}
"""
Apply = Callable[..., list[AppliedChange]]
DOORS = DeclaredKind(
    section="doors", id_field="id", id_pattern="^[a-z]+$", fields={"colour": {"type": "string"}}, has_secret=True
)
WITH_SECRETS = replace(FEED, kinds=(DOORS,))
DOOR = """
workspaces: [{name: acme}, {name: globex}]
doors:
  - {workspace: acme, id: front, colour: red}
"""
FROM_ENVIRONMENT = """
workspaces: [{name: acme}, {name: globex}]
doors:
  - {workspace: acme, id: front, colour: red, secret_env: FRONT_SECRET}
"""


@pytest.fixture
def applied(ledger: Ledger, tmp_path: Path) -> Apply:
    """Apply texts as files."""

    def act(*texts: str, dry_run: bool = False, variables: Mapping[str, str] | None = None) -> list[AppliedChange]:
        paths = [tmp_path / f"{number}.yaml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(textwrap.dedent(text))
        feeds = [*discover(), WITH_SECRETS]
        return apply(ledger, paths, feeds=feeds, dry_run=dry_run, read_variable=(variables or {}).get)

    return act


def signs(changes: list[AppliedChange]) -> list[str]:
    return [f"{change.sign.value}{change.section}/{change.id}" for change in changes]


def mistakes(act: Apply, *texts: str) -> list[str]:
    with pytest.raises(WronglyDeclared) as raised:
        act(*texts)
    return [str(each).rpartition(".yaml:")[2] for each in raised.value.mistakes]


def test_the_documented_example_is_created_then_unchanged_then_changed(applied: Apply, ledger: Ledger) -> None:
    assert signs(applied(PLATFORM)) == [
        "+workspaces/acme",
        "+sites/plant-a",
        "+machine_data_point_configs/mdp_01kqzcjrpyf27tge9dnvsqv8t2",
    ]
    with ledger.connection() as tx:
        revision = catalog.revision(tx)
        (entry,) = catalog.current(tx, workspace="acme", kind="machine_data_point_configs")
        found = workspaces.find(tx, "acme")
    assert dict(entry.body) == {
        "site": "plant-a",
        "machine": "kiln-1",
        "measurement": "temperature",
        "unit": "°C",
        "factor": 1.0,
    }
    assert found is not None
    assert (list(found.projects), dict(found.quotas), dict(found.rate_limits)) == (
        ["local"],
        {"datasets": 100000},
        {"issues": 1000},
    )

    assert {change.sign for change in applied(PLATFORM)} == {Sign.UNCHANGED}
    changed = [change for change in applied(PLATFORM.replace("1.0", "2")) if change.sign is Sign.CHANGED]
    assert [str(change) for change in changed] == [
        "~ machine_data_point_configs/mdp_01kqzcjrpyf27tge9dnvsqv8t2 in acme: factor: 1.0 → 2.0 (version 1 → 2)"
    ]
    with ledger.connection() as tx:
        # An apply that changes nothing makes no revision; one that changes something makes one.
        assert catalog.revision(tx) == revision + 1


def test_a_dry_run_tells_the_same_and_changes_nothing(applied: Apply, ledger: Ledger) -> None:
    assert signs(applied(PLATFORM, dry_run=True)) == signs(applied(PLATFORM))
    applied(PLATFORM.replace("1.0", "2"), dry_run=True)
    with ledger.connection() as tx:
        (entry,) = catalog.current(tx, workspace="acme", kind="machine_data_point_configs")
    assert entry.version == 1


def test_the_workspace_at_the_top_is_the_default_of_its_file_only(applied: Apply) -> None:
    applied("workspaces: [{name: acme}, {name: other}]")
    first = "workspace: acme\nsites: [{name: plant-a}, {name: plant-b, workspace: other}]"
    changes = applied(first, "workspace: other\nsites: [{name: plant-c}]")
    assert [(change.workspace, change.id) for change in changes] == [
        ("acme", "plant-a"),
        ("other", "plant-b"),
        ("other", "plant-c"),
    ]


def test_what_is_retired_is_gone_and_may_come_back(applied: Apply, ledger: Ledger) -> None:
    applied(PLATFORM)
    retired = "workspace: acme\nmachine_data_point_configs: [{id: mdp_01kqzcjrpyf27tge9dnvsqv8t2, retired: true}]"
    assert signs(applied(retired)) == ["-machine_data_point_configs/mdp_01kqzcjrpyf27tge9dnvsqv8t2"]
    with ledger.connection() as tx:
        assert catalog.current(tx, workspace="acme", kind="machine_data_point_configs") == []
    assert signs(applied(retired)) == ["=machine_data_point_configs/mdp_01kqzcjrpyf27tge9dnvsqv8t2"]
    assert "+machine_data_point_configs/mdp_01kqzcjrpyf27tge9dnvsqv8t2" in signs(applied(PLATFORM))


def test_a_site_that_is_still_used_can_not_be_retired(applied: Apply) -> None:
    applied(PLATFORM)
    (said,) = mistakes(applied, "workspace: acme\nsites: [{name: plant-a, retired: true}]")
    assert "is still the site of 1 machine_data_point_configs" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must be a mapping"),
        ("workspaces: [", "is not YAML"),
        ("workspaces: \x9b", "is not YAML: unacceptable character"),
        ("nonsense: []", "1: nonsense: is unknown; there are workspace, workspaces, "),
        ("sites: {name: x}", "1: sites: must be a list"),
        ("sites: [x]", "1: sites[0]: must be a mapping"),
        ("sites: [{name: x}]", "1: sites[0].workspace: is missing"),
        ("sites: [{name: x, workspace: nowhere}]", "there is no workspace 'nowhere'"),
        ("workspace: acme\nsites: [{name: X y}]", "2: sites[0].name: 'X y' is wrong"),
        ("workspace: acme\nsites: [{name: x, colour: red}]", "colour: is unknown; there are workspace, name, retired"),
        ("workspace: acme\nsites: [{name: x}, {name: x}]", "x is declared twice"),
        ("workspace: acme\nsites: [{name: x, name: y}]", "2: sites[0].name: stands twice"),
        ("workspaces: [{name: a, quotas: {datasets: many}}]", "quotas.datasets: must be a whole number, -1 or more"),
        ("workspaces: [{name: a, rate_limits: {issues: 0}}]", "rate_limits.issues: must be a whole number, 1 or more"),
        ("workspaces: [{name: a, projects: [A B]}]", "projects: must be a list of names"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_is_allowed(applied: Apply, text: str, said: str) -> None:
    applied("workspaces: [{name: acme}]")
    with pytest.raises(WronglyDeclared) as raised:
        applied(text)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("factor: '1.0'", "must be a number, not the text '1.0'"),
        ("factor: true", "must be a number, not True"),
        ("factor: .nan", "must be a finite number"),
        ("machine: ''", "has 0 characters; 1 to 200 are allowed"),
        ("machine: 5", "must be a string, not 5"),
        ("site: nowhere", "there is no 'nowhere' among the sites of acme"),
    ],
)
def test_a_field_is_held_to_its_schema(applied: Apply, field: str, said: str) -> None:
    applied(PLATFORM)
    fields = {"site": "plant-a", "machine": "m", "measurement": "t"} | dict([field.split(": ")])
    entry = ", ".join(f"{name}: {value}" for name, value in fields.items())
    (told,) = mistakes(
        applied, f"workspace: acme\nmachine_data_point_configs: [{{id: mdp_01kqzcjrpyf27tge9dnvsqv8t3, {entry}}}]"
    )
    assert said in told


def test_all_mistakes_are_told_at_once_and_nothing_is_applied(applied: Apply, ledger: Ledger) -> None:
    told = mistakes(applied, "workspaces: [{name: fine}, {name: Wrong!}]", "nonsense: []\nsites: [{name: x}]")
    assert len(told) == 3
    with ledger.connection() as tx:
        assert workspaces.names(tx) == []


# Secrets


def _held(ledger: Ledger) -> secrets.Holder | None:
    with ledger.connection() as tx:
        return secrets.declared(tx, kind="doors", id="front")


def test_a_secret_is_made_and_shown_once_and_is_no_part_of_the_catalog(applied: Apply, ledger: Ledger) -> None:
    assert applied(DOOR, dry_run=True)[-1].secret is None
    assert _held(ledger) is None
    *_, change = applied(DOOR)
    assert change.secret is not None
    assert change.secret.startswith("whsec_")
    assert change.secret not in f"{change} {change!r}"
    held = _held(ledger)
    assert held is not None
    assert (held.workspace, held.body, held.secret) == ("acme", {"colour": "red"}, change.secret)
    assert change.secret not in repr(held)
    *_, again = applied(DOOR)
    assert (again.sign, again.secret) == (Sign.UNCHANGED, None)
    *_, changed = applied(DOOR.replace("red", "blue"))
    assert (changed.sign, changed.secret) == (Sign.CHANGED, None)
    assert _held(ledger).secret == change.secret  # type: ignore[union-attr]


def test_a_secret_of_the_environment_is_taken_and_replaced_but_never_shown(applied: Apply, ledger: Ledger) -> None:
    *_, change = applied(FROM_ENVIRONMENT, variables={"FRONT_SECRET": "first-secret-of-mine"})
    assert (change.sign, change.secret) == (Sign.CREATED, None)
    *_, again = applied(FROM_ENVIRONMENT, variables={"FRONT_SECRET": "first-secret-of-mine"})
    assert again.sign is Sign.UNCHANGED
    *_, replaced = applied(FROM_ENVIRONMENT, variables={"FRONT_SECRET": "second-secret-of-mine"})
    assert (replaced.sign, replaced.fields) == (Sign.CHANGED, {"secret": ("(set)", "(replaced)")})
    held = _held(ledger)
    assert held is not None
    assert held.secret == "second-secret-of-mine"
    assert held.body == {"colour": "red", "secret_env": "FRONT_SECRET"}
    # Without the variable's name the one that is there stays.
    *_, kept = applied(DOOR)
    assert (kept.sign, kept.secret) == (Sign.CHANGED, None)
    assert _held(ledger).secret == "second-secret-of-mine"  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [None, "short", "with blanks in the middle of it", "x" * 257])
def test_a_secret_that_is_missing_or_weak_is_a_mistake_that_does_not_tell_it(
    applied: Apply, ledger: Ledger, value: str | None
) -> None:
    with pytest.raises(WronglyDeclared) as raised:
        applied(FROM_ENVIRONMENT, variables={} if value is None else {"FRONT_SECRET": value})
    (mistake,) = raised.value.mistakes
    assert mistake.path == "doors[0].secret_env"
    assert "FRONT_SECRET" in mistake.message
    assert value is None or value not in mistake.message
    assert _held(ledger) is None


def test_an_id_with_a_secret_is_one_workspaces_alone_until_it_is_retired(applied: Apply, ledger: Ledger) -> None:
    applied(DOOR)
    theirs = DOOR.replace("workspace: acme", "workspace: globex")
    with pytest.raises(WronglyDeclared, match="is taken in this installation"):
        applied(theirs)
    held = _held(ledger)
    assert held is not None
    assert held.workspace == "acme"
    applied("doors: [{workspace: acme, id: front, retired: true}]")
    assert _held(ledger) is None
    *_, change = applied(theirs)
    assert change.secret not in {None, held.secret}
    assert _held(ledger).workspace == "globex"  # type: ignore[union-attr]


# Kinds that a feed keeps itself

SHELVES = """
workspaces: [{name: acme}]
shelves:
  - {workspace: acme, room: cellar, name: wine, boards: 4}
  - {workspace: acme, room: attic, name: wine}
"""


def keeping() -> DeclaredKind:
    """Declare a kind that is kept in a table of the feed's own."""

    def keep(tx: Transaction, declared: Sequence[catalog.Declared]) -> list[Kept]:
        tx.execute("CREATE TABLE IF NOT EXISTS shelves (name text PRIMARY KEY)")
        return [_keep(tx, each) for each in declared]

    def _keep(tx: Transaction, declared: catalog.Declared) -> Kept:
        name = f"{declared.body['room']}/{declared.id}"
        if declared.body.get("boards") == 0:
            return Kept(wrong="a shelf has boards")
        if declared.retired:
            tx.execute("DELETE FROM shelves WHERE name = %s", (name,))
            return Kept(retired=True)
        made = tx.execute("INSERT INTO shelves VALUES (%s) ON CONFLICT DO NOTHING", (name,)).rowcount
        return Kept(created=bool(made), assigned="7")

    return DeclaredKind(
        section="shelves",
        id_field="name",
        id_pattern="^[a-z]+$",
        fields={"room": {"type": "string"}, "boards": {"type": "integer"}},
        required=("room",),
        within="room",
        keep=keep,
    )


@pytest.fixture
def shelved(ledger: Ledger, tmp_path: Path) -> Apply:
    """Apply a text for a feed that keeps shelves in a table of its own."""
    feed = replace(FEED, kinds=(*FEED.kinds, keeping()))

    def act(text: str, *, dry_run: bool = False) -> list[AppliedChange]:
        (tmp_path / "shelves.yaml").write_text(text)
        return apply(ledger, [tmp_path / "shelves.yaml"], feeds=[feed], dry_run=dry_run)

    return act


def test_what_a_feed_keeps_itself_is_not_in_the_catalog_and_is_told_as_everything_else(
    shelved: Apply, ledger: Ledger
) -> None:
    text = SHELVES + "sites: [{workspace: acme, name: plant-a}]\n"
    assert [str(change) for change in shelved(text)] == [
        "+ workspaces/acme: created",
        "+ shelves/wine (7) in acme: created",
        "+ shelves/wine (7) in acme: created",
        "+ sites/plant-a in acme: created",
    ]
    assert {change.sign for change in shelved(text)} == {Sign.UNCHANGED}
    with ledger.connection() as tx:
        assert catalog.current(tx, workspace="acme", kind="shelves") == []
        assert len(catalog.current(tx, workspace="acme", kind="sites")) == 1
        assert tx.execute("SELECT count(*) FROM shelves").fetchone() == (2,)


def test_what_a_feed_keeps_itself_is_taken_back_by_a_dry_run_and_by_any_mistake(shelved: Apply, ledger: Ledger) -> None:
    assert [change.assigned for change in shelved(SHELVES, dry_run=True)] == [None, None, None]
    with pytest.raises(WronglyDeclared, match=r"shelves\[1\]: a shelf has boards"):
        shelved(SHELVES.replace("name: wine}", "name: wine, boards: 0}"))
    with ledger.connection() as tx:
        assert tx.execute("SELECT to_regclass('shelves')").fetchone() == (None,)


def test_what_is_unique_within_a_field_is_retired_by_both(shelved: Apply, ledger: Ledger) -> None:
    shelved(SHELVES)
    gone = "workspace: acme\nshelves: [{room: attic, name: wine, retired: true}]"
    assert signs(shelved(gone)) == ["-shelves/wine"]
    with ledger.connection() as tx:
        assert tx.execute("SELECT name FROM shelves").fetchall() == [("cellar/wine",)]
    with pytest.raises(WronglyDeclared, match=r"shelves\[0\]\.room: is missing"):
        shelved("workspace: acme\nshelves: [{name: wine, retired: true}]")
    twice = "workspace: acme\nshelves: [{room: attic, name: wine}, {room: attic, name: wine}]"
    with pytest.raises(WronglyDeclared, match="wine is declared twice"):
        shelved(twice)
