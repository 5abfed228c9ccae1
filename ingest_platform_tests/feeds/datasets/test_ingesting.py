"""The ways in for records of datasets to the letter of their contract, over real HTTP and the real path behind them."""

import gzip
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import polars as pl
import pytest
import zstandard

from ingest_platform.api.services import Limits
from ingest_platform.app import create_app
from ingest_platform.domain.job import Job, JobState
from ingest_platform.feeds import discover
from ingest_platform.feeds.datasets import FEED, registry
from ingest_platform.feeds.datasets.ingest_declared import DATASET_ID_HEADER
from ingest_platform.feeds.datasets.schema import read_schema
from ingest_platform.feeds.datasets.standing import SECONDS_MAX
from ingest_platform.pipeline.files import land_file
from ingest_platform.storage import jobs, keys, quotas, workspaces
from ingest_platform.storage.warehouse import rows_of
from ingest_platform.storage.workspaces import Workspace
from ingest_platform_tests.making import at_once, open_stores
from ingest_platform_tests.pipeline.working import job_of, rejections_of, work
from ingest_platform_tests.serving import Site, fresh_database, listening, serving

PROJECT = "shop"
FIELDS = {"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
GOOD: Mapping[str, object] = {
    "timestamp": "2026-06-10T11:00:00Z",
    "context": {"plan": {"seats": 3}},
    "country": "RO",
    "amount": 20,
    "active": True,
    "signup_at": "2026-06-01T08:00:00Z",
}
BAD = GOOD | {"amount": "12.5"}
QUEUED = {"success": True, "status": "queued"}


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
    """Hold a key of a project of acme that may send and do nothing else."""
    with httpx.Client(base_url=site.url, headers=bearer(site), timeout=20) as opened:
        yield opened


def bearer(site: Site, *, project: str | None = PROJECT, workspace: str = "acme") -> dict[str, str]:
    new = keys.NewKey(workspace=workspace, scopes=(FEED.write_scope,), project=project)
    with site.platform.ledger.transaction() as tx:
        return {"Authorization": f"Bearer {keys.issue(tx, new).token}"}


def make(
    site: Site,
    name: str,
    *,
    fields: Mapping[str, str] | None = FIELDS,
    project: str = PROJECT,
    workspace: str = "acme",
) -> int:
    with site.platform.ledger.transaction() as tx:
        made = registry.create(tx, workspace=workspace, project=project, name=name, description="")
        if fields is not None:
            registry.register_schema(tx, made, fields)
    return made.id


@pytest.fixture
def dataset(site: Site, request: pytest.FixtureRequest) -> int:
    return make(site, request.node.name[:90])


def count_jobs(site: Site) -> int:
    with site.platform.ledger.connection() as tx:
        return jobs.count_jobs(tx, jobs.JobFilter(feed=FEED.name))


def worked(site: Site, answer: httpx.Response) -> Job:
    assert answer.status_code == 202, answer.text
    work(site.platform, FEED)
    return job_of(site.platform, answer.headers["Location"].removeprefix("/v1/jobs/"))


def rows(site: Site, dataset: int) -> list[dict[str, object]]:
    found = site.platform.warehouse.query(
        f"SELECT * FROM {rows_of(f'dataset_{dataset}')} ORDER BY __accepted_seq, __record_index"
    )
    return found.to_pylist()


def used(site: Site, workspace: str = "acme") -> int:
    with site.platform.ledger.connection() as tx:
        return quotas.usage(tx, workspace=workspace, feed=FEED.name).used


@pytest.mark.parametrize("path", ["/datasets", "/datasets/batch", "/datasets/1", "/datasets/1/batch"])
def test_each_way_in_needs_an_api_key_with_the_scope(site: Site, path: str) -> None:
    refused = site.anyone.post(path, json=GOOD)
    assert (refused.status_code, list(refused.json())) == (401, ["error"])
    pat = site.anyone.post(path, json=GOOD, headers=site.bearer("datasets:write", kind="pat"))
    assert pat.status_code == 401
    assert site.anyone.post(path, json=GOOD, headers=site.bearer("datasets:admin")).status_code == 403


def test_a_record_is_queued_and_becomes_a_row_with_the_requests_id(
    site: Site, client: httpx.Client, dataset: int
) -> None:
    answer = client.post(f"/datasets/{dataset}", json=GOOD, headers={"X-Request-Id": "trace-7"})
    assert (answer.status_code, answer.json()) == (202, QUEUED)
    assert worked(site, answer).created == 1
    (row,) = rows(site, dataset)
    assert row["__traceId"] == "trace-7"
    assert (row["project"], row["dataset_id"], row["country"], row["amount"]) == (PROJECT, dataset, "RO", 20.0)
    assert json.loads(str(row["context"])) == GOOD["context"]
    assert str(row["id"]).startswith("rec_")


def test_a_batch_is_queued_as_a_whole_or_not_at_all(site: Site, client: httpx.Client, dataset: int) -> None:
    answer = client.post(f"/datasets/{dataset}/batch", json=[GOOD, GOOD])
    assert (answer.status_code, answer.json()) == (202, {"success": True, "count": 2, "status": "queued"})
    before = count_jobs(site)
    refused = client.post(f"/datasets/{dataset}/batch", json=[GOOD, BAD, GOOD])
    assert (refused.status_code, refused.json()) == (
        400,
        {
            "error": "Invalid number field: amount",
            "index": 1,
            "errors": [
                {"index": 1, "field": "amount", "code": "invalid_type", "error": "Invalid number field: amount"}
            ],
        },
    )
    assert count_jobs(site) == before


def test_the_good_records_of_a_batch_are_taken_if_that_is_wished(
    site: Site, client: httpx.Client, dataset: int
) -> None:
    before = used(site)
    answer = client.post(f"/datasets/{dataset}/batch?on_error=continue", json=[GOOD, BAD, 7, GOOD])
    assert answer.json() == {
        "success": True,
        "count": 2,
        "status": "queued",
        "rejected": [
            {"index": 1, "field": "amount", "code": "invalid_type", "error": "Invalid number field: amount"},
            {"index": 2, "field": None, "code": "not_an_object", "error": "Payload must be an object"},
        ],
    }
    job = worked(site, answer)
    assert (job.received, job.accepted, job.rejected) == (4, 2, 2)
    assert [each.record_index for each in rejections_of(site.platform, job.id)] == [1, 2]
    assert used(site) - before == 2
    none = client.post(f"/datasets/{dataset}/batch?on_error=continue", json=[BAD])
    assert (none.status_code, none.json()["count"]) == (202, 0)
    assert client.post(f"/datasets/{dataset}/batch?on_error=perhaps", json=[GOOD]).status_code == 400


def test_the_legacy_routes_speak_of_the_default_dataset_or_of_the_one_in_the_header(site: Site) -> None:
    first, second = make(site, "first", workspace="globex"), make(site, "second", workspace="globex")
    foreign = make(site, "foreign", workspace="globex", project="other")
    headers = bearer(site, workspace="globex")

    def send(path: str, dataset: object = None) -> httpx.Response:
        said = {} if dataset is None else {DATASET_ID_HEADER: str(dataset)}
        body = [GOOD] if path.endswith("batch") else GOOD
        return site.anyone.post(path, json=body, headers=headers | said)

    answers = [send("/datasets"), send("/datasets/batch"), send("/datasets", second), send("/datasets/batch", second)]
    answers += [send(f"/datasets/{first}", first), send(f"/datasets/{second}/batch", second)]
    assert [answer.status_code for answer in answers] == [202] * 6
    targets = [job_of(site.platform, answer.headers["Location"].removeprefix("/v1/jobs/")).target for answer in answers]
    assert targets == [str(each) for each in (first, first, second, second, first, second)]
    for refused in (send(f"/datasets/{first}", second), send("/datasets", "x"), send(f"/datasets/{first}", "0")):
        assert (refused.status_code, refused.json()) == (400, {"error": "Invalid dataset ID"})
    assert send("/datasets", foreign).json() == {"error": "Dataset schema not found"}


def test_what_is_wrong_is_told_in_the_contracts_order(site: Site, client: httpx.Client, dataset: int) -> None:
    """Each body has all faults of the lines below, so that only the first may be told."""
    pending, foreign = make(site, "no schema yet", fields=None), make(site, "of globex", workspace="globex")
    nobodys = bearer(site, project=None)

    def error(path: str, body: bytes = b"{", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        said = {"Content-Type": "application/json", **(headers or {})}
        answer = client.post(f"/datasets/{path}", content=body, headers=said)
        return answer.status_code, answer.json()["error"]

    assert error("x", headers=nobodys) == (403, "Project not found in API token claims")
    for path in ("x", "0", "-1", "1.5", "%201", "9" * 30, f"{dataset}x/batch"):
        assert error(path) == (400, "Invalid dataset ID")
    for path in (pending, foreign, 999_999_999, f"{foreign}/batch"):
        assert error(str(path)) == (404, "Dataset schema not found")
    assert error(str(dataset)) == (400, "Invalid JSON body")
    assert error(f"{dataset}/batch") == (400, "Invalid JSON body")
    assert error(str(dataset), b"[]") == (400, "Payload must be an object")
    assert error(f"{dataset}/batch", b"{}") == (400, "Batch body must be a non-empty array")
    wrong: dict[str, object] = {"extra": 1, "country": None, "active": 1, "signup_at": "2026-06-01"}
    told = [
        ({}, "Invalid or missing timestamp"),
        ({"timestamp": "2026-06-10T11:00:00"}, "Invalid or missing timestamp"),
        ({"timestamp": GOOD["timestamp"]}, "context must be an object"),
        ({"context": {}}, "Extra field: extra"),
        ({"extra": None}, "Missing field: amount"),
        ({"amount": 2**53 + 1}, "Invalid string field: country"),
        ({"country": "RO"}, "Invalid number field: amount"),
        ({"amount": 2**53}, "Invalid boolean field: active"),
        ({"active": False}, "Invalid timestamp field: signup_at"),
    ]
    for better, said in told:
        wrong |= better
        if better == {"extra": None}:
            del wrong["extra"]
        answer = client.post(f"/datasets/{dataset}", json=wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, said)
        assert answer.json()["errors"][0]["error"] == said
    wrong["signup_at"] = GOOD["signup_at"]
    assert client.post(f"/datasets/{dataset}", json=wrong).status_code == 202


def test_all_that_is_wrong_with_a_record_is_told(client: httpx.Client, dataset: int) -> None:
    answer = client.post(f"/datasets/{dataset}", json={"timestamp": 1, "b": 1, "country": 1, "active": True})
    shown = answer.json()
    assert shown["error"] == "Invalid or missing timestamp"
    assert "index" not in shown
    assert [(each["field"], each["code"]) for each in shown["errors"]] == [
        ("timestamp", "invalid_type"),
        ("context", "missing_field"),
        ("b", "extra_field"),
        ("amount", "missing_field"),
        ("signup_at", "missing_field"),
        ("country", "invalid_type"),
    ]
    assert all("index" not in each for each in shown["errors"])


def test_a_dataset_that_was_deleted_takes_nothing_more(site: Site, client: httpx.Client, dataset: int) -> None:
    assert client.post(f"/datasets/{dataset}", json=GOOD).status_code == 202
    pat = site.bearer("datasets:admin", kind="pat")
    assert httpx.delete(f"{site.url}/api/datasets/{PROJECT}/{dataset}", headers=pat).status_code == 200
    assert client.post(f"/datasets/{dataset}", json=GOOD).status_code == 404
    work(site.platform, FEED)


def test_a_dataset_that_another_process_deleted_takes_nothing_more_after_a_second(
    site: Site, client: httpx.Client, dataset: int
) -> None:
    assert client.post(f"/datasets/{dataset}", json=GOOD).status_code == 202
    with site.platform.ledger.transaction() as tx:
        found = registry.find(tx, workspace="acme", project=PROJECT, dataset_id=dataset)
        assert found is not None
        registry.delete(tx, found)
    time.sleep(SECONDS_MAX)
    assert client.post(f"/datasets/{dataset}", json=GOOD).status_code == 404
    work(site.platform, FEED)


def test_a_body_may_be_compressed_and_is_bounded(site: Site, client: httpx.Client, dataset: int) -> None:
    path = f"/datasets/{dataset}/batch"
    body = json.dumps([GOOD] * 2_000).encode()
    for encoding, packed in (("gzip", gzip.compress(body)), ("zstd", zstandard.compress(body))):
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        answer = client.post(path, content=packed, headers=headers)
        assert answer.json()["count"] == 2_000, answer.text
        bomb = gzip.compress(b" " * 6_000_000) if encoding == "gzip" else zstandard.compress(b" " * 6_000_000)
        assert client.post(path, content=bomb, headers=headers).status_code == 413
    assert worked(site, answer).accepted == 2_000
    large = client.post(path, content=b" " * 5_242_881, headers={"Content-Type": "application/json"})
    assert (large.status_code, list(large.json())) == (413, ["error"])
    assert client.post(path, content=body, headers={"Content-Type": "text/csv"}).status_code == 415


def test_a_dry_run_says_the_same_and_stores_nothing(site: Site, client: httpx.Client, dataset: int) -> None:
    before = count_jobs(site), used(site)
    assert client.post(f"/datasets/{dataset}?dry_run=true", json=GOOD).json() == {**QUEUED, "dry_run": True}
    answer = client.post(f"/datasets/{dataset}/batch?dry_run=true&on_error=continue", json=[GOOD, BAD])
    assert (answer.status_code, answer.json()["count"], len(answer.json()["rejected"])) == (200, 1, 1)
    assert client.post(f"/datasets/{dataset}?dry_run=true", json=BAD).status_code == 400
    assert (count_jobs(site), used(site)) == before


def test_a_repetition_under_a_key_gets_the_first_answer(site: Site, client: httpx.Client, dataset: int) -> None:
    other = make(site, "another one to send to")
    headers = {"Idempotency-Key": f"key-{dataset}"}
    first = client.post(f"/datasets/{dataset}", json=GOOD, headers=headers)
    before = count_jobs(site), used(site)
    again = client.post(f"/datasets/{dataset}", json=GOOD, headers=headers)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert client.post(f"/datasets/{dataset}", json=GOOD | {"amount": 1}, headers=headers).status_code == 422
    assert client.post(f"/datasets/{other}", json=GOOD, headers=headers).status_code == 422
    with site.platform.ledger.transaction() as tx:
        found = registry.find(tx, workspace="acme", project=PROJECT, dataset_id=dataset)
        assert found is not None
        registry.delete(tx, found)
    assert client.post(f"/datasets/{dataset}", json=GOOD, headers=headers).content == first.content
    assert (count_jobs(site), used(site)) == before


def test_a_batch_that_does_not_fit_into_the_quota_is_refused_whole(site: Site) -> None:
    with site.platform.ledger.transaction() as tx:
        workspaces.put(tx, Workspace(name="tight", projects=(PROJECT,), quotas={FEED.name: 3}))
    dataset, headers = make(site, "tight", workspace="tight"), bearer(site, workspace="tight")
    path = f"/datasets/{dataset}/batch"
    assert site.anyone.post(path, json=[GOOD] * 2, headers=headers).status_code == 202
    refused = site.anyone.post(path, json=[GOOD] * 2, headers=headers)
    assert refused.status_code == 429
    shown = refused.json()
    assert shown["error"] == "Dataset quota exceeded"
    assert list(shown["quota"]) == ["limit", "used", "remaining", "requested", "period", "resets_at"]
    assert [shown["quota"][name] for name in ("limit", "used", "remaining", "requested")] == [3, 2, 1, 2]
    assert 0 < int(refused.headers["Retry-After"]) <= 31 * 86_400
    # Bad records cost nothing, whether they are refused or left out.
    assert site.anyone.post(path, json=[BAD], headers=headers).status_code == 400
    kept = site.anyone.post(f"{path}?on_error=continue", json=[BAD, GOOD, BAD], headers=headers)
    assert (kept.status_code, used(site, "tight")) == (202, 3)
    assert site.anyone.post(f"/datasets/{dataset}", json=GOOD, headers=headers).status_code == 429


@pytest.fixture
def two_services(server_url: str, template: str, tmp_path: Path) -> Iterator[tuple[Site, Sequence[str]]]:
    """Serve one database twice; the first service, and the addresses of both."""
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(server_url, template))
        first = stack.enter_context(serving(url, tmp_path))
        platform = open_stores(url, tmp_path)
        stack.callback(platform.close)
        app = create_app(feeds=discover(), platform=platform, limits=Limits(disk_free_bytes_min=1))
        host, port = stack.enter_context(listening(app))
        yield first, (first.url, f"http://{host}:{port}")


def told_of(client: httpx.Client, path: str, size: int, *, key: str) -> int:
    """Send a batch until it is known what became of it: a busy machine answers in time that it can't."""
    for _ in range(60):
        status = client.post(path, json=[GOOD] * size, headers={"Idempotency-Key": key}).status_code
        if status not in {409, 503}:
            return status
        time.sleep(0.5)
    return 503


def test_fifty_clients_of_two_services_never_take_one_record_too_many(
    two_services: tuple[Site, Sequence[str]],
) -> None:
    site, urls = two_services
    most = 500
    with site.platform.ledger.transaction() as tx:
        quota, rates = {FEED.name: most}, {FEED.name: 1_000_000}
        workspaces.put(tx, Workspace(name="acme", projects=(PROJECT,), quotas=quota, rate_limits=rates))
    dataset, headers = make(site, "orders"), bearer(site)
    path = f"/datasets/{dataset}/batch"

    def send(number: int) -> list[tuple[int, int]]:
        # Sizes that do not divide the limit, so that the last ones have to fit exactly or not at all.
        sizes = [1 + (number + turn) % 7 for turn in range(4)]
        with httpx.Client(base_url=urls[number % 2], headers=headers, timeout=60) as client:
            return [(size, told_of(client, path, size, key=f"{number}-{turn}")) for turn, size in enumerate(sizes)]

    told = [each for several in at_once(send, times=50) for each in several]
    assert {status for _, status in told} == {202, 429}
    granted = sum(size for size, status in told if status == 202)
    # What is left over is less than the smallest batch that was refused.
    assert most - min(size for size, status in told if status == 429) < granted <= most
    assert used(site) == granted
    work(site.platform, FEED)
    assert len(rows(site, dataset)) == granted


def drop(site: Site, dataset: int, path: Path) -> Job:
    job_id = land_file(site.platform, FEED, "acme", path, target=str(dataset))
    work(site.platform, FEED)
    return job_of(site.platform, job_id)


@pytest.mark.parametrize("form", ["ndjson", "json", "csv", "parquet"])
def test_a_file_of_each_form_is_held_to_the_same_schema(site: Site, dataset: int, tmp_path: Path, form: str) -> None:
    good = {**GOOD, "context": {}}
    records = [good, {**good, "amount": None}, {**good, "amount": 7.5}]
    path, before = tmp_path / f"orders.{form}", used(site)
    flat = pl.DataFrame([{**record, "context": "{}"} for record in records], infer_schema_length=None, strict=False)
    if form == "parquet":
        flat.write_parquet(path)
    elif form == "csv":
        flat.write_csv(path)
    else:
        texts = [json.dumps(record) for record in records]
        path.write_text("\n".join(texts) if form == "ndjson" else f"[{','.join(texts)}]")
    job = drop(site, dataset, path)
    assert (job.state, job.received, job.accepted, job.rejected) == (JobState.FINISHED, 3, 2, 1), job.error_message
    (rejection,) = rejections_of(site.platform, job.id)
    assert (rejection.record_index, rejection.problems[0].field) == (1, "amount")
    assert [row["amount"] for row in rows(site, dataset)] == [20.0, 7.5]
    assert used(site) - before == 2


def test_names_that_the_kernel_has_for_itself_are_taken_by_file_and_by_http(
    site: Site, client: httpx.Client, tmp_path: Path
) -> None:
    names = ["submission", "Record_Index", "workspace", "accepted_seq", "rowid", "project", "job_id", "key_hash"]
    dataset = make(site, "hostile names", fields=dict.fromkeys(names, "string"))
    record = {"timestamp": GOOD["timestamp"], "context": {}, **{name: f"its {name}" for name in names}}
    assert worked(site, client.post(f"/datasets/{dataset}", json=record)).accepted == 1
    path = tmp_path / "hostile.csv"
    pl.DataFrame([{**record, "context": "{}"}]).write_csv(path)
    assert drop(site, dataset, path).accepted == 1
    for row in rows(site, dataset):
        assert {name: row[name] for name in names} == {name: record[name] for name in names}
        assert row["__project"] == PROJECT


@pytest.mark.corpus
def test_the_taxis_come_by_file_and_by_http_alike(
    site: Site, client: httpx.Client, shared: Path, tmp_path: Path
) -> None:
    source = shared / "data" / "taxis.ndjson"
    fields = read_schema((shared / "data" / "taxis.schema.json").read_bytes())
    by_file, by_http = (make(site, f"taxis by {way}", fields=fields) for way in ("file", "http"))
    path = tmp_path / "taxis.ndjson"
    path.write_bytes(source.read_bytes())
    job = drop(site, by_file, path)
    lines = source.read_bytes().splitlines()
    rejected: list[tuple[int, str]] = []
    for begin in range(0, len(lines), 2_000):
        part = b"[" + b",".join(lines[begin : begin + 2_000]) + b"]"
        answer = client.post(
            f"/datasets/{by_http}/batch?on_error=continue",
            content=gzip.compress(part),
            headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
        )
        assert answer.status_code == 202, answer.text
        rejected += [(begin + each["index"], each["error"]) for each in answer.json()["rejected"]]
    work(site.platform, FEED)
    read = pl.read_ndjson(source, infer_schema_length=None)
    nulls = read.select(pl.any_horizontal(pl.col(list(fields)).is_null()).alias("bad"))["bad"]
    assert [index for index, _ in rejected] == nulls.arg_true().to_list()
    assert {error for _, error in rejected} <= {f"Invalid {kind} field: {name}" for name, kind in fields.items()}
    assert (job.received, job.rejected) == (read.height, len(rejected))
    numbers = [name for name, kind in fields.items() if kind == "number"]
    expected = read.filter(~nulls).select(pl.len().alias("n"), *(pl.col(name).sum() for name in numbers)).row(0)
    sums = ", ".join(f'sum("{name}")' for name in numbers)
    for dataset in (by_file, by_http):
        found = site.platform.warehouse.query(f"SELECT count(*), {sums} FROM {rows_of(f'dataset_{dataset}')}")
        assert [column[0].as_py() for column in found.columns] == pytest.approx(list(expected), rel=1e-12)
