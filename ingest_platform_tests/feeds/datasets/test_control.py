"""The control plane of datasets over HTTP, as a client with a PAT sees it, to the letter of the contract."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ingest_platform.cli.demo import read_credentials, seed
from ingest_platform.declaring import AppliedChange, WronglyDeclared, apply
from ingest_platform.domain.ids import new_ulid
from ingest_platform.feeds import discover
from ingest_platform.feeds.datasets import FEED, registry
from ingest_platform.settings import load_settings
from ingest_platform.storage import keys, workspaces
from ingest_platform.storage.keys import NewKey
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, at_once, new_job
from ingest_platform_tests.pipeline.working import job_of, work
from ingest_platform_tests.serving import Site, fresh_database, serving

FIELDS = {"country": "string", "plan": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
SCHEMA = {"version": 1, "fields": FIELDS}


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API to all tests of the module; each makes a project of its own."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as served:
        yield served


def make_project(site: Site, *, workspace: str = "acme") -> str:
    """Give a workspace one more project."""
    project = f"project-{new_ulid()}"
    with site.platform.ledger.transaction() as tx:
        found = workspaces.find(tx, workspace)
        assert found is not None
        workspaces.put(tx, replace(found, projects=[*found.projects, project]))
    return project


@pytest.fixture
def project(site: Site) -> str:
    """Make a project."""
    return make_project(site)


@pytest.fixture(scope="module")
def pat(site: Site) -> Iterator[httpx.Client]:
    """Make a client with a PAT of acme."""
    headers = site.bearer("datasets:admin", kind="pat")
    with httpx.Client(base_url=site.url, headers=headers, timeout=20) as client:
        yield client


def make(pat: httpx.Client, project: str, name: str = "Orders") -> int:
    """Make a dataset; its id."""
    answer = pat.post(f"/api/datasets/{project}", json={"name": name, "description": ""})
    assert answer.status_code == 201, answer.text
    return answer.json()["dataset"]["id"]


def _routes(project: str) -> list[tuple[str, str]]:
    one = f"/api/datasets/{project}/1"
    return [
        *(("GET", f"/api/datasets/{project}"), ("POST", f"/api/datasets/{project}")),
        *(("GET", one), ("PATCH", one), ("DELETE", one)),
        *(("GET", f"{one}/schema"), ("POST", f"{one}/schema")),
        *(("GET", f"/api/datasets/{project}/schema"), ("POST", f"/api/datasets/{project}/schema")),
    ]


def test_without_a_token_with_an_api_key_and_without_the_scope_nothing_is_told(site: Site, project: str) -> None:
    api_key = site.bearer(*keys.SCOPES)
    powerless = site.bearer("datasets:write", kind="pat")
    for method, path in _routes(project):
        sent = {"json": {"name": "x"}} if method in {"POST", "PATCH"} else {}
        told = [site.anyone.request(method, path, headers=each, **sent) for each in ({}, api_key, powerless)]
        assert [answer.status_code for answer in told] == [401, 401, 403], (method, path)
        assert all(list(answer.json()) == ["error"] for answer in told)


def test_a_dataset_is_made_as_the_contract_shows(pat: httpx.Client, project: str) -> None:
    answer = pat.post(f"/api/datasets/{project}", json={"name": "Orders", "description": "Paid orders"})
    assert answer.status_code == 201
    dataset = answer.json()["dataset"]
    assert answer.json() == {
        "dataset": {
            "id": dataset["id"],
            "name": "Orders",
            "slug": "orders",
            "description": "Paid orders",
            "schema": None,
            "status": "pending_schema",
        }
    }
    assert isinstance(dataset["id"], int)
    assert pat.get(f"/api/datasets/{project}/{dataset['id']}").json() == answer.json()


def test_a_schema_is_registered_as_the_contract_shows(pat: httpx.Client, project: str) -> None:
    dataset_id = make(pat, project)
    path = f"/api/datasets/{project}/{dataset_id}/schema"
    missing = pat.get(path)
    assert (missing.status_code, missing.json()) == (404, {"error": "Dataset schema not found"})
    answer = pat.post(path, json={"fields": FIELDS})
    assert answer.status_code == 201
    dataset = {"id": dataset_id, "name": "Orders", "slug": "orders", "description": "", "status": "active"}
    assert answer.json() == {"dataset": {**dataset, "schema": SCHEMA}, "schema": SCHEMA}
    # The order in which the fields were declared is kept.
    assert list(pat.get(path).json()["schema"]["fields"]) == list(FIELDS)
    assert pat.get(path).json() == answer.json()


def test_the_same_fields_again_are_200_and_others_409(pat: httpx.Client, project: str) -> None:
    path = f"/api/datasets/{project}/{make(pat, project)}/schema"
    first = pat.post(path, json=FIELDS)
    turned = dict(reversed(FIELDS.items()))
    again = [pat.post(path, json=body) for body in ({"fields": FIELDS}, FIELDS, turned, {"fields": turned}, SCHEMA)]
    assert [answer.status_code for answer in again] == [200] * 5
    assert all(answer.content == first.content for answer in again)
    for other in ({"country": "string"}, {**FIELDS, "more": "string"}, {**FIELDS, "amount": "string"}):
        refused = pat.post(path, json=other)
        assert refused.status_code == 409
        assert list(refused.json()) == ["error"]
    assert pat.get(path).content == first.content


def test_of_schemas_that_are_registered_at_once_one_is_and_the_others_are_told(
    pat: httpx.Client, site: Site, project: str
) -> None:
    path = f"/api/datasets/{project}/{make(pat, project)}/schema"
    headers = dict(pat.headers)

    def register(number: int) -> tuple[int, str]:
        field = f"field_{number % 2}"
        return httpx.post(site.url + path, json={field: "string"}, headers=headers, timeout=20).status_code, field

    told = at_once(register, times=6)
    (winner,) = [field for status, field in told if status == 201]
    assert sorted(status for status, field in told if field == winner) == [200, 200, 201]
    assert [status for status, field in told if field != winner] == [409] * 3
    assert pat.get(path).json()["schema"]["fields"] == {winner: "string"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Invalid JSON body"),
        (b"[]", "Schema must be a non-empty object of field names and types"),
        (b'{"id": "string"}', "Invalid field name: id is reserved"),
        (b'{"a": "text"}', "Invalid type of field a: must be one of string, number, boolean, timestamp"),
        (b'{"a": "string", "A": "number"}', "Invalid field name: A differs from a only in upper and lower case"),
    ],
)
def test_a_schema_that_is_wrong_registers_nothing(pat: httpx.Client, project: str, body: bytes, said: str) -> None:
    path = f"/api/datasets/{project}/{make(pat, project)}/schema"
    answer = pat.post(path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"error": said})
    assert pat.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Invalid JSON body"),
        (b"[1]", "Payload must be an object"),
        (b"{}", "Missing field: name"),
        (b'{"name": 1}', "Invalid string field: name"),
        (b'{"name": null}', "Invalid string field: name"),
        (b'{"name": "a\\u0000"}', "Invalid string field: name"),
        (b'{"name": ""}', f"Invalid name: {registry.NAME_RULE}"),
        (b'{"name": " a"}', f"Invalid name: {registry.NAME_RULE}"),
        (b'{"name": "a\\n"}', f"Invalid name: {registry.NAME_RULE}"),
        (b'{"name": "' + b"x" * 101 + b'"}', f"Invalid name: {registry.NAME_RULE}"),
        (b'{"name": "a", "description": 1}', "Invalid string field: description"),
        (b'{"name": "a", "slug": "b"}', "Extra field: slug"),
    ],
)
def test_a_dataset_that_is_wrongly_described_is_not_made(
    pat: httpx.Client, project: str, body: bytes, said: str
) -> None:
    answer = pat.post(f"/api/datasets/{project}", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"error": said})
    assert pat.get(f"/api/datasets/{project}").json()["data"] == []


def test_datasets_are_listed_by_pages_in_the_order_in_which_they_were_made(pat: httpx.Client, project: str) -> None:
    ids = [make(pat, project, f"set {number}") for number in range(5)]
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = pat.get(f"/api/datasets/{project}", params={"limit": "2", **cursor}).json()
        assert page["page"]["total"] == 5
        seen += [dataset["id"] for dataset in page["data"]]
        if not page["page"]["has_more"]:
            break
        cursor = {"cursor": page["page"]["next_cursor"]}
    assert seen == ids
    tampered = pat.get(f"/api/datasets/{project}", params={"cursor": "x"})
    assert tampered.status_code == 400
    assert list(tampered.json()) == ["error"]


def test_a_dataset_is_renamed_and_described_and_keeps_its_slug_and_schema(pat: httpx.Client, project: str) -> None:
    path = f"/api/datasets/{project}/{make(pat, project)}"
    pat.post(f"{path}/schema", json=FIELDS)
    renamed = pat.patch(path, json={"name": "Paid orders"})
    described = pat.patch(path, json={"description": "Since 2026"})
    assert [renamed.status_code, described.status_code] == [200, 200]
    shown = described.json()["dataset"]
    assert (shown["name"], shown["description"], shown["slug"]) == ("Paid orders", "Since 2026", "orders")
    assert shown["schema"] == SCHEMA
    assert pat.patch(path, json={}).json() == described.json()
    make(pat, project, "Taken")
    assert pat.patch(path, json={"name": "Taken"}).status_code == 409
    assert pat.post(f"/api/datasets/{project}", json={"name": "Taken"}).status_code == 409


def test_a_deleted_dataset_is_gone_and_its_name_may_be_used_again(pat: httpx.Client, project: str) -> None:
    dataset_id = make(pat, project)
    path = f"/api/datasets/{project}/{dataset_id}"
    pat.post(f"{path}/schema", json=FIELDS)
    answer = pat.delete(path)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    told = [pat.get(path), pat.patch(path, json={}), pat.delete(path), pat.post(f"{path}/schema", json=FIELDS)]
    assert [(each.status_code, each.json()) for each in told] == [(404, {"error": "Dataset not found"})] * 4
    again = make(pat, project)
    assert again > dataset_id
    assert pat.get(f"/api/datasets/{project}/{again}").json()["dataset"]["schema"] is None


def test_what_was_accepted_for_a_deleted_dataset_ends_as_a_failed_job(
    pat: httpx.Client, site: Site, project: str
) -> None:
    dataset_id = make(pat, project)
    path = f"/api/datasets/{project}/{dataset_id}"
    pat.post(f"{path}/schema", json=FIELDS)
    body = json.dumps({"records": [{}]}).encode()
    job = replace(new_job(body, feed=FEED.name), target=str(dataset_id))
    accept(site.platform.ledger, job)
    pat.delete(path)
    work(site.platform, FEED)
    ended = job_of(site.platform, job.id)
    assert (ended.state.value, ended.error_code) == ("failed", "not_found")


@pytest.mark.parametrize("dataset_id", ["0", "-1", "x", "1.5", "١", "1" * 30])
def test_an_id_that_is_no_positive_integer_is_refused(pat: httpx.Client, project: str, dataset_id: str) -> None:
    for path in (f"/api/datasets/{project}/{dataset_id}", f"/api/datasets/{project}/{dataset_id}/schema"):
        answer = pat.get(path)
        assert (answer.status_code, answer.json()) == (400, {"error": "Invalid dataset ID"})


def test_projects_and_datasets_of_others_are_as_if_they_did_not_exist(
    pat: httpx.Client, site: Site, project: str
) -> None:
    foreign, dataset_id = make_project(site, workspace="globex"), make(pat, project)
    theirs = site.bearer("datasets:admin", workspace="globex", kind="pat")
    ours = {"Authorization": pat.headers["Authorization"]}
    for headers, name in ((theirs, project), (ours, foreign), (ours, "nothing"), (ours, "%ff")):
        for method, path in _routes(name):
            content = {"json": FIELDS if path.endswith("schema") else {"name": "a"}}
            sent = content if method in {"POST", "PATCH"} else {}
            answer = site.anyone.request(method, path, headers=headers, **sent)
            assert (answer.status_code, answer.json()) == (404, {"error": "Project not found"}), (method, path)
    other = make_project(site)
    for answer in (pat.get(f"/api/datasets/{other}/{dataset_id}"), pat.delete(f"/api/datasets/{other}/{dataset_id}")):
        assert (answer.status_code, answer.json()) == (404, {"error": "Dataset not found"})
    assert pat.get(f"/api/datasets/{project}/{dataset_id}").status_code == 200


def test_a_token_of_a_project_sees_only_that_project(pat: httpx.Client, site: Site, project: str) -> None:
    other = make_project(site)
    with site.platform.ledger.transaction() as tx:
        new = NewKey(workspace="acme", project=project, kind="pat", scopes=("datasets:admin",))
        headers = {"Authorization": f"Bearer {keys.issue(tx, new).token}"}
    answers = [site.anyone.get(f"/api/datasets/{name}", headers=headers) for name in (project, other)]
    assert [answer.status_code for answer in answers] == [200, 404]
    assert pat.get(f"/api/datasets/{other}").status_code == 200


def test_the_legacy_routes_speak_of_the_first_dataset_and_make_one_where_there_is_none(
    pat: httpx.Client, site: Site, project: str
) -> None:
    path = f"/api/datasets/{project}/schema"
    missing = pat.get(path)
    assert (missing.status_code, missing.json()) == (404, {"error": "Dataset schema not found"})
    made = pat.post(path, json=FIELDS)
    assert made.status_code == 201
    dataset = made.json()["dataset"]
    assert (dataset["name"], dataset["slug"], dataset["status"]) == ("default", "default", "active")
    assert pat.post(path, json=FIELDS).status_code == 200
    assert pat.get(path).json() == made.json()
    assert [each["id"] for each in pat.get(f"/api/datasets/{project}").json()["data"]] == [dataset["id"]]

    other = make_project(site)
    first = make(pat, other, "first")
    make(pat, other, "second")
    assert pat.post(f"/api/datasets/{other}/schema", json=FIELDS).json()["dataset"]["id"] == first


def test_a_request_that_is_repeated_under_its_key_makes_one_dataset(pat: httpx.Client, project: str) -> None:
    headers = {"Idempotency-Key": new_ulid()}
    path = f"/api/datasets/{project}"
    answers = [pat.post(path, json={"name": "Orders"}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    other = pat.post(path, json={"name": "Others"}, headers=headers)
    assert other.status_code == 422
    assert list(other.json()) == ["error"]
    assert len(pat.get(path).json()["data"]) == 1


# Declared


Apply = Callable[[str], list[AppliedChange]]
DECLARED = """
workspace: acme
workspaces: [{name: acme, projects: [local, other], quotas: {datasets: 100}}]
datasets:
  - project: local
    name: Orders
    description: Paid orders
    fields: {country: string, amount: number}
  - {project: other, name: Orders}
