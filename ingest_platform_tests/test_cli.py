"""The commands as an operator calls them: exit codes, JSON for programs, words that say what to do next."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ingest_platform.cli import COMMANDS
from ingest_platform.cli.keys import all_scopes
from ingest_platform.feeds import discover
from ingest_platform.storage import keys
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.workspaces import Workspace, put


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """Read its output."""
        return json.loads(self.out)


Ingest = Callable[..., Said]


@pytest.fixture
def ingest(database_url: str, tmp_path: Path) -> Ingest:
    """Call commands on the test's own database."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    environment |= {"INGEST_DATABASE_URL": database_url, "INGEST_DATA_DIR": str(tmp_path / "data")}

    def call(*arguments: str, **more: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "ingest_platform", *arguments],
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Said(code=done.returncode, out=done.stdout, err=done.stderr)

    return call


@pytest.fixture
def acme(ledger: Ledger) -> str:
    """Make a workspace."""
    with ledger.transaction() as tx:
        put(tx, Workspace(name="acme", projects=("local",)))
    return "acme"


def test_help_lists_every_command_and_how_to_begin(ingest: Ingest) -> None:
    said = ingest("--help")
    assert said.code == 0
    assert all(re.search(rf"^  {name} ", said.out, re.MULTILINE) for name in COMMANDS)
    assert "ingest up" in said.out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("nonsense",), "there are up, api"),
        (("keys", "create"), "--workspace"),
        (("keys", "create", "-w", "acme", "--scope", "everything"), "machine-data:write"),
        (("keys", "create", "-w", "acme", "--expires", "soon"), "90d"),
        (("load", "/nowhere.csv", "-w", "acme", "-f", "machine-data"), "does not exist"),
        (("jobs", "list", "--family", "weather"), "machine-data"),
        (("up", "--api-port", "70000"), "65535"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what_is_right(ingest: Ingest, arguments: tuple[str, ...], hint: str) -> None:
    said = ingest(*arguments)
    assert said.code == 2
    assert hint in said.err
    assert "Traceback" not in said.err


def test_a_key_is_created_with_exactly_the_documented_answer(ingest: Ingest, acme: str, ledger: Ledger) -> None:
    said = ingest(
        *("keys", "create", "--workspace", acme, "--project", "local", "--scope", "machine-data:write"),
        *("--site", "plant-a", "--slot", "secondary", "--expires", "90d", "--json"),
    )
    assert said.code == 0
    assert list(said.json) == ["key_id", "token", "kind", "workspace", "scopes", "sites", "slot", "expires_at"]
    assert said.json["scopes"] == ["machine-data:write"]
    assert said.json["sites"] == ["plant-a"]
    assert "plant-a is not declared" in said.err
    parts = keys.split_token(str(said.json["token"]))
    assert parts is not None
    with ledger.connection() as tx:
        record = keys.find(tx, [parts[1]])[parts[1]]
    assert keys.matches(record, parts[2])
    assert record.slot == "secondary"


def test_a_key_may_have_every_scope_of_the_platform_and_of_a_feed(
    monkeypatch: pytest.MonkeyPatch, ingest: Ingest, acme: str
) -> None:
    wanted = [option for scope in all_scopes() for option in ("--scope", scope)]
    made = ingest("keys", "create", "-w", acme, *wanted, "--json")
    assert made.code == 0, made.err
    assert made.json["scopes"] == sorted({*keys.SCOPES, *(feed.write_scope for feed in discover())})
    feed = replace(discover()[0], write_scope="heartbeats:write")
    monkeypatch.setattr("ingest_platform.cli.keys.discover", lambda: (feed,))
    assert all_scopes() == (*keys.SCOPES, "heartbeats:write")


def test_keys_are_listed_without_tokens_rotated_and_revoked(ingest: Ingest, acme: str) -> None:
    first = ingest("keys", "create", "-w", acme, "--json").json
    second = ingest("keys", "rotate", str(first["key_id"]), "--json").json
    assert second["scopes"] == first["scopes"]
    assert ingest("keys", "revoke", str(second["token"])).code == 0
    listed = ingest("keys", "list", "-w", acme, "--json")
    assert {row["key_id"]: row["state"] for row in json.loads(listed.out)} == {
        first["key_id"]: "expired",
        second["key_id"]: "revoked",
    }
    assert str(second["token"]).rpartition("_")[2] not in listed.out
    unknown = ingest("keys", "revoke", "0123456789abcdef")
    assert unknown.code == 1
    assert "ingest keys list" in unknown.err


def test_a_failure_is_json_for_a_program_too(ingest: Ingest) -> None:
    said = ingest("keys", "create", "-w", "nowhere", "--json")
    assert said.code == 1
    assert "There is no workspace nowhere" in json.dumps(said.json["error"])


def test_apply_prints_what_changes_and_reports_mistakes(ingest: Ingest, tmp_path: Path) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text("workspaces: [{name: acme}]\nsites: [{workspace: acme, name: plant-a}]\n")
    said = ingest("apply", "-f", str(file))
    assert said.code == 0
    assert said.out.splitlines() == ["+ workspaces/acme: created", "+ sites/plant-a in acme: created", "2 created"]
    file.write_text("sites: [{workspace: acme, name: A}]\n")
    wrong = ingest("apply", "-f", str(file))
    assert wrong.code == 1
    assert f"{file}:1: sites[0].name" in wrong.err


STREAM = """
workspace: acme
streams:
  - id: payments
    name: payments
    routes:
      rules:
        - {name: errors, when: 'event.level == "ERROR"', to: [siem]}
destinations:
  siem: {type: splunk_hec, url: https://splunk.example:8088, token: '${SPLUNK_TOKEN}'}
"""
SAMPLES = """\
{"timestamp": "2026-05-06T10:15:30Z", "source": "api", "event": {"level": "ERROR"}}
{"timestamp": "2026-05-06T10:15:30Z", "source": "api", "event": {"level": "INFO"}}
{"source": "api"}
"""


def test_a_stream_is_tried_on_samples_without_a_database(ingest: Ingest, tmp_path: Path) -> None:
    declared, samples = tmp_path / "streams.yaml", tmp_path / "samples.ndjson"
    declared.write_text(STREAM)
    samples.write_text(SAMPLES)
    arguments = ("streams", "test", str(declared), "--events", str(samples))
    said = ingest(*arguments, INGEST_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert said.code == 0, said.err
    assert said.out.startswith("event 0: routed to siem (weight 1)\n  rule errors takes it\nevent 1: dropped\n")
    assert said.out.endswith("3 events: 1 dropped, 1 rejected, 1 routed, 1 to siem\n")
    told = json.loads(ingest(*arguments, "--json").out)
    assert [each["decision"] for each in told["events"]] == ["routed", "dropped", "rejected"]
    declared.write_text(STREAM.replace('"ERROR"', "").replace("streams:", "stream:"))
    assert ingest(*arguments).code == 1
    declared.write_text(STREAM.replace('"ERROR"', ""))
    said = ingest(*arguments)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"{declared}:8: streams[0].routes.rules[0].when: column ")


def test_the_key_of_masks_is_renewed_for_a_workspace_that_is_there(ingest: Ingest, tmp_path: Path) -> None:
    assert ingest("streams", "rotate-key", "-w", "acme").code == 1
    file = tmp_path / "acme.yaml"
    file.write_text("workspaces: [{name: acme}]\n")
    assert ingest("apply", "-f", str(file)).code == 0
    said = ingest("streams", "rotate-key", "-w", "acme", "--json")
    assert (said.code, json.loads(said.out)) == (0, {"workspace": "acme", "rotated": True})


@pytest.mark.parametrize(
    ("family", "name", "content"),
    [
        ("machine_data", "readings.csv", "timestamp,machine_data_point_config_id,value\n"),
        ("issues", "issues.csv", "external_id,source,title\nA-1,jira,It fails\n"),
    ],
)
def test_a_file_is_taken_and_its_job_is_listed_and_shown(
    ingest: Ingest, acme: str, tmp_path: Path, *, family: str, name: str, content: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    said = ingest("load", str(file), "-w", acme, "-f", family, "--no-wait", "--json")
    assert said.code == 0
    (job_id,) = said.json["jobs"]  # type: ignore[misc]
    listed = json.loads(ingest("jobs", "list", "-w", acme, "-f", family, "--json").out)
    told = [(job["id"], job["family"], job["state"], job["file"]["name"]) for job in listed]
    assert told == [(job_id, family, "accepted", name)]
    assert ingest("jobs", "show", str(job_id)).code == 0
    missing = ingest("jobs", "show", "job_nowhere")
    assert missing.code == 1
    assert "ingest jobs list" in missing.err


def test_status_tells_that_no_worker_lives(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    said = ingest("status", "--json")
    assert said.code == 1
    assert "No worker is alive" in json.dumps(said.json["problems"])


def test_a_database_that_is_away_is_told_with_the_next_step(ingest: Ingest) -> None:
    said = ingest("jobs", "list", INGEST_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/none")
    assert said.code == 1
    assert "ingest doctor" in said.err
    assert "hunter2" not in said.err + said.out


def test_the_doctor_finds_what_is_wrong(ingest: Ingest) -> None:
    said = ingest("doctor", "--json", INGEST_API_PROT="1")
    assert said.code == 1
    wrong = [one["name"] for one in said.json["findings"] if not one["well"]]  # type: ignore[union-attr,index,call-overload]
    assert wrong == ["settings"]


def test_settings_are_listed_with_their_meaning_and_no_secret(ingest: Ingest, database_url: str) -> None:
    said = ingest("settings", "--json")
    rows = {row["name"]: row for row in json.loads(said.out)}
    assert rows["api_port"]["default"] == "8000"
    assert rows["database_url"] == {**rows["database_url"], "value": "(set)", "source": "environment"}
    assert database_url not in said.out
