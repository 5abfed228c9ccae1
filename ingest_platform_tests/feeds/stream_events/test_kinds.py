"""Streams and destinations are declared by `ingest apply`."""

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

import pytest

from ingest_platform.declaring import AppliedChange, WronglyDeclared, apply, read_declared
from ingest_platform.feeds import discover, stream_events
from ingest_platform.storage import catalog, secrets, workspaces
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.workspaces import Workspace

Apply = Callable[..., list[AppliedChange]]
VARIABLES = {"SPLUNK_TOKEN": "5e1f-secret"}
STREAMS = """
workspace: acme
workspaces: [{name: acme}]
streams:
  - id: a0c3b4de-1923-4ff1-8dba-f92ad912d20f
    name: payments
    enrich:
      - lookup: {table: teams.csv, key: source, add: {metadata.team_owner: owner}}
    routes:
      rules:
        - name: errors
          when: 'event.level == "ERROR"'
          to: [archive, siem]
      otherwise: [archive]
destinations:
  archive: {type: files, path: exports/, format: parquet}
  siem:
    type: splunk_hec
    url: https://splunk.example:8088
    token: ${SPLUNK_TOKEN}
"""


@pytest.fixture
def applied(ledger: Ledger, tmp_path: Path) -> Apply:
    """Apply a text as a file, with a table beside it."""
    (tmp_path / "teams.csv").write_text("source,owner\napi,ann\n")

    def act(text: str, *, variables: Mapping[str, str] = VARIABLES) -> list[AppliedChange]:
        path = tmp_path / "streams.yaml"
        path.write_text(text)
        return apply(ledger, [path], feeds=discover(), read_variable=variables.get)

    return act


def mistakes(act: Apply, text: str, **options: object) -> list[str]:
    with pytest.raises(WronglyDeclared) as raised:
        act(text, **options)
    return [str(each).rpartition(".yaml:")[2] for each in raised.value.mistakes]


def test_a_stream_and_its_destinations_are_declared_in_one_file(applied: Apply, ledger: Ledger) -> None:
    assert [str(change) for change in applied(STREAMS)] == [
        "+ workspaces/acme: created",
        "+ streams/a0c3b4de-1923-4ff1-8dba-f92ad912d20f in acme: created",
        "+ destinations/archive in acme: created",
        "+ destinations/siem in acme: created",
    ]
    assert all(change.sign.name == "UNCHANGED" for change in applied(STREAMS))
    with ledger.transaction() as tx:
        (stream,) = catalog.current(tx, workspace="acme", kind="streams")
        archive, siem = catalog.current(tx, workspace="acme", kind="destinations")
        values = secrets.values_of(tx, workspace="acme", kind="destinations", id="siem")
    assert stream.body["envelope"] == "strict"
    assert stream.body["enrich"][0]["lookup"]["table"] == {
        "file": "teams.csv",
        "columns": ["source", "owner"],
        "rows": [["api", "ann"]],
    }
    assert archive.body == {"type": "files", "path": "exports/", "format": "parquet"}
    assert siem.body["token"] == "${SPLUNK_TOKEN}"
    assert values == {"token": "5e1f-secret"}


def test_a_changed_table_makes_a_new_version(applied: Apply, tmp_path: Path) -> None:
    applied(STREAMS)
    (tmp_path / "teams.csv").write_text("source,owner\napi,bob\n")
    (changed,) = [change for change in applied(STREAMS) if change.fields]
    assert str(changed).endswith("enrich[0].lookup.table.rows[0][1]: 'ann' → 'bob' (version 1 → 2)")


