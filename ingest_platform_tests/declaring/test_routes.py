"""Declarations over HTTP: the same as with `ingest apply`, for the key's own workspace and no other."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ingest_platform.declaring.routes import BODY_BYTES_MAX
from ingest_platform.storage import catalog
from ingest_platform_tests.serving import Site, fresh_database, serving

PATH = "/v1/declarations"
SITE = "sites:\n  - {name: plant-z}\n"


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API to all tests of this module."""
    folder: Path = tmp_path_factory.mktemp("site")
    with fresh_database(server_url, template) as url, serving(url, folder) as site:
        yield site


@pytest.fixture
def admin(site: Site) -> Iterator[httpx.Client]:
    """Call as an administrator of acme."""
    with httpx.Client(base_url=site.url, headers=site.bearer("admin", kind="pat"), timeout=30) as client:
        yield client


def _sites(site: Site, workspace: str = "acme") -> set[str]:
    with site.platform.ledger.connection() as tx:
        return {entry.id for entry in catalog.current(tx, workspace=workspace, kind="sites")}


def test_what_is_declared_stands_and_the_same_again_changes_nothing(site: Site, admin: httpx.Client) -> None:
    answer = admin.post(PATH, json={"declaration": SITE})
    assert (answer.status_code, answer.json()["dry_run"]) == (200, False)
    (change,) = answer.json()["changes"]
    assert (change["change"], change["section"], change["workspace"], change["id"]) == (
        *("created", "sites", "acme", "plant-z"),
    )
    assert "plant-z" in _sites(site)
    assert [each["change"] for each in admin.post(PATH, json={"declaration": SITE}).json()["changes"]] == ["unchanged"]


def test_a_dry_run_changes_nothing(site: Site, admin: httpx.Client) -> None:
    answer = admin.post(f"{PATH}?dry_run=true", json={"declaration": "sites:\n  - {name: plant-y}\n"}).json()
    assert (answer["dry_run"], answer["changes"][0]["change"]) == (True, "created")
    assert "plant-y" not in _sites(site)


def test_every_mistake_is_told_with_its_line(site: Site, admin: httpx.Client) -> None:
    text = "sites:\n  - {name: plant-x}\n  - {name: plant-x}\n  - {name: 'NO WAY'}\nroads: []\n"
    answer = admin.post(PATH, json={"declaration": text})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "wrongly_declared"
    told = " ".join(each["message"] for each in error["details"])
    assert {each["param"] for each in error["details"]} >= {"sites[1]", "sites[2].name", "roads"}
    assert "line 4: " in told
    assert "first in declaration.yaml:2" in told
    assert "plant-x" not in _sites(site)


@pytest.mark.parametrize(
    "text",
    [
        "workspace: globex\nsites:\n  - {name: plant-w}\n",
        "sites:\n  - {workspace: globex, name: plant-w}\n",
        "workspaces:\n  - {name: acme, quotas: {datasets: -1}}\n",
        "workspaces:\n  - {name: globex}\n",
    ],
)
def test_nothing_is_declared_of_another_workspace_or_of_workspaces(site: Site, admin: httpx.Client, text: str) -> None:
    answer = admin.post(PATH, json={"declaration": text})
    assert answer.status_code == 422
    assert "plant-w" not in _sites(site) | _sites(site, "globex")


@pytest.mark.parametrize("name", ["../x.csv", "a/b.csv", "", ".", "..", "declaration.yaml", "x" * 201, "a\x00b"])
def test_a_file_has_a_name_without_folders(admin: httpx.Client, name: str) -> None:
    answer = admin.post(PATH, json={"declaration": SITE, "files": {name: "x"}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "files")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"declaration": 1}', b'{"declaration":"", "more": 1}', b"\xff", b"{"])
def test_another_body_is_refused(admin: httpx.Client, body: bytes) -> None:
    answer = admin.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_a_body_that_is_too_large_is_refused(admin: httpx.Client) -> None:
    assert admin.post(PATH, json={"declaration": "#" * BODY_BYTES_MAX}).status_code == 413


def test_only_an_administrators_pat_may(site: Site) -> None:
    for headers in (site.bearer("datasets:admin", kind="pat"), site.bearer("machine-data:write")):
        assert site.anyone.post(PATH, json={"declaration": SITE}, headers=headers).status_code in {401, 403}
