"""Asking about a dataset over real HTTP: who may, what comes back in which form, and that nothing else is reachable."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
import pyarrow as pa
import pytest

from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.datasets.answers import ARROW
from ingest_platform.feeds.datasets.schema import TYPES
from ingest_platform.feeds.datasets.shapes import shape_of
from ingest_platform.storage import workspaces
from ingest_platform.storage.warehouse import columns_of, quoted, rows_of, stored_name
from ingest_platform.storage.workspaces import Workspace
from ingest_platform_tests.serving import Site, fresh_database, serving

PROJECT = "shop"
FIELDS = {"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
AT = datetime(2026, 5, 6, 10, 15, 0, 441999, tzinfo=UTC)
MAY = {"from": "2026-05-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}
# Names that mean something to SQL, to DuckDB, PostgreSQL, DuckLake and its files, or to our own tables.
HOSTILE = [
    *("year", "month", "day", "rowid", "filename", "file_row_number", "file_index", "snapshot_id", "row_id", "oid"),
    *("Begin_Snapshot", "end_snapshot", "_ducklake_internal_row_id", "_ducklake_internal_snapshot_id", "ctid", "XMIN"),
    *("xmax", "cmin", "cmax", "tableoid", "current_user", "Current_Date", "current_schema", "session_user"),
    *("localtime", "localtimestamp", "system_user", "current_catalog", "current_role", "current_time", "left", "like"),
    *("current_timestamp", "authorization", "collation", "cross", "freeze", "grant", "is", "isnull", "join", "natural"),
    *("overlaps", "similar", "tablesample", "verbose", "select", "from", "where", "order", "group", "limit", "null"),
    *("true", "user", "all", "COLUMNS", "rows", "lake", "main", "r", "count", "sum", "project", "workspace", "job_id"),
    *("accepted_seq", "record_index", "submission", "_", "_1", "x" * 63, "excluded", "dataset_1", "jobs", "keys"),
    *("duckdb_tables", "now", "struct_pack", "pg_catalog", "binary", "concurrently", "full", "ilike", "inner", "outer"),
]


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API once: each test has a dataset of its own."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as served:
        with served.platform.ledger.transaction() as tx:
            for name in ("acme", "globex"):
                workspaces.put(tx, Workspace(name=name, projects=(PROJECT, "other")))
        yield served


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    """Hold a token of acme's control plane."""
    headers = site.bearer("datasets:admin", kind="pat")
    with httpx.Client(base_url=site.url, headers=headers, timeout=20) as opened:
        yield opened


def _make(
    site: Site,
    rows: Sequence[Mapping[str, object]] = (),
    *,
    fields: Mapping[str, str] | None = FIELDS,
    workspace: str = "acme",
    name: str,
) -> str:
    """Make a dataset with rows in the lake; the path at which it is asked."""
    with site.platform.ledger.transaction() as tx:
        made = registry.create(tx, workspace=workspace, project=PROJECT, name=name, description="")
        if fields is not None:
            registry.register_schema(tx, made, fields)
        found = registry.find(tx, workspace=workspace, project=PROJECT, dataset_id=made.id)
    assert found is not None
    shape = shape_of(found)
    if shape is not None and rows:
        site.platform.warehouse.ensure([shape.table])
        kernel = {"context": "{}", "__accepted_seq": 1, "__workspace": workspace, "__job_id": "ds_job_1"}
        whole = [
            {**kernel, "__record_index": place, **{stored_name(name, prefix="__"): row[name] for name in row}}
            for place, row in enumerate(rows)
        ]
        columns = [each.name for each in columns_of(shape.table) if each.name in whole[0]]
        assert set(columns) == set(whole[0])
        listed = ", ".join(map(quoted, columns))
        with closing(site.platform.warehouse.session()) as session, session.seeing("sent", pa.Table.from_pylist(whole)):
            session.execute(f"INSERT INTO {rows_of(shape.table.name)} ({listed}) SELECT {listed} FROM sent")
    return f"/api/datasets/{PROJECT}/{made.id}/query"


def _order(country: str, amount: float, *, days: int = 0, active: bool = True) -> dict[str, object]:
    at = AT + timedelta(days=days)
    return {"timestamp": at, "country": country, "amount": amount, "active": active, "signup_at": at}


def _ask(client: httpx.Client, path: str, question: object, **headers: str) -> httpx.Response:
    return client.post(path, json=question, headers=headers)


def _data(client: httpx.Client, path: str, question: object) -> list[dict[str, object]]:
    answer = _ask(client, path, question)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


# Who may


def test_asking_needs_a_personal_token_and_its_scope(site: Site) -> None:
    path = _make(site, name="guarded")
    for headers, status in (
        ({}, 401),
        (site.bearer("datasets:admin"), 401),
        (site.bearer("datasets:write"), 401),
        (site.bearer("admin", kind="pat"), 403),
    ):
        answer = site.anyone.post(path, json={}, headers=headers)
        assert answer.status_code == status, headers
        assert list(answer.json()) == ["error"]


