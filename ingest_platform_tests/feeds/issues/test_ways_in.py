"""The same issues by every way in: batches, single events, dropped files of each format. The rows are the same."""

import csv
import io
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.contract import CONTRACT
from ingest_platform.feeds.issues.door import judge
from ingest_platform.pipeline.claims import SETTLE_SECONDS, Memory
from ingest_platform.pipeline.files import collect
from ingest_platform.pipeline.filing import file_outcomes
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import jobs, workspaces
from ingest_platform.storage.warehouse import rows_of
from ingest_platform_tests.serving import Site, fresh_database, serving

RECORDS = 700
NAMES = tuple(field.name for field in CONTRACT.fields)
# What depends on the way, the workspace or the moment.
PLACES = (
    *("workspace", "issue_id", "key_hash", "job_id", "record_index", "accepted_seq", "accepted_index", "accepted_at"),
    *("first_seen_at", "last_seen_at", "created_at", "updated_at"),
)
Record = dict[str, object]
Row = Mapping[str, object]


def _records(count: int) -> list[Record]:
    """Make records, the same every time, of a few hundred issues: merged, stale, of unknown tools, one in ten bad."""
    dice = random.Random(7)
    return [_record(dice, number) for number in range(count)]


def _record(dice: random.Random, number: int) -> Record:
    def maybe(value: object) -> object:
        return value if dice.random() < 0.6 else None

    record: Record = {
        "external_id": f"OPS-{dice.randrange(ids := 60)}",
        "source": dice.choice(["jira", " Jira", "github", "pager of ours", "Pager of theirs"]),
        "title": f"Node {number % ids} is gone, says “{dice.randrange(9)}”, twice",
        "body": maybe(f"line {dice.randrange(99)}\nand, more"),
        "severity": maybe(dice.choice(["p1", "high", "p3", "low"])),
        "team": maybe(dice.choice(["core", "späti"])),
        "external_url": maybe(f"https://example.com/{number}"),
        "source_updated_at": maybe(f"2026-05-{dice.randrange(1, 29):02}T10:15:00.5+02:00"),
        "metadata": maybe({"n": number, "deep": {"of": [1.5, None, "x"]}}),
    }
    if dice.random() < 0.1:
        record.update(dice.choice([{"title": None}, {"severity": "p9"}, {"external_url": "no"}, {"title": "x" * 301}]))
    return {name: value for name, value in record.items() if value is not None}


SENT = _records(RECORDS)


def _good(records: Sequence[Record]) -> list[Record]:
    judged = judge([json.dumps(each).encode() for each in records], workspace="any")
    bad = {index for index, _ in judged.rejections}
    return [each for index, each in enumerate(records) if index not in bad]


def _ndjson(records: Sequence[Record]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict) else value


def _csv(records: Sequence[Record]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=NAMES)
    writer.writeheader()
    writer.writerows([{name: _cell(value) for name, value in each.items()} for each in records])
    return text.getvalue().encode()


def _parquet(records: Sequence[Record]) -> bytes:
    columns = {name: pa.array([_cell(each.get(name)) for each in records], pa.string()) for name in NAMES}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


FILES: Mapping[str, tuple[str, Callable[[Sequence[Record]], bytes]]] = {
    "lines": ("may.ndjson", _ndjson),
    "array": ("may.json", lambda records: json.dumps(records).encode()),
    "document": ("may.json", lambda records: json.dumps({"records": records}).encode()),
    "table": ("may.csv", _csv),
    "columns": ("may.parquet", _parquet),
}


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Send the same by each way, each into a workspace of its own, and work all of it off."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("ways")) as served:
        with served.platform.ledger.transaction() as tx:
            for name in ("batches", "events", "cut", *FILES):
                workspaces.put(tx, workspaces.Workspace(name=name, rate_limits={"issues": 1_000_000}))
        _send(served, "batches", "/v1/ingest/batch", _batches(SENT, 500))
        _send(served, "events", "/v1/ingest/events", _good(SENT))
        _send(served, "cut", "/v1/ingest/batch", _batches(SENT, 190), after_each=_work)
        _drop(served)
        _work(served)
        yield served


def _batches(records: Sequence[Record], size: int) -> list[Record]:
    return [{"records": records[at : at + size]} for at in range(0, len(records), size)]


