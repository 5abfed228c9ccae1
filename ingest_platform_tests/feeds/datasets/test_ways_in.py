"""The same records by every way in: single ones, batches, files of each format. Rows and verdicts are the same."""

import csv
import gzip
import io
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest_platform.feeds.datasets import FEED, registry
from ingest_platform.feeds.datasets.ingest_declared import DATASET_ID_HEADER
from ingest_platform.feeds.datasets.schema import read_schema
from ingest_platform.pipeline.claims import SETTLE_SECONDS, Memory
from ingest_platform.pipeline.files import collect
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import jobs, keys, outcomes, quotas, workspaces
from ingest_platform.storage.warehouse import quoted, rows_of
from ingest_platform_tests.serving import Site, fresh_database, serving

RECORDS, TAXIS = 400, 20_000
BATCH = 250
PROJECT = "shop"
FIELDS = {"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
TOLD_KINDS = {"string": pa.string(), "number": pa.float64(), "boolean": pa.bool_(), "timestamp": pa.string()}
Record = dict[str, object]
Verdicts = list[tuple[int, list[tuple[str, str | None]]]]


def _records(count: int) -> list[Record]:
    """Make records, the same every time; one in ten is bad in a way that every format can express."""
    dice = random.Random(7)
    return [_record(dice, number) for number in range(count)]


def _record(dice: random.Random, number: int) -> Record:
    at = datetime(2026, 5, 30, 23, tzinfo=UTC) + timedelta(seconds=dice.randrange(200_000))
    record: Record = {
        "timestamp": at.isoformat(timespec="milliseconds"),
        "context": {"n": number, "deep": {"of": [1.50, None, "x, “y”\n"]}},
        "country": dice.choice(["RO", "  ", "späti", "=1+1", "null", "NaN", "a,b\nc", "\u202e"]),
        "amount": dice.choice([number / 4, -0.0, 1e300, 9007199254740992.0]),
        "active": dice.random() < 0.5,
        "signup_at": dice.choice(["2026-05-01T08:00:00Z", "2026-05-01t08:00:00.123456789-00:30"]),
    }
    match dice.randrange(60):
        case 0 | 1:
            del record[dice.choice(list(record))]
        case 2 | 3:
            record["timestamp"] = dice.choice(["yesterday", "2026-05-01", "2026-05-01T08:00:00"])
        case 4:
            record["signup_at"] = "2026-02-30T08:00:00Z"
            del record["amount"]
        case _:
            pass
    return record


SENT = _records(RECORDS)


def _ndjson(records: Sequence[Record], _: Mapping[str, str]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def _json(records: Sequence[Record], _: Mapping[str, str]) -> bytes:
    return json.dumps(records).encode()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict | float) else value


def _csv(records: Sequence[Record], fields: Mapping[str, str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=["timestamp", "context", *fields])
    writer.writeheader()
    writer.writerows([{name: _cell(value) for name, value in each.items()} for each in records])
    return text.getvalue().encode()


def _parquet(records: Sequence[Record], fields: Mapping[str, str]) -> bytes:
    texts = [each | {"context": json.dumps(each["context"])} if "context" in each else each for each in records]
    kinds = {"timestamp": pa.string(), "context": pa.string(), **{name: TOLD_KINDS[fields[name]] for name in fields}}
    columns = {name: pa.array([each.get(name) for each in texts], kind) for name, kind in kinds.items()}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


FILES: Mapping[str, tuple[str, Callable[[Sequence[Record], Mapping[str, str]], bytes]]] = {
    "lines": ("may.ndjson", _ndjson),
    "packed": ("may.ndjson.gz", lambda records, fields: gzip.compress(_ndjson(records, fields))),
    "array": ("may.json", _json),
    "document": ("may.json", lambda records, _: json.dumps({"records": records}).encode()),
    "table": ("may.csv", _csv),
    "columns": ("may.parquet", _parquet),
}
BY_HTTP = ("singles", "batches", "continued", "legacy", "default")


class Ways:
    """A running platform in which every way has a workspace with a dataset of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.datasets: dict[str, int] = {}
        self.keys: dict[str, str] = {}

    def make(self, way: str, fields: Mapping[str, str]) -> None:
        """Make the dataset of a way."""
        with self.site.platform.ledger.transaction() as tx:
            workspaces.put(
                tx, workspaces.Workspace(name=way, projects=(PROJECT,), rate_limits={FEED.name: 1_000_000_000})
            )
            made = registry.create(tx, workspace=way, project=PROJECT, name="orders", description="")
            registry.register_schema(tx, made, fields)
            new = keys.NewKey(workspace=way, project=PROJECT, scopes=(FEED.write_scope,))
            self.datasets[way], self.keys[way] = made.id, keys.issue(tx, new).token

    def send(self, way: str, bodies: Sequence[object], path: str = "/datasets/{}/batch", **headers: str) -> list[int]:
        """Send bodies by a way; the status of each answer."""
        bearer = {"Authorization": f"Bearer {self.keys[way]}", "Content-Type": "application/json", **headers}
        address = self.site.url + path.format(self.datasets[way])
        with httpx.Client(headers=bearer, timeout=20) as client:
            # As in the files, with the same blanks: a context is kept as it is.
            return [client.post(address, content=json.dumps(body)).status_code for body in bodies]

    def drop(self, way: str, content: bytes, name: str) -> None:
        """Drop a file."""
        folder = self.site.platform.data_dir / "landing" / way / FEED.folder / str(self.datasets[way])
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)

    def work(self) -> None:
        """Take what was dropped, and work off everything."""
        collect(self.site.platform, [FEED], now=lambda: time.time() + 2 * SETTLE_SECONDS, memory=Memory())
        report = work_until_idle(self.site.platform, FEED, day=None, run_id="run", linger_seconds=0)
        assert report.faults == []

    def rows(self, way: str, fields: Mapping[str, str]) -> list[tuple[object, ...]]:
        """Read the rows that came by a way, in the order in which they were accepted."""
        names = ("timestamp", "context", "project", *fields, "__day")
        found = self.site.platform.warehouse.query(
            f"SELECT {', '.join(map(quoted, names))} FROM {rows_of(f'dataset_{self.datasets[way]}')}"
            " ORDER BY __accepted_seq, __record_index"
        )
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def verdicts(self, way: str) -> Verdicts:
        """List the bad records that came by a way, by their place among all that did."""
        platform, first = self.site.platform, 0
        found: Verdicts = []
        with platform.ledger.connection() as tx:
            told = jobs.list_jobs(tx, jobs.JobFilter(workspace=way), before_seq=None, limit=1_000)[::-1]
        for job in told:
            assert job.received is not None, job.error_message
            for each in outcomes.iter_rejections(platform.ledger, job.id):
                found.append((first + each.record_index, [(one.code, one.field) for one in each.problems]))
            first += job.received
        return found

    def used(self, way: str) -> int:
        """Tell what a way has used of its quota."""
        with self.site.platform.ledger.connection() as tx:
            return quotas.usage(tx, workspace=way, feed=FEED.name).used


@pytest.fixture(scope="module")
def ways(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Send the same by each way."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("ways")) as served:
        opened = Ways(served)
        for way in (*BY_HTTP, *FILES):
            opened.make(way, FIELDS)
        _send_all(opened)
        opened.work()
        yield opened


def _send_all(ways: Ways) -> None:
    batches = _cut(SENT)
    singles = ways.send("singles", SENT, "/datasets/{}")
    assert set(singles) == {202, 400}
    good = [record for record, status in zip(SENT, singles, strict=True) if status == 202]
    # A batch with a bad record is refused whole, and leaves nothing.
    assert set(ways.send("batches", batches)) == {400}
    assert set(ways.send("batches", _cut(good))) == {202}
    assert set(ways.send("continued", batches, "/datasets/{}/batch?on_error=continue")) == {202}
    legacy = {DATASET_ID_HEADER: str(ways.datasets["legacy"])}
    assert set(ways.send("legacy", batches, "/datasets/batch?on_error=continue", **legacy)) == {202}
    assert set(ways.send("default", batches, "/datasets/batch?on_error=continue")) == {202}
    for way, (name, write) in FILES.items():
        ways.drop(way, write(SENT, FIELDS), name)


def _cut(records: Sequence[Record]) -> list[list[Record]]:
    return [list(records[at : at + BATCH]) for at in range(0, len(records), BATCH)]


@pytest.mark.parametrize("way", [*BY_HTTP[1:], *FILES])
def test_the_rows_are_the_same_whichever_way_they_came(ways: Ways, way: str) -> None:
    expected = ways.rows("singles", FIELDS)
    assert RECORDS * 0.8 < len(expected) < RECORDS
    # As text, in which -0.0 is not 0.0.
    assert list(map(repr, ways.rows(way, FIELDS))) == list(map(repr, expected))


@pytest.mark.parametrize("way", ["legacy", "default", *FILES])
def test_the_verdicts_are_the_same_whichever_way_they_came(ways: Ways, way: str) -> None:
    expected = ways.verdicts("continued")
    assert {code for _, problems in expected for code, _ in problems} == {"missing_field", "invalid_timestamp"}
    assert max(len(problems) for _, problems in expected) == 2
    assert ways.verdicts(way) == expected


@pytest.mark.parametrize("way", [*BY_HTTP, *FILES])
def test_every_way_costs_what_it_stored(ways: Ways, way: str) -> None:
    assert ways.used(way) == len(ways.rows("singles", FIELDS))


@pytest.mark.slow
@pytest.mark.corpus
def test_twenty_thousand_taxis_are_the_same_rows_whichever_way_they_came(ways: Ways, shared: Path) -> None:
    fields = read_schema((shared / "data" / "taxis.schema.json").read_bytes())
    lines = (shared / "data" / "taxis.ndjson").read_bytes().splitlines()
    trips: list[Record] = [json.loads(line) for line in itertools.islice(itertools.cycle(lines), TAXIS)]
    by = {f"taxis-{way}": FILES[way] for way in ("lines", "array", "table", "columns")}
    for way in ("taxis-http", *by):
        ways.make(way, fields)
    parts = [trips[at : at + 2_000] for at in range(0, TAXIS, 2_000)]
    assert set(ways.send("taxis-http", parts, "/datasets/{}/batch?on_error=continue")) == {202}
    for way, (name, write) in by.items():
        ways.drop(way, write(trips, fields), name)
    ways.work()
    rows, verdicts = ways.rows("taxis-http", fields), ways.verdicts("taxis-http")
    assert len(rows) + len(verdicts) == TAXIS
    bad = {index for index, trip in enumerate(trips) if None in trip.values()}
    assert {index for index, _ in verdicts} == bad
    for way in by:
        assert ways.rows(way, fields) == rows, way
        # A null of JSON is of the wrong type; in a table it is a missing field.
        is_table = way in {"taxis-table", "taxis-columns"}
        code = "missing_field" if is_table else "invalid_type"
        assert ways.verdicts(way) == [(at, [(code, field) for _, field in found]) for at, found in verdicts], way