def test_what_is_somebody_elses_or_gone_or_without_a_schema_is_not_found(site: Site, client: httpx.Client) -> None:
    foreign = _make(site, [_order("RO", 1)], workspace="globex", name="theirs")
    bare = _make(site, fields=None, name="bare")
    mine = _make(site, [_order("RO", 1)], name="mine")
    gone = _make(site, [_order("RO", 1)], name="gone")
    assert client.delete(gone.removesuffix("/query")).status_code == 200
    nobodys = f"/api/datasets/{PROJECT}/999999/query"
    for path, error in (
        (foreign, "Dataset not found"),
        (nobodys, "Dataset not found"),
        (gone, "Dataset not found"),
        (mine.replace(PROJECT, "other"), "Dataset not found"),
        (mine.replace(PROJECT, "nobody"), "Project not found"),
        (bare, "Dataset schema not found"),
    ):
        answer = _ask(client, path, {"range": MAY})
        assert (answer.status_code, answer.json()) == (404, {"error": error}), path
    for dataset_id in ("0", "-1", "1.0", "x", "1%20OR%201=1"):
        answer = _ask(client, f"/api/datasets/{PROJECT}/{dataset_id}/query", {})
        assert (answer.status_code, answer.json()) == (400, {"error": "Invalid dataset ID"})


# What comes back


def test_a_question_is_answered_to_the_letter(site: Site, client: httpx.Client) -> None:
    path = _make(
        site,
        [_order("RO", 40.5), _order("DE", 1, days=1), _order("RO", 2, days=2), _order("RO", 9, active=False)],
        name="orders",
    )
    question = {
        "range": MAY,
        "select": [
            {"field": "country"},
            {"aggregate": "sum", "field": "amount", "as": "total"},
            {"aggregate": "count", "as": "orders"},
            {"aggregate": "max", "field": "signup_at"},
        ],
        "where": [{"field": "active", "op": "=", "value": True}],
        "groupBy": ["country"],
        "orderBy": [{"field": "total", "direction": "desc"}],
        "limit": 100,
    }
    answer = _ask(client, path, question)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.text == (
        '{"data":[{"country":"RO","total":42.5,"orders":2,"max_signup_at":"2026-05-08T10:15:00.441Z"},'
        '{"country":"DE","total":1.0,"orders":1,"max_signup_at":"2026-05-07T10:15:00.441Z"}],'
        '"columns":[{"name":"country","type":"string"},{"name":"total","type":"number"},'
        '{"name":"orders","type":"number"},{"name":"max_signup_at","type":"timestamp"}],'
        '"range":{"from":"2026-05-01T00:00:00.000Z","to":"2026-06-01T00:00:00.000Z"}}'
    )


def test_a_dataset_to_which_nothing_was_sent_has_no_records(site: Site, client: httpx.Client) -> None:
    path = _make(site, name="empty")
    assert _data(client, path, {}) == [{"count": 0}]
    assert _data(client, path, {"select": [{"aggregate": "sum", "field": "amount"}]}) == [{"sum_amount": None}]
    assert _data(client, path, {"select": [{"field": "country"}]}) == []


def test_the_latest_records_come_first_and_no_more_than_asked_for(site: Site, client: httpx.Client) -> None:
    path = _make(site, [_order("RO", number, days=number % 3) for number in range(300)], name="many")
    asked = {"range": MAY, "select": [{"field": "timestamp"}, {"field": "amount"}]}
    found = _data(client, path, asked)
    assert [row["amount"] for row in found] == [float(number) for number in range(299, -1, -3)]
    assert found[0]["timestamp"] == "2026-05-08T10:15:00.441Z"
    assert len(_data(client, path, asked | {"limit": 7})) == 7
    assert len(_data(client, path, asked | {"limit": 1000})) == 300


