"""docs/client.md: its examples run, against the real API, and print what they say that they print."""

import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from ingest_platform.feeds.datasets import registry
from ingest_platform.storage import keys, workspaces
from ingest_platform_tests.serving import CONFIG, Site

DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, object]:
    """Give what the examples take as given: an address, a key, a PAT, a dataset."""
    with site.platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", projects=("local",)))
        dataset = registry.create(tx, workspace="acme", project="local", name="trips", description="")
        registry.register_schema(tx, dataset, {"country": "string", "amount": "number"})
        scopes = ("datasets:write", "machine-data:write", "ingest:write", "jobs:read")
        key = keys.issue(tx, keys.NewKey(workspace="acme", project="local", scopes=scopes))
        pat = keys.issue(tx, keys.NewKey(workspace="acme", scopes=("datasets:admin",), kind="pat"))
    return {
        "URL": site.url,
        "API_KEY": key.token,
        "PAT": pat.token,
        "DATASET_ID": dataset.id,
        "CONFIG": CONFIG,
        "FOLDER": str(tmp_path_factory.mktemp("document")),
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=["datasets", "others", "awaited"])
def test_an_example_prints_what_it_says(names: Mapping[str, object], example: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "docs/client.md", "exec"), dict(names))
    for said in re.findall(r"print\(.*\)  # (.+)$", example, re.MULTILINE):
        assert said in printed.getvalue().splitlines()
