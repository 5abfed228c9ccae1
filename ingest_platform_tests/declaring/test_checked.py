"""Kinds that are more than flat fields: checked by their feed, with files beside them, variables and references."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_platform.declaring import AppliedChange, WronglyDeclared, apply, read_declared
from ingest_platform.declaring.changes import VALUE_CHARACTERS_MAX
from ingest_platform.declaring.judging import kinds_of
from ingest_platform.declaring.keeping import NONE, REPLACED, SET
from ingest_platform.declaring.references import references_of
from ingest_platform.domain.feed import DeclaredKind, Flaw, Reference
from ingest_platform.feeds import discover
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.storage import catalog, secrets
from ingest_platform.storage.ledger import Ledger

Apply = Callable[..., list[AppliedChange]]


def check_house(body: Mapping[str, object], *, given: Mapping[str, str]) -> Sequence[Flaw]:
    """Find rooms that are no mappings."""
    assert given == {}
    rooms = body.get("rooms")
    if not isinstance(rooms, list):
        return [Flaw(path="rooms", message="must be a list")]
    return [
        Flaw(path=f"rooms[{at}].door", message="is missing")
        for at, room in enumerate(rooms)
        if not isinstance(room, dict) or "door" not in room
    ]


def with_paint(body: Mapping[str, object], *, folder: Path) -> tuple[Mapping[str, object], Sequence[Flaw]]:
    """Read the paint from a file."""
    name = body.get("paint")
    if name is None:
        return body, ()
    if not (folder / str(name)).is_file():
        return body, [Flaw(path="paint", message="there is no such file")]
    return {**body, "paint": (folder / str(name)).read_text()}, ()


def doors_of(body: Mapping[str, object]) -> Sequence[Reference]:
    """Say which doors a house has."""
    rooms = body["rooms"]
    assert isinstance(rooms, list)
    return [Reference(path=f"rooms[{at}].door", section="gates", id=room["door"]) for at, room in enumerate(rooms)]


def check_gate(body: Mapping[str, object], *, given: Mapping[str, str]) -> Sequence[Flaw]:
    """A code has four digits, and a gate nothing else but texts for people."""
    code = given.get("code", body.get("code", "0000"))
    flaws = [] if re.fullmatch(r"\d{4}", str(code)) else [Flaw(path="code", message="must be four digits")]
    return [*flaws, *(Flaw(path=name, message="is unknown") for name in body if name not in {"code", "texts"})]


HOUSES = DeclaredKind(
    section="houses",
    id_field="id",
    id_pattern="^[a-z]+$",
    fields={},
    defaults={"style": "old"},
    check=check_house,
    prepare=with_paint,
    references=doors_of,
    fixed=("style",),
)
GATES = DeclaredKind(
    section="gates", id_field="name", id_pattern="^[a-z]+$", fields={}, check=check_gate, variables=True, by_id=True
)
FEEDS = (*discover(), replace(FEED, kinds=(HOUSES, GATES)))
GATES_TEXT = """
workspace: acme
workspaces: [{name: acme}]
gates:
  front: {code: '${CODE}', texts: {hello: 'Hi ${WHO}!', bye: Bye}}
  back: {}
"""
HOUSE = """
workspace: acme
houses:
  - id: villa
    rooms:
      - {door: front, size: 1}
      - door: back
        size: 2