def test_what_is_wrong_is_said_in_the_familys_envelope(site: Site, client: httpx.Client) -> None:
    path = _make(site, name="wrong")
    answer = _ask(client, path, {"where": [{"field": "country", "op": "like", "value": "%"}]})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith("Invalid query: where[0].op must be one of eq, ne, gt")
    answer = client.post(path, content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid JSON body"})


def test_an_answer_may_be_csv_that_no_spreadsheet_takes_for_formulas(site: Site, client: httpx.Client) -> None:
    path = _make(site, [_order("=cmd|' /C calc'!A0", -2.5), _order('a "b"\r\nc', 1, days=1)], name="csv")
    asked = {"range": MAY, "select": [{"field": each} for each in ("country", "amount", "active", "timestamp")]}
    answer = _ask(client, path, asked, Accept="text/csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(answer.text, newline=""))) == [
        ["country", "amount", "active", "timestamp"],
        ['a "b"\r\nc', "1.0", "true", "2026-05-07T10:15:00.441Z"],
        ["'=cmd|' /C calc'!A0", "-2.5", "true", "2026-05-06T10:15:00.441Z"],
    ]


def test_an_answer_may_be_an_arrow_stream_with_types(site: Site, client: httpx.Client) -> None:
    path = _make(site, [_order("RO", 1.5), _order("RO", 1.7e308), _order("RO", 1.7e308)], name="arrow")
    asked = {
        "range": MAY,
        "select": [{"aggregate": "count"}, {"aggregate": "sum", "field": "amount"}, {"field": "timestamp"}],
        "groupBy": ["timestamp"],
    }
    answer = _ask(client, path, asked, Accept="application/vnd.apache.arrow.stream")
    assert answer.headers["Content-Type"] == ARROW
    read = pl.read_ipc_stream(answer.content)
    assert read.schema == {"count": pl.Int64, "sum_amount": pl.Float64, "timestamp": pl.Datetime("us", "UTC")}
    # The sum is beyond all numbers, which no form has a word for.
    assert read.rows() == [(3, None, AT)]
    assert _data(client, path, asked) == [{"count": 3, "sum_amount": None, "timestamp": "2026-05-06T10:15:00.441Z"}]
    empty = _ask(client, path, asked | {"range": {}}, Accept="application/vnd.apache.arrow.stream")
    assert pl.read_ipc_stream(empty.content).schema == read.schema


def test_an_answer_of_any_size_is_not_given(site: Site, client: httpx.Client) -> None:
    path = _make(site, [_order("x" * 1_000_000, number) for number in range(10)], name="wide")
    answer = _ask(client, path, {"range": MAY, "select": [{"field": "country"}]})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Query is too costly: The answer has 10,0")
    assert _data(client, path, {"range": MAY, "select": [{"field": "country"}], "limit": 1})


def test_the_same_key_gets_the_same_answer_in_the_same_form(site: Site, client: httpx.Client) -> None:
    path = _make(site, [_order("RO", 1)], name="again")
    first = _ask(client, path, {"range": MAY}, **{"Idempotency-Key": "ask-1"})
    again = _ask(client, path, {"range": MAY}, **{"Idempotency-Key": "ask-1"})
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert first.json()["data"] == [{"count": 1}]
    other = _ask(client, path, {"range": MAY}, **{"Idempotency-Key": "ask-1", "Accept": "text/csv"})
    assert other.status_code == 422


# What is reachable


def test_fields_with_names_of_other_things_are_asked_as_any(site: Site, client: httpx.Client) -> None:
    # Enough rows for files, which lie in folders called __day=2026-05-06 and so on; the last ones stay in the catalog.
    rows = [
        {"timestamp": AT + timedelta(days=number % 3), **{name: f"{name}-{number % 5}" for name in HOSTILE}}
        for number in range(400)
    ]
    fields = dict.fromkeys(HOSTILE, "string")
    path = _make(site, rows, fields=fields, name="hostile")
    for begin in range(0, len(HOSTILE), 20):
        names = HOSTILE[begin : begin + 20]
        asked = {
            "range": MAY,
            "select": [*({"field": name} for name in names), {"aggregate": "count", "as": "n_"}],
            "where": [{"field": name, "op": "ne", "value": f"{name}-4"} for name in names],
            "groupBy": names,
            "orderBy": [{"field": name} for name in names],
        }
        assert _data(client, path, asked) == [
            {**{name: f"{name}-{number}" for name in names}, "n_": 80} for number in range(4)
        ]


@pytest.mark.parametrize(
    "value",
    [
        "' OR 1=1 --",
        '"; DROP TABLE lake.main.dataset_1; --',
        "\x00",
        "né\u202e\U0001f600",
        "x" * 10_000,
        "%",
        "$1",
        "\\",
    ],
)
def test_a_value_of_any_text_finds_the_records_that_have_it(site: Site, client: httpx.Client, value: str) -> None:
    path = _make(site, [_order(value, 1), _order("RO", 2)], name=f"value {value[:8].encode().hex()}")
    for op, operand in (("eq", value), ("in", [value]), ("contains", value), ("starts_with", value)):
        asked = {
            "range": MAY,
            "select": [{"field": "country"}],
            "where": [{"field": "country", "op": op, "value": operand}],
        }
        assert _data(client, path, asked) == [{"country": value}]


@pytest.mark.parametrize(
    "name",
    [
        *("context", "id", "ingested_at", "dataset_id", "project", "__workspace", "__job_id", "__traceId", "__rows"),
        *("*", "", "country; --", '"country"', "lake.main.dataset_1", "(SELECT 1)", "ds_job_1", "count(*)", "country "),
    ],
)
def test_nothing_but_declared_fields_has_a_name(site: Site, client: httpx.Client, name: str) -> None:
    path = _make(site, name=f"names {name or 'none'}")
    for question in (
        {"select": [{"field": name}]},
        {"select": [{"aggregate": "count", "field": name}]},
        {"where": [{"field": name, "op": "eq", "value": "ds_job_1"}]},
        {"groupBy": [name]},
        {"orderBy": [{"field": name}]},
    ):
        answer = _ask(client, path, question)
        assert answer.status_code == 400
        assert "which is no declared field and not timestamp" in answer.json()["error"]


def test_the_types_of_a_schema_are_those_that_can_be_asked() -> None:
    assert set(FIELDS.values()) == set(TYPES)