"""


@pytest.fixture
def applied(ledger: Ledger, tmp_path: Path) -> Apply:
    """Apply a text as a file."""

    def act(text: str) -> list[AppliedChange]:
        (tmp_path / "datasets.yaml").write_text(text)
        return apply(ledger, [tmp_path / "datasets.yaml"], feeds=discover())

    return act


def test_datasets_are_declared_then_stand_then_are_changed_and_deleted(applied: Apply, ledger: Ledger) -> None:
    made = applied(DECLARED)
    assert [f"{change.sign.value}{change.section}/{change.id}" for change in made] == [
        *("+workspaces/acme", "+datasets/Orders", "+datasets/Orders")
    ]
    with ledger.connection() as tx:
        found = registry.find_named(tx, workspace="acme", project="local", name="Orders")
    assert found is not None
    assert made[1].assigned == str(found.id)
    assert (found.description, found.fields) == ("Paid orders", {"country": "string", "amount": "number"})
    assert {change.sign.name for change in applied(DECLARED)} == {"UNCHANGED"}
    with_fields = "{project: other, name: Orders, fields: {a: string}}"
    changed = applied(DECLARED.replace("Paid orders", "All").replace("{project: other, name: Orders}", with_fields))
    assert [str(change) for change in changed if change.sign.name == "CHANGED"] == [
        f"~ datasets/Orders ({found.id}) in acme: description: 'Paid orders' → 'All'",
        f"~ datasets/Orders ({found.id + 1}) in acme: fields: None → {{'a': 'string'}}",
    ]
    gone = applied("workspace: acme\ndatasets: [{project: local, name: Orders, retired: true}]")
    assert [change.sign.name for change in gone] == ["RETIRED"]
    with ledger.connection() as tx:
        assert registry.find_named(tx, workspace="acme", project="local", name="Orders") is None
        assert registry.find_named(tx, workspace="acme", project="other", name="Orders") is not None


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("project: local", "project: nowhere", "acme has no project 'nowhere'"),
        ("amount: number", "amount: integer", "Invalid type of field amount"),
        ("amount: number", "id: number", "Invalid field name: id is reserved"),
        ("amount: number", "yes: number", "Invalid field name: True"),
        ("amount: number", "amount: string", "Dataset schema is already registered with other fields"),
        ("name: Orders", 'name: " Orders"', "is wrong; it must match"),
        ("name: Orders", 'name: "Orders\\n"', "must have 1 to 100 characters"),
    ],
)
def test_a_dataset_that_is_wrongly_declared_is_told_and_nothing_is_applied(
    applied: Apply, ledger: Ledger, before: str, after: str, said: str
) -> None:
    applied(DECLARED)
    text = DECLARED.replace(before, after, 1).replace("quotas: {datasets: 100}", "quotas: {datasets: 5}")
    with pytest.raises(WronglyDeclared) as raised:
        applied(text)
    assert said in str(raised.value)
    with ledger.connection() as tx:
        found = workspaces.find(tx, "acme")
    assert found is not None
    assert found.quotas == {"datasets": 100}


def test_the_first_start_makes_a_dataset_that_its_credentials_are_good_for(database_url: str, tmp_path: Path) -> None:
    seed(load_settings(data_dir=tmp_path, database_url=database_url))
    credentials = read_credentials(tmp_path)
    with Ledger(database_url, application="test") as ledger, ledger.connection() as tx:
        found = registry.default_of(tx, workspace="demo", project="local")
        assert found is not None
        parts = {kind: keys.split_token(token) for kind, token in credentials.items()}
        records = keys.find(tx, [each[1] for each in parts.values() if each])
    assert (found.name, list(found.fields or ())) == ("demo", list(FIELDS))
    scopes = {record.kind: record.scopes for record in records.values()}
    assert "datasets:write" in scopes["api"]
    assert "datasets:admin" in scopes["pat"]
    assert {record.project for record in records.values()} == {"local"}
