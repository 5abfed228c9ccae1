"""Whichever way events come in, the same rows come out: alone, as an array, as lines, compressed, in files."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import polars as pl
import pytest

from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.stream_events import FEED
from ingest_platform.feeds.stream_events.load import TABLE
from ingest_platform.pipeline.files import land_file
from ingest_platform.storage import catalog
from ingest_platform.storage.warehouse import rows_of
from ingest_platform_tests.pipeline.working import work
from ingest_platform_tests.serving import Site, fresh_database, serving

PATH = "/v1/streams/ingest"
LINES = {"Content-Type": "application/x-ndjson"}
# No sampling: what is drawn for an event follows from its place.
PIPELINE: Mapping[str, object] = {
    "name": "ways",
    "parse": [
        {"field": "event.message", "as": "logfmt"},
        {"field": "event.inner", "as": "json", "on_error": "reject"},
    ],
    "enrich": [{"set": {"metadata.region": "eu-west-1"}}, {"derive": {"event.slow": "event.ms > 500"}}],
    "mask": [{"field": "event.card", "how": "partial", "keep_last": 4}, {"pattern": "email", "how": "redact"}],
    "routes": {
        "match": "first",
        "rules": [
            {"name": "slow", "when": "event.slow", "to": ["archive", "siem"]},
            {"name": "errors", "when": 'event.level == "ERROR"', "to": ["archive"]},
        ],
        "otherwise": "drop",
    },
}
AT = "2026-05-06T10:15:30.123Z"
Event = Mapping[str, object]
EVENTS: Sequence[Event] = [
    {"timestamp": AT, "source": "api", "event": {"level": "ERROR", "card": "4111111111111111", "ms": 1}},
    {"timestamp": AT, "source": "api", "event": {"ms": 900, "message": 'user=ann@example.com note="a b"'}},
    {"timestamp": "2026-05-06T12:15:30+02:00", "source": 'é\n"', "event": {}, "metadata": {"env": "prod"}},
    {"timestamp": AT, "source": "api", "event": {"inner": '{"level": "ERROR", "deep": [1, {"a": null}]}'}},
    {"timestamp": AT, "source": "api", "event": {"inner": "no JSON", "card": "4111111111111111"}},
    {"timestamp": "yesterday", "source": "api", "event": {}},
    {"timestamp": AT, "event": {}},
    {"timestamp": AT, "source": "api", "event": {"level": "ERROR", "ms": 2.5e3, "text": "mail bob@example.com"}},
]
FLAT: Sequence[Event] = [
    {"timestamp": AT, "service": "api", "level": "ERROR", "card": "4111111111111111"},
    {"timestamp": AT, "service": "api", "level": "INFO", "message": "user=ann@example.com"},
    {"timestamp": AT, "level": "ERROR"},
    {"timestamp": "x", "service": "api"},
    {"timestamp": AT, "source": "web", "service": "kept", "level": "ERROR", "inner": "no JSON"},
]


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API once."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as served:
        yield served


def declare(site: Site, *, envelope: str) -> str:
    entries = [
        catalog.Declared(workspace="acme", kind="destinations", id=name, body={"type": "files", "path": f"{name}/"})
        for name in ("archive", "siem")
    ]
    stream_id = new_id("")
    body = {**PIPELINE, "envelope": envelope}
    with site.platform.ledger.transaction() as tx:
        catalog.put(tx, [*entries, catalog.Declared(workspace="acme", kind="streams", id=stream_id, body=body)])
    return stream_id


def one_by_one(site: Site, stream_id: str, events: Sequence[Event], _: Path) -> None:
    with _client(site, stream_id) as client:
        for each in events:
            client.post(PATH, json=each)


def as_array(site: Site, stream_id: str, events: Sequence[Event], _: Path) -> None:
    with _client(site, stream_id) as client:
        assert client.post(PATH, json=list(events)).status_code == 200


def as_lines(site: Site, stream_id: str, events: Sequence[Event], _: Path) -> None:
    with _client(site, stream_id) as client:
        headers = {**LINES, "Content-Encoding": "gzip"}
        assert client.post(PATH, content=gzip.compress(lines_of(events)), headers=headers).status_code == 200


def as_file_of_lines(site: Site, stream_id: str, events: Sequence[Event], folder: Path) -> None:
    _drop(site, stream_id, folder / "events.ndjson", lines_of(events))


def as_document(site: Site, stream_id: str, events: Sequence[Event], folder: Path) -> None:
    _drop(site, stream_id, folder / "events.json.gz", gzip.compress(json.dumps(events, indent=1).encode()))


def as_a_file_each(site: Site, stream_id: str, events: Sequence[Event], folder: Path) -> None:
    for each in events:
        _drop(site, stream_id, folder / "event.json", json.dumps(each, indent=1).encode())


def as_csv(site: Site, stream_id: str, events: Sequence[Event], folder: Path) -> None:
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _columns(events))
        writer.writeheader()
        writer.writerows(_cells(each) for each in events)
    _drop(site, stream_id, folder / "events.csv", path.read_bytes())


def as_parquet(site: Site, stream_id: str, events: Sequence[Event], folder: Path) -> None:
    path = folder / "table.parquet"
    schema = dict.fromkeys(_columns(events), pl.String())
    pl.DataFrame([_cells(each) for each in events], schema=schema).write_parquet(path)
    _drop(site, stream_id, folder / "events.parquet", path.read_bytes())


def _columns(events: Sequence[Event]) -> list[str]:
    return list(dict.fromkeys(name for each in events for name in each))


def _cells(event: Event) -> Mapping[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in event.items()}


def _client(site: Site, stream_id: str) -> httpx.Client:
    headers = {**site.bearer(FEED.write_scope), "X-Stream-Id": stream_id}
    return httpx.Client(base_url=site.url, headers=headers, timeout=20)


def _drop(site: Site, stream_id: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    land_file(site.platform, FEED, "acme", path, target=stream_id)


def lines_of(events: Sequence[Event]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


def rows(site: Site, stream_id: str) -> list[dict[str, object]]:
    """Read what became of a stream's events, without their places."""
    chosen = ", ".join(f'"{column.name}"' for column in TABLE.columns if column.name != "stream_id")
    found = site.platform.warehouse.query(
        f"SELECT {chosen} FROM {rows_of(TABLE.name)} WHERE stream_id = ? ORDER BY __accepted_seq, __record_index",
        [stream_id],
    ).to_pylist()
    return [{**row, "document": row["document"] and json.loads(row["document"])} for row in found]