def _send(
    site: Site, workspace: str, path: str, bodies: Sequence[Record], *, after_each: Callable[[Site], None] | None = None
) -> None:
    headers = site.bearer("ingest:write", workspace=workspace)
    with httpx.Client(base_url=site.url, headers=headers, timeout=20) as client:
        for body in bodies:
            # As in the files, with the same blanks: metadata is kept as it is.
            answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
            assert answer.status_code == 202, answer.text
            if after_each is not None:
                after_each(site)


def _drop(site: Site) -> None:
    landing = site.platform.data_dir / "landing"
    for workspace, (name, write) in FILES.items():
        folder = landing / workspace / FEED.folder
        folder.mkdir(parents=True)
        (folder / name).write_bytes(write(SENT))
    taken = collect(site.platform, [FEED], now=lambda: time.time() + 2 * SETTLE_SECONDS, memory=Memory())
    assert len(taken) == len(FILES)


def _work(site: Site) -> None:
    report = work_until_idle(site.platform, FEED, day=None, run_id="run", linger_seconds=0)
    assert report.faults == []


def _rows(site: Site, workspace: str) -> list[Row]:
    statement = f"SELECT * EXCLUDE ({', '.join(PLACES)}) FROM {rows_of(FEED.table.name)} WHERE workspace = ?"
    found = site.platform.warehouse.query(f"{statement} ORDER BY source_key, external_id", [workspace])
    return found.to_pylist()


@pytest.mark.parametrize("way", ["events", "cut", *FILES])
def test_the_rows_are_the_same_whichever_way_they_came(site: Site, way: str) -> None:
    expected = _rows(site, "batches")
    assert len(expected) > 150
    assert _rows(site, way) == expected


def test_what_the_rows_say_is_what_was_sent(site: Site) -> None:
    folded: dict[tuple[str, str], Record] = {}
    for record in _good(SENT):
        key = (str(record["source"]).strip().lower(), str(record["external_id"]))
        before = folded.get(key, {})
        # All of them in one zone and of one length, so that the texts sort as the instants.
        if str(record.get("source_updated_at", "x")) < str(before.get("source_updated_at", "")):
            continue
        folded[key] = {**before, **record, "occurrences": int(str(before.get("occurrences", 0))) + 1}
    rows = {(str(row["source_key"]), str(row["external_id"])): row for row in _rows(site, "batches")}
    assert set(rows) == set(folded)
    words = {"high": "p2", "low": "p4", None: "p3"}
    for key, record in folded.items():
        row = rows[key]
        for name in ("title", "body", "team", "external_url", "occurrences"):
            assert row[name] == record.get(name), (key, name)
        severity = record.get("severity")
        assert row["severity"] == words.get(severity, severity)  # type: ignore[arg-type]
        assert row["source_raw"] == record["source"]
        assert row["source"] == (key[0] if key[0] in {"jira", "github"} else "custom_api")
        assert row["metadata"] == (json.dumps(record["metadata"]) if "metadata" in record else None)


@pytest.mark.parametrize("way", FILES)
def test_a_dropped_file_is_one_job_with_the_counts_of_the_batches(site: Site, way: str) -> None:
    with site.platform.ledger.connection() as tx:
        (job,) = jobs.list_jobs(tx, jobs.JobFilter(workspace=way), before_seq=None, limit=2)
        batches = jobs.list_jobs(tx, jobs.JobFilter(workspace="batches"), before_seq=None, limit=10)
    assert (job.origin.value, job.verdict) == ("file", "partial")
    for name in ("received", "accepted", "rejected", "created", "updated", "unchanged", "stale"):
        assert getattr(job, name) == sum(getattr(each, name) for each in batches), name
    assert job.stale
    assert job.updated


def test_a_dropped_file_is_answered_beside_it(site: Site) -> None:
    file_outcomes(site.platform)
    archive = site.platform.data_dir / "archive"
    outcomes = [path for path in archive.rglob("*.outcome.json") if FEED.folder in path.parts]
    assert len(outcomes) == len(FILES)
    rejected = sorted(archive.rglob("*.rejected.ndjson"))
    assert len(rejected) == len(FILES)
    first = json.loads(rejected[0].read_text(encoding="utf-8").partition("\n")[0])
    assert [reason["code"] for reason in first["reasons"]]
    assert not [path for path in (site.platform.data_dir / "landing").rglob("may.*") if _is_dropped(path)]


def _is_dropped(path: Path) -> bool:
    return ".held" not in path.parts and os.path.isfile(path)  # noqa: PTH113
