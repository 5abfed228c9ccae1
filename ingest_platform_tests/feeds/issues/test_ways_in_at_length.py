"""20,000 issues made from real log lines, as batches of 500 over HTTP and as one dropped file: identical tables."""

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ingest_platform.domain.job import Job
from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.rebuild import agreement, rebuild
from ingest_platform.pipeline.claims import SETTLE_SECONDS, Memory
from ingest_platform.pipeline.files import collect
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import jobs, workspaces
from ingest_platform.storage.warehouse import records_of, rows_of
from ingest_platform_tests.feeds.issues.test_ways_in import PLACES
from ingest_platform_tests.serving import Site, fresh_database, serving

pytestmark = pytest.mark.slow
RECORDS = 20_000
BATCH = 500
# Of one load; the file is one load.
BATCHES_TOGETHER = 7
# As the specification of patterns asks of a rebuild.
AGREEMENT_MIN = 0.95
COUNTS = ("received", "accepted", "rejected", "created", "updated", "unchanged", "stale", "superseded")
# Of a record: where and when it was accepted.
RECORD_PLACES = ("workspace", "issue_id", "key_hash", "job_id", "record_index", "accepted_seq", "accepted_at")
SOURCES = ("jira", "PagerDuty", "our own pager", "zendesk")
Record = dict[str, object]


def _records(folder: Path) -> list[Record]:
    """Make records of all lines, again and again; one in ten is about an issue that was spoken of before."""
    dice = random.Random(11)
    lines = [
        (path.name.partition("_")[0], line)
        for path in sorted(folder.glob("*_structured.csv"))
        for line in pl.read_csv(path, infer_schema=False)["Content"].to_list()
    ]
    made: list[Record] = []
    for number in range(RECORDS):
        file, line = lines[number % len(lines)]
        about = dice.randrange(number) if number and dice.random() < 0.1 else number
        record: Record = {
            "external_id": f"{file}-{about}",
            "source": SOURCES[about % len(SOURCES)],
            "title": line,
            "severity": dice.choice(["p1", "high", "p3", None, "p4"]),
            "team": dice.choice([None, "core", "night shift"]),
            "source_updated_at": dice.choice([None, f"2026-05-{dice.randrange(1, 29):02}T10:15:00Z"]),
            "metadata": {"line": number},
        }
        if dice.random() < 0.01:
            record["severity"] = "p9"
        made.append({name: value for name, value in record.items() if value is not None})
    return made


@pytest.fixture(scope="module")
def site(server_url: str, template: str, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Send all of it both ways, each into a workspace of its own, and work it off."""
    sent = _records(shared / "data" / "loghub")
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("length")) as served:
        with served.platform.ledger.transaction() as tx:
            for name in ("batches", "file"):
                workspaces.put(tx, workspaces.Workspace(name=name, rate_limits={"issues": 1_000_000}))
        _post(served, sent)
        _work(served)
        _drop(served, sent)
        _work(served)
        yield served


def _post(site: Site, sent: Sequence[Record]) -> None:
    headers = {**site.bearer("ingest:write", workspace="batches"), "Content-Type": "application/json"}
    with httpx.Client(base_url=site.url, headers=headers, timeout=60) as client:
        for at in range(0, len(sent), BATCH):
            answer = client.post("/v1/ingest/batch", content=json.dumps({"records": sent[at : at + BATCH]}))
            assert answer.status_code == 202, answer.text
            if at // BATCH % BATCHES_TOGETHER == 0:
                _work(site)


def _drop(site: Site, sent: Sequence[Record]) -> None:
    folder = site.platform.data_dir / "landing" / "file" / FEED.folder
    folder.mkdir(parents=True)
    (folder / "all.ndjson").write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in sent))
    (taken,) = collect(site.platform, [FEED], now=lambda: time.time() + 2 * SETTLE_SECONDS, memory=Memory())
    assert taken


def _work(site: Site) -> None:
    assert work_until_idle(site.platform, FEED, day=None, run_id="run", linger_seconds=0).faults == []


def _table(site: Site, name: str, workspace: str, places: Sequence[str]) -> pl.DataFrame:
    query = f"SELECT * EXCLUDE ({', '.join(places)}) FROM {name} WHERE workspace = ? ORDER BY ALL"
    found = pl.from_arrow(site.platform.warehouse.query(query, [workspace]))
    assert isinstance(found, pl.DataFrame)
    return found


def _jobs(site: Site, workspace: str) -> Sequence[Job]:
    with site.platform.ledger.connection() as tx:
        return jobs.list_jobs(tx, jobs.JobFilter(workspace=workspace), before_seq=None, limit=100)


def _groups(site: Site, workspace: str) -> dict[str, str]:
    with site.platform.ledger.connection() as tx:
        rows = tx.execute("SELECT fingerprint, pattern_id FROM issue_fingerprints WHERE workspace = %s", (workspace,))
        return dict(rows.fetchall())


def test_the_tables_are_identical(site: Site) -> None:
    tables: Mapping[str, Sequence[str]] = {rows_of(FEED.table.name): PLACES, records_of(FEED.table): RECORD_PLACES}
    for name, places in tables.items():
        batches = _table(site, name, "batches", places)
        assert batches.height > 0.85 * RECORDS
        assert_frame_equal(_table(site, name, "file", places), batches)


def test_the_counts_are_the_same(site: Site) -> None:
    (file,) = _jobs(site, "file")
    batches = _jobs(site, "batches")
    assert len(batches) == RECORDS // BATCH
    for name in COUNTS:
        assert getattr(file, name) == sum(getattr(each, name) for each in batches), name
    assert file.received == RECORDS
    assert min(file.rejected, file.updated, file.stale) > 0


def test_the_wordings_are_grouped_alike(site: Site) -> None:
    # What is grouped as it comes depends a little on what came together.
    batches, file = _groups(site, "batches"), _groups(site, "file")
    assert batches.keys() == file.keys()
    assert len(set(batches.values())) > 50
    assert agreement(batches, file) >= AGREEMENT_MIN
    for workspace, before in (("batches", batches), ("file", file)):
        rebuild(site.platform.ledger, workspace)
        assert agreement(before, _groups(site, workspace)) >= AGREEMENT_MIN