def rejected(site: Site, stream_id: str) -> tuple[int, int]:
    """Count what was received and rejected by jobs; an event that was refused at the door alone has none."""
    with site.platform.ledger.connection() as tx:
        counted = tx.execute(
            "SELECT sum(received)::int, sum(rejected)::int FROM jobs WHERE target = %s", (stream_id,)
        ).fetchone()
    assert counted is not None
    return counted


Way = Callable[[Site, str, Sequence[Event], Path], None]
WAYS: Sequence[Way] = [as_array, as_lines, as_file_of_lines, as_document, as_a_file_each, as_csv, as_parquet]


@pytest.mark.parametrize(("envelope", "events"), [("strict", EVENTS), ("auto", FLAT)])
def test_the_same_events_become_the_same_rows(
    site: Site, tmp_path: Path, envelope: str, events: Sequence[Event]
) -> None:
    streams = {way: declare(site, envelope=envelope) for way in (one_by_one, *WAYS)}
    for way, stream_id in streams.items():
        way(site, stream_id, events, tmp_path)
    work(site.platform, FEED)
    expected = rows(site, streams[one_by_one])
    assert {row["decision"] for row in expected} == {"routed", "dropped"}
    for way in WAYS:
        assert rows(site, streams[way]) == expected, way.__name__
        bad = len(events) - len(expected)
        assert rejected(site, streams[way]) == (len(events), bad), way.__name__
    assert rejected(site, streams[one_by_one]) == (len(expected), 0)


def test_nothing_of_what_is_masked_is_in_a_row(site: Site, tmp_path: Path) -> None:
    stream_id = declare(site, envelope="strict")
    as_array(site, stream_id, EVENTS, tmp_path)
    work(site.platform, FEED)
    text = json.dumps(rows(site, stream_id), default=str)
    assert "1111" in text
    for secret in ("4111111111111111", "ann@example.com", "bob@example.com"):
        assert secret not in text