"""
VARIABLES = {"CODE": "1234", "WHO": "Ann"}


@pytest.fixture
def applied(ledger: Ledger, tmp_path: Path) -> Apply:
    """Apply a text as a file."""

    def act(text: str, *, dry_run: bool = False, variables: Mapping[str, str] = VARIABLES) -> list[AppliedChange]:
        path = tmp_path / "declared.yaml"
        path.write_text(text)
        return apply(ledger, [path], feeds=FEEDS, dry_run=dry_run, read_variable=variables.get)

    return act


def mistakes(act: Apply, text: str, **options: object) -> list[str]:
    with pytest.raises(WronglyDeclared) as raised:
        act(text, **options)
    return [str(each).rpartition(".yaml:")[2] for each in raised.value.mistakes]


def test_a_section_may_be_a_mapping_of_ids(applied: Apply, ledger: Ledger) -> None:
    assert [str(change) for change in applied(GATES_TEXT)] == [
        "+ workspaces/acme: created",
        "+ gates/front in acme: created",
        "+ gates/back in acme: created",
    ]
    with ledger.transaction() as tx:
        bodies = {entry.id: entry.body for entry in catalog.current(tx, workspace="acme", kind="gates")}
    assert bodies == {"front": {"code": "${CODE}", "texts": {"hello": "Hi ${WHO}!", "bye": "Bye"}}, "back": {}}


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ("[]  # a list is fine\nhouses: {a: {rooms: []}}", "4: houses: must be a list of entries, each beginning with"),
        ("\n  front: 1", "4: gates.front: must be a mapping of fields"),
        ("\n  front:\n    code: '1'", "5: gates.front.code: must be four digits"),
        ("\n  front: {name: back}", "4: gates.front.name: is what stands before the colon, front"),
        ("\n  on: {}", "4: gates.True.name: True is wrong; it must match"),
        ("\n  Front: {}", "4: gates.Front.name: 'Front' is wrong; it must match"),
        ("1", "3: gates: must be a list of entries, each beginning with “- ”, or a mapping of each name to its fields"),
        ("\n  front: {code: 2026-01-01}", "gates.front.code: must be what JSON has, not datetime.date(2026, 1, 1)"),
        ("\n  front: {texts: {1: x}}", "gates.front.texts: 1 must be a text; put it in quotes"),
        ('\n  front: {code: "\\0"}', "gates.front.code: has a character that can't be stored"),
        ("\n  front: &a {texts: *a}", "gates.front.texts.texts.texts"),
        (
            "\n  front: {code: 0x" + "f" * 5000 + "}",
            "gates.front.code: must be a whole number of at most 9223372036854775807",
        ),
        ("\n  front: {code: " + "9" * 5000 + "}", "is not YAML: Exceeds the limit"),
        ("\n  front: {code: 2026-13-45}", "is not YAML: month must be in 1..12"),
        ("\n  front: {code: '${CODES}'}", "4: gates.front.code: the variable CODES is not set"),
        ("\n  front: {code: '${WHO}'}", "4: gates.front.code: must be four digits"),
        ("\n  front: {code: '${}'}", "4: gates.front.code: ${} names no variable"),
        ("\n  front: {texts: {a: {b: '${WHO}'}}}", "4: gates.front.texts.a.b: has a variable; one may stand in a text"),
        ("\n  front: {texts: ['${WHO}']}", "4: gates.front.texts[0]: has a variable; one may stand in a text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_line(applied: Apply, gates: str, said: str) -> None:
    told = mistakes(applied, f"workspace: acme\nworkspaces: [{{name: acme}}]\ngates: {gates}\n")
    assert any(said in each for each in told), told


def test_aliases_of_aliases_take_no_time(applied: Apply) -> None:
    text = "workspace: acme\nworkspaces: [{name: acme}]\ngates:\n  front:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        text += f"    a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert mistakes(applied, text) == ["4: gates.front: has more than 100,000 values"]


def test_null_is_as_if_it_were_left_out(applied: Apply, ledger: Ledger) -> None:
    applied(GATES_TEXT + HOUSE.replace("workspace: acme\n", "", 1).replace("id: villa", "id: villa\n    style: null"))
    with ledger.transaction() as tx:
        (house,) = catalog.current(tx, workspace="acme", kind="houses")
    assert house.body["style"] == "old"


def test_a_flaw_deep_in_a_body_has_the_line_where_it_stands(applied: Apply) -> None:
    applied(GATES_TEXT)
    assert mistakes(applied, HOUSE.replace("door: back", "colour: red")) == ["7: houses[0].rooms[1].door: is missing"]


def test_what_does_not_exist_is_told_with_what_does(applied: Apply) -> None:
    applied(GATES_TEXT)
    assert mistakes(applied, HOUSE.replace("door: back", "door: side")) == [
        (
            "7: houses[0].rooms[1].door: there is no 'side' among the gates of acme; there are back, front; "
            "declare it under `gates:`"
        )
    ]


def test_what_is_still_referred_to_can_not_be_retired(applied: Apply) -> None:
    applied(GATES_TEXT + HOUSE.replace("workspace: acme\n", "", 1))
    told = mistakes(applied, "workspace: acme\ngates: {back: {retired: true}, front: {}}")
    assert told == ["2: gates.back: is still the rooms[1].door of 1 houses (villa …); retire them as well"]
    both = "workspace: acme\ngates: {back: {retired: true}}\nhouses: [{id: villa, retired: true}]"
    assert [str(change) for change in applied(both)] == [
        "- gates/back in acme: retired",
        "- houses/villa in acme: retired",
    ]


def test_values_of_variables_are_kept_apart_and_told_nowhere(applied: Apply, ledger: Ledger) -> None:
    applied(GATES_TEXT)
    assert values(ledger) == {"code": "1234", "texts.hello": "Hi Ann!"}
    assert [change.fields for change in applied(GATES_TEXT) if change.fields] == []
    (changed,) = [change for change in applied(GATES_TEXT, variables={**VARIABLES, "CODE": "9876"}) if change.fields]
    assert changed.fields == {"secret code": (SET, REPLACED)}
    assert "9876" not in str(changed)
    assert values(ledger)["code"] == "9876"
    (changed,) = [each for each in applied(GATES_TEXT.replace("'${CODE}'", "'4444'")) if each.fields]
    assert changed.fields == {"code": ("${CODE}", "4444"), "secret code": (SET, NONE)}
    assert values(ledger) == {"texts.hello": "Hi Ann!"}
    applied("workspace: acme\ngates: {front: {retired: true}}")
    assert values(ledger) == {}


def test_a_dry_run_keeps_no_values(applied: Apply, ledger: Ledger) -> None:
    applied(GATES_TEXT)
    (changed,) = [
        each
        for each in applied(GATES_TEXT, dry_run=True, variables={"CODE": "1", "WHO": "Bob"} | {"CODE": "9876"})
        if each.fields
    ]
    assert set(changed.fields) == {"secret code", "secret texts.hello"}
    assert values(ledger) == {"code": "1234", "texts.hello": "Hi Ann!"}


def values(ledger: Ledger) -> dict[str, str]:
    with ledger.transaction() as tx:
        return secrets.values_of(tx, workspace="acme", kind="gates", id="front")


def test_a_fixed_field_never_changes_not_even_by_way_of_a_retirement(applied: Apply) -> None:
    applied(GATES_TEXT + HOUSE.replace("workspace: acme\n", "", 1))
    told = ["4: houses[0].style: is 'old' and never changes; declare another one under another id"]
    new = HOUSE.replace("id: villa", "id: villa\n    style: new")
    assert [each.replace("5: ", "4: ") for each in mistakes(applied, new)] == told
    applied("workspace: acme\nhouses: [{id: villa, retired: true}]")
    assert [each.replace("5: ", "4: ") for each in mistakes(applied, new)] == told
    assert [str(change) for change in applied(HOUSE)] == ["+ houses/villa in acme: created"]


def test_what_stands_in_files_beside_is_read_from_there(applied: Apply, ledger: Ledger, tmp_path: Path) -> None:
    painted = HOUSE.replace("id: villa", "id: villa\n    paint: paint.txt")
    assert mistakes(applied, GATES_TEXT + painted.replace("workspace: acme\n", "", 1))[0].endswith("is no such file")
    (tmp_path / "paint.txt").write_text("blue")
    applied(GATES_TEXT + painted.replace("workspace: acme\n", "", 1))
    with ledger.transaction() as tx:
        (house,) = catalog.current(tx, workspace="acme", kind="houses")
    assert house.body["paint"] == "blue"


def test_a_change_is_told_where_it_is_and_no_longer_than_a_line(applied: Apply, tmp_path: Path) -> None:
    applied(GATES_TEXT + HOUSE.replace("workspace: acme\n", "", 1))
    (changed,) = applied(HOUSE.replace("size: 2", "size: 3"))
    assert str(changed) == "~ houses/villa in acme: rooms[1].size: 2 → 3 (version 1 → 2)"
    (tmp_path / "paint.txt").write_text("blue" * 1000)
    (changed,) = applied(HOUSE.replace("id: villa", "id: villa\n    paint: paint.txt").replace("size: 2", "size: 3"))
    assert len(str(changed)) < 2 * VALUE_CHARACTERS_MAX


def test_a_declaration_is_read_without_a_database_and_without_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "declared.yaml"
    path.write_text(GATES_TEXT + HOUSE.replace("workspace: acme\n", "", 1))
    assert [one.id for one in read_declared([path], feeds=FEEDS)] == ["front", "back", "villa"]
    path.write_text(GATES_TEXT.replace("${CODE}", "12"))
    with pytest.raises(WronglyDeclared, match=r"declared\.yaml:5: gates\.front\.code: must be four digits"):
        read_declared([path], feeds=FEEDS)


def test_references_of_flat_fields_and_of_bodies_are_one_list() -> None:
    kind = replace(kinds_of(FEEDS)["houses"], refers={"style": "gates"})
    assert [each.path for each in references_of(kind, {"style": "x", "rooms": [{"door": "front"}]})] == [
        "style",
        "rooms[0].door",
    ]