def test_one_name_is_of_a_destination_in_each_workspace(applied: Apply, ledger: Ledger) -> None:
    applied(STREAMS)
    applied(STREAMS.replace("acme", "globex"), variables={"SPLUNK_TOKEN": "another"})
    with ledger.transaction() as tx:
        values = [
            secrets.values_of(tx, workspace=name, kind="destinations", id="siem")["token"]
            for name in ("acme", "globex")
        ]
    assert values == ["5e1f-secret", "another"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "when: 'event.level == \"ERROR\"'",
            "when: 'event.level ='",
            "12: streams[0].routes.rules[0].when: column 13:",
        ),
        (
            "[archive, siem]",
            "[archive, siam]",
            "13: streams[0].routes.rules[0].to[1]: there is no 'siam' among the dest",
        ),
        ("teams.csv", "team.csv", "8: streams[0].enrich[0].lookup.table: there is no file 'team.csv' beside this one"),
        ("- id: a0c3b4de", "- id: A0C3B4DE", "5: streams[0].id: 'A0C3B4DE-1923"),
        ("type: files", "type: file", "16: destinations.archive.type: must be one of"),
        ("format: parquet", "form: parquet", "16: destinations.archive.form: is no field of this type; there are"),
        ("${SPLUNK_TOKEN}", "plain", "20: destinations.siem.token: is a secret; give it as ${VARIABLE}"),
        ("${SPLUNK_TOKEN}", "${TOKEN}", "20: destinations.siem.token: the variable TOKEN is not set"),
        ("    token: ${SPLUNK_TOKEN}\n", "", "17: destinations.siem.token: is missing"),
        ("siem:\n", "SIEM:\n", "17: destinations.SIEM.name: 'SIEM' is wrong"),
    ],
)
def test_a_mistake_is_told_with_its_line(applied: Apply, old: str, new: str, said: str) -> None:
    told = mistakes(applied, STREAMS.replace(old, new))
    assert any(each.startswith(said) for each in told), told
    assert "5e1f-secret" not in str(told)


def test_mistakes_of_all_parts_are_told_at_once(applied: Apply) -> None:
    text = STREAMS.replace("type: files", "type: file").replace("'event.level == \"ERROR\"'", "'=='")
    text = text.replace("teams.csv", "team.csv").replace("name: payments", "nam: payments")
    assert [each.split(":")[1].strip() for each in mistakes(applied, text)] == [
        "streams[0].name",
        "streams[0].nam",
        "streams[0].enrich[0].lookup.table",
        "streams[0].routes.rules[0].when",
        "destinations.archive.type",
    ]


def test_a_destination_that_is_used_can_not_be_retired(applied: Apply) -> None:
    applied(STREAMS)
    (told,) = mistakes(applied, "workspace: acme\ndestinations: {siem: {retired: true}}")
    assert told.startswith("2: destinations.siem: is still the routes.rules[0].to[1] of 1 streams (a0c3b4de-")


def test_the_envelope_of_a_stream_never_changes(applied: Apply) -> None:
    applied(STREAMS)
    told = mistakes(applied, STREAMS.replace("name: payments", "name: payments\n    envelope: auto"))
    assert told == ["7: streams[0].envelope: is 'strict' and never changes; declare another one under another id"]


def test_a_declaration_can_be_read_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "teams.csv").write_text("source,owner\napi,ann\n")
    path = tmp_path / "streams.yaml"
    path.write_text(STREAMS)
    assert [one.id for one in read_declared([path], feeds=discover())][1:] == ["archive", "siem"]


def test_the_first_start_declares_a_stream_with_files_as_destinations(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        workspaces.put(tx, Workspace(name="demo", projects=("local",)))
    with resources.as_file(resources.files(stream_events) / "demo.yaml") as path:
        changes = apply(ledger, [path], feeds=discover())
    assert [(change.section, change.workspace) for change in changes] == [
        ("streams", "demo"),
        ("destinations", "demo"),
        ("destinations", "demo"),
    ]
    with ledger.transaction() as tx:
        types = [entry.body["type"] for entry in catalog.current(tx, workspace="demo", kind="destinations")]
    assert types == ["files", "files"]


def test_the_documented_declaration_is_right(applied: Apply) -> None:
    document = Path(__file__).parents[3] / "docs" / "streams.md"
    text = document.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    changes = applied(f"{text}workspaces: [{{name: acme}}]\n")
    assert [change.sign.name for change in changes] == ["CREATED"] * 4
