"""Inbound webhooks over HTTP: who is let in, what becomes of a payload, and that nothing is told to strangers."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ingest_platform.declaring import apply
from ingest_platform.domain.feed import Feed
from ingest_platform.feeds import discover
from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.identity import identify
from ingest_platform.pipeline.signature import sign
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import catalog, jobs, workspaces
from ingest_platform_tests.feeds.issues.connectors import payloads
from ingest_platform_tests.feeds.issues.connectors.payloads import Json
from ingest_platform_tests.serving import Site, fresh_database, serving

INBOUND = "/v1/webhooks/inbound"
SECRET = "whsec_" + "0123456789abcdef" * 2
DECLARED = """
workspace: acme
connectors:
  - {id: con-github, type: github, secret_env: HOOK_SECRET}
  - {id: con-jira, type: jira, secret_env: HOOK_SECRET}
  - {id: con-retired, type: jira, secret_env: HOOK_SECRET}
  - {id: con-made, type: zendesk}
"""
GITHUB = {"X-GitHub-Event": "issues"}


def _apply(site: Site, folder: Path, text: str, feeds: tuple[Feed, ...]) -> list[str | None]:
    file = folder / "connectors.yaml"
    file.write_text(text, encoding="utf-8")
    changes = apply(site.platform.ledger, [file], feeds=feeds, read_variable={"HOOK_SECRET": SECRET}.get)
    return [change.secret for change in changes]


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API, with connectors of acme."""
    folder = tmp_path_factory.mktemp("site")
    with fresh_database(server_url, template) as url, serving(url, folder) as served:
        made = _apply(served, folder, DECLARED, discover())
        assert [secret is not None for secret in made] == [False, False, False, True]
        _apply(served, folder, "connectors: [{workspace: acme, id: con-retired, retired: true}]", discover())
        yield served


def _send(
    site: Site, connector: str, body: bytes, *, secret: str = SECRET, signed: bytes | None = None, **headers: str
) -> httpx.Response:
    given = {"X-Causeloop-Signature": sign(secret, body if signed is None else signed), **headers}
    known = {name: value.encode("latin-1") for name, value in given.items() if value}
    sent = {"Content-Type": b"application/json", **known}
    return site.anyone.post(f"{INBOUND}/{connector}", content=body, headers=sent)


def _json(payload: Json) -> bytes:
    return json.dumps(payload).encode()


def _job(site: Site, job_id: str) -> jobs.Job:
    work_until_idle(site.platform, FEED, day=None, run_id="run-1", linger_seconds=0.0)
    with site.platform.ledger.connection() as tx:
        job = jobs.get_job(tx, workspace="acme", job_id=job_id)
    assert job is not None
    return job


# Who is let in


@pytest.mark.parametrize(
    ("connector", "headers"),
    [
        ("con-github", {"X-Causeloop-Signature": ""}),
        ("con-github", {"X-Causeloop-Signature": "0" * 64}),
        ("con-github", {"X-Causeloop-Signature": "ä".encode().decode("latin-1")}),
        ("con-github", {"X-Causeloop-Signature": "", "X-Hub-Signature-256": "sha256=" + "0" * 64}),
        ("con-github", {"X-Causeloop-Signature": "", "X-Hub-Signature": "sha1=0"}),
        ("con-none", {}),
        ("con-retired", {}),
        ("con-made", {}),
        ("con-jira'--", {}),
    ],
)
@pytest.mark.parametrize("body", [_json(payloads.GITHUB), b"{", b"", b"\x00\xff", b"[" * 100_000])
def test_without_the_right_signature_all_get_the_same_answer_whatever_the_body(
    site: Site, connector: str, headers: dict[str, str], body: bytes
) -> None:
    answer = _send(site, connector, body, **headers)
    assert answer.status_code == 401
    error = answer.json()["error"]
    del error["trace_id"]
    assert error == {
        "code": "unauthorized",
        "message": "There is no such connector, or X-Causeloop-Signature is missing or wrong.",
    }


def test_one_changed_byte_is_enough(site: Site) -> None:
    body = _json(payloads.GITHUB)
    assert _send(site, "con-github", body + b" ", signed=body).status_code == 401


def test_an_ill_behaved_secret_is_no_secret(site: Site) -> None:
    """A declared connector that lost its secret opens nothing, not even to an empty one."""
    with site.platform.ledger.transaction() as tx:
        catalog.put(tx, [catalog.Declared(workspace="acme", kind="connectors", id="con-bare", body={"type": "github"})])
    body = _json(payloads.GITHUB)
    for secret in ("", SECRET, "None"):
        assert _send(site, "con-bare", body, secret=secret).status_code == 401


def test_either_header_lets_in(site: Site) -> None:
    body = _json(payloads.GITHUB)
    hub = {"X-Causeloop-Signature": "", "X-Hub-Signature-256": f"sha256={sign(SECRET, body)}"}
    assert _send(site, "con-github", body, **GITHUB).status_code == 202
    assert _send(site, "con-github", body, **GITHUB, **hub).status_code == 202


