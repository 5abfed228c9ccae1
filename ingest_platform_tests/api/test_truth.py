"""The OpenAPI document is true: Schemathesis asks for everything it allows, and for much that it forbids.

The server is real, its jobs are worked meanwhile, and Schemathesis runs as its users run it. What it can't know of this
API is in `schemathesis_hooks.py`.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest_platform.feeds import discover
from ingest_platform.feeds.stream_events import tail
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import jobs, keys, workspaces
from ingest_platform_tests.api.known import PROJECT, make_known
from ingest_platform_tests.pipeline.working import work
from ingest_platform_tests.serving import CONFIG, OTHER_SITE_CONFIG, Site

ROOT = Path(__file__).parents[2]
HOOKS = "ingest_platform_tests.api.schemathesis_hooks"
# With `slow` each takes a few minutes; the default suite's take half of one.
SECONDS_MAX = 600
# An answer that takes longer is one that never comes; on a machine that is busy with much else, all take long.
REQUEST_SECONDS_MAX = 30
# Who follows a stream that exists is answered for an hour.
TAIL_SECONDS_MAX = 0.5
SEED = 20260506
# A route for each tool, alike but for a few fields: three stand for all. A route's other paths are the same route. The
# long version tries all.
ALIKE = "^(/tracking/.*|/v1/ingest/(servicenow|pagerduty|opsgenie|linear|zendesk)/issues)$"
EXAMPLES_MAX = 5


def work_all(platform: Platform) -> None:
    """Work off whatever waits, of all feeds: whoever follows a job is answered until it ends."""
    for feed in discover():
        work(platform, feed)


@contextmanager
def working(platform: Platform) -> Iterator[None]:
    """Work off whatever is accepted, in a thread, so that jobs end and have something to show."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(0.1):
            work_all(platform)

    with ThreadPoolExecutor(max_workers=1) as pool:
        worker = pool.submit(go_on)
        try:
            yield
        finally:
            ended.set()
        worker.result()


@pytest.fixture
def busy(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve without a rate in the way, with a finished job to look at and what the hooks know, and work what comes."""
    monkeypatch.setattr(tail, "STREAM_SECONDS_MAX", TAIL_SECONDS_MAX)
    unlimited = {feed.name: 1_000_000 for feed in discover()}
    with site.platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", projects=["local"], rate_limits=unlimited))
    items = [
        {"timestamp": f"2026-05-06T10:{minute:02}:00Z", "machine_data_point_config_id": config, "value": minute}
        for minute in range(3)
        for config in (CONFIG, OTHER_SITE_CONFIG, "mdp_unknown")
    ]
    assert site.client.post("/v1/machine-data/import-jobs", json={"items": items}).status_code == 202
    make_known(site, tmp_path)
    _write_tokens(site, tmp_path)
    with working(site.platform):
        yield site


def _write_tokens(site: Site, folder: Path) -> None:
    """Configure the tokens of those routes that take no other: a personal one, or one of a project."""
    with site.platform.ledger.transaction() as tx:
        tokens = {
            path: keys.issue(tx, keys.NewKey(workspace="acme", scopes=keys.SCOPES, kind=kind, project=PROJECT)).token
            for path, kind in (("^/api/datasets", "pat"), ("^/datasets", "api"), ("^/v1/declarations", "pat"))
        }
    operations = [
        f'[[operations]]\ninclude-path-regex = "{path}"\nheaders = {{ Authorization = "Bearer {token}" }}\n'
        for path, token in tokens.items()
    ]
    (folder / "schemathesis.toml").write_text("".join(operations), encoding="utf-8")


def _schemathesis(site: Site, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                f"{site.url}/openapi.json",
                "--header",
                f"Authorization: Bearer {site.key(*keys.SCOPES).token}",
            ),
            # That an id is not found says that nothing links to it, which is no fault of the document.
            *("--warnings", "missing_auth,validation_mismatch"),
            *("--checks", "all", "--continue-on-failure", "--generation-database", "none", "--no-color"),
            *("--request-timeout", str(REQUEST_SECONDS_MAX), "--seed", str(SEED), *options),
        ],
        # It leaves files where it runs.
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": HOOKS},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def _require_all_well(site: Site, said: subprocess.CompletedProcess[str]) -> None:
    assert said.returncode == 0, said.stdout[-20_000:] + said.stderr[-2_000:]
    assert "No issues found" in said.stdout, said.stdout[-20_000:]
    # Whatever was accepted on the way came to its end, and the process still serves.
    work_all(site.platform)
    with site.platform.ledger.connection() as tx:
        assert [jobs.waiting(tx, feed.name).submissions for feed in discover()] == [0] * len(discover())
    assert site.anyone.get("/readyz").status_code == 200


@pytest.mark.long
@pytest.mark.parametrize("phase", ["examples,coverage", "fuzzing", "stateful"])
def test_the_document_is_true(busy: Site, tmp_path: Path, phase: str) -> None:
    bounds = ("--max-examples", str(EXAMPLES_MAX), "--exclude-path-regex", ALIKE)
    _require_all_well(busy, _schemathesis(busy, tmp_path, "--phases", phase, *bounds))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_document_stays_true_for_long(busy: Site, tmp_path: Path, seed: int) -> None:
    _require_all_well(busy, _schemathesis(busy, tmp_path, "--max-examples", "150", "--seed", str(seed)))