def test_a_connector_needs_no_key_and_a_key_is_no_signature(site: Site) -> None:
    body = _json(payloads.GITHUB)
    key = site.bearer("ingest:write", "webhooks:admin")
    assert _send(site, "con-github", body, **{"X-Causeloop-Signature": "", **key}).status_code == 401


# What becomes of it


@pytest.mark.parametrize(("connector", "payload"), [("con-github", payloads.GITHUB), ("con-jira", payloads.JIRA)])
def test_a_payload_is_taken_as_an_issue_of_its_source(site: Site, connector: str, payload: Json) -> None:
    answer = _send(site, connector, _json(payload), **GITHUB)
    assert answer.status_code == 202, answer.text
    source = connector.removeprefix("con-")
    external_id = {"github": "acme/checkout#17", "jira": "CHECKOUT-123"}[source]
    issue_id, _ = identify("acme", source, external_id)
    shown = answer.json()
    job_id = shown.pop("job_id")
    assert shown == {"accepted": 1, "rejected": [], "issue_id": issue_id}
    job = _job(site, job_id)
    assert (job.origin, job.workspace, job.accepted, job.rejected) == ("webhook", "acme", 1, 0)
    found = site.platform.warehouse.query(
        "SELECT title, connector_id, source FROM lake.main.issues WHERE issue_id = ?", [issue_id]
    ).to_pylist()
    (row,) = found
    assert (row["connector_id"], row["source"]) == (connector, source)


def test_the_same_delivery_twice_is_one_issue(site: Site) -> None:
    payload = json.loads(_json(payloads.GITHUB))
    payload["issue"]["number"] = 4711
    first, second = (_send(site, "con-github", _json(payload), **GITHUB).json() for _ in range(2))
    assert first["issue_id"] == second["issue_id"]
    outcomes = [_job(site, each["job_id"]) for each in (first, second)]
    assert [(job.created, job.unchanged) for job in outcomes] == [(1, 0), (0, 1)]


def test_what_is_about_no_issue_is_acknowledged_and_not_kept(site: Site) -> None:
    answer = _send(site, "con-github", b'{"zen": "x"}', **{"X-GitHub-Event": "ping"})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "rejected": [], "ignored": "ping"})


def test_what_can_not_be_mapped_is_refused_by_field(site: Site) -> None:
    payload = json.loads(_json(payloads.JIRA))
    payload["issue"]["key"] = "no key"
    del payload["issue"]["fields"]["summary"]
    answer = _send(site, "con-jira", _json(payload))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["details"]) == (
        "validation_error",
        {"issue.fields.summary": "issue.fields.summary is required"},
    )
    payload["issue"]["fields"]["summary"] = "s"
    wrong = _send(site, "con-jira", _json(payload)).json()["error"]
    assert set(wrong["details"]) == {"external_id"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"payload=%7B%7D", b'{"a": "\xff"}', b'{"a":' * 3_000])
def test_a_signed_body_that_is_no_object_is_refused(site: Site, body: bytes) -> None:
    answer = _send(site, "con-github", body, **GITHUB)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "validation_error"


def test_the_signature_is_of_the_bytes_as_sent_compressed_or_not(site: Site) -> None:
    body = gzip.compress(_json(payloads.GITHUB))
    assert _send(site, "con-github", body, **GITHUB, **{"Content-Encoding": "gzip"}).status_code == 202
    plain = _send(site, "con-github", body, signed=_json(payloads.GITHUB), **{"Content-Encoding": "gzip"})
    assert plain.status_code == 401
    bomb = gzip.compress(b" " * (6 * 1024 * 1024))
    assert _send(site, "con-github", bomb, **{"Content-Encoding": "gzip"}).status_code == 413


def test_a_body_over_the_limit_is_refused_unread(site: Site) -> None:
    answer = _send(site, "con-github", b" " * (5 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")


def test_a_workspaces_rate_holds_for_its_connectors_and_strangers_use_none_of_it(site: Site) -> None:
    with site.platform.ledger.transaction() as tx:
        tx.execute("DELETE FROM rate_buckets")
        workspaces.put(tx, workspaces.Workspace(name="acme", rate_limits={"issues": 2}))
    try:
        body = _json(payloads.GITHUB)
        for _ in range(4):
            assert _send(site, "con-github", body, secret="wrong" * 5).status_code == 401
        answers = [_send(site, "con-github", body, **GITHUB) for _ in range(3)]
        limited = _send(site, "con-github", body, **GITHUB)
    finally:
        with site.platform.ledger.transaction() as tx:
            tx.execute("DELETE FROM rate_buckets")
            workspaces.put(tx, workspaces.Workspace(name="acme"))
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert limited.headers["X-RateLimit-Limit"] == "2"
    assert int(limited.headers["Retry-After"]) >= 1
    assert "trace_id" not in limited.json()["error"]


def test_no_secret_is_told_anywhere(site: Site) -> None:
    with site.platform.ledger.connection() as tx:
        entries = catalog.current(tx, workspace="acme", kind="connectors")
        told = tx.execute("SELECT string_agg(catalog::text, '') FROM catalog").fetchone()
    assert {entry.id for entry in entries} >= {"con-github", "con-made"}
    assert told is not None
    assert SECRET not in str(told[0])
    assert "whsec_" not in str(told[0])
