"""The machine-data API to the letter of its contract, over real HTTP and the real path behind it."""

import csv
import gzip
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ingest_platform.api.services import Limits
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import workspaces
from ingest_platform_tests.serving import (
    CONFIG,
    FOREIGN_CONFIG,
    OTHER_SITE_CONFIG,
    Site,
    fresh_database,
    serving,
)

IMPORT = "/v1/machine-data/import-jobs"
BATCH = "/v1/machine-data/batch"
POINTS = "/v1/machine-data/points"
EIGHT = [
    *("job_id", "status", "items_received", "items_accepted", "items_rejected", "errors", "created_at", "finished_at"),
]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """Serve the whole API."""
    with serving(database_url, tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def shared_site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API to tests that store nothing of interest."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as site:
        yield site


def _item(value: object = 1.5, *, minute: int = 15, config: object = CONFIG) -> dict[str, object]:
    return {"timestamp": f"2026-05-06T10:{minute:02}:00Z", "machine_data_point_config_id": config, "value": value}


def _work(site: Site) -> None:
    work_until_idle(site.platform, FEED, day=None, run_id="run", linger_seconds=0)


def _finish(site: Site, job_id: str) -> dict[str, object]:
    _work(site)
    shown = site.client.get(f"{IMPORT}/{job_id}").json()
    assert shown["status"] in {"finished", "failed"}
    return shown


def test_an_import_job_has_exactly_eight_keys_from_its_acceptance_to_its_end(site: Site) -> None:
    bad = [_item("x"), {"timestamp": "x"}, 7, _item(config=FOREIGN_CONFIG), _item(config="mdp_no")]
    answer = site.client.post(IMPORT, json={"items": [_item(), *bad, _item(2, minute=16)], "more": True})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"{IMPORT}/{job['job_id']}"
    assert list(job) == EIGHT
    assert (job["status"], job["items_received"], job["finished_at"]) == ("accepted", 7, None)
    ended = _finish(site, job["job_id"])
    assert list(ended) == EIGHT
    assert (ended["items_received"], ended["items_accepted"], ended["items_rejected"]) == (7, 2, 5)
    assert ended["created_at"] == job["created_at"]
    assert [(error["index"], error["code"], error["param"]) for error in ended["errors"]] == [
        (1, "invalid_type", "items[1].value"),
        (2, "invalid_timestamp", "items[2].timestamp"),
        (3, "not_an_object", "items[3]"),
        (4, "not_found", "items[4].machine_data_point_config_id"),
        (5, "not_found", "items[5].machine_data_point_config_id"),
    ]
    assert ended["errors"][0]["machine_data_point_config_id"] == CONFIG
    assert ended["errors"][0]["timestamp"] == "2026-05-06T10:15:00Z"
    assert set(ended["errors"][2]) == {
        *("index", "code", "param", "message", "machine_data_point_config_id", "timestamp"),
    }
    assert ended["errors"][3]["message"] == ended["errors"][4]["message"]


def test_a_job_without_rejections_has_no_errors(site: Site) -> None:
    job_id = site.client.post(IMPORT, json={"items": [_item()]}).json()["job_id"]
    assert _finish(site, job_id)["errors"] is None


def test_more_than_a_thousand_errors_are_cut_and_that_is_said(site: Site) -> None:
    job_id = site.client.post(IMPORT, json={"items": [_item("x")] * 1001}).json()["job_id"]
    ended = _finish(site, job_id)
    assert (len(ended["errors"]), ended["errors_truncated"], ended["items_rejected"]) == (1000, True, 1001)
    records = site.client.get(f"/v1/jobs/{job_id}/records?outcome=rejected&limit=1").json()
    assert records["page"]["total"] == 1001


@pytest.mark.parametrize("path", [IMPORT, BATCH])
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"items":[{}]}x', 400, "invalid_json"),
        (b"{'items':[]}", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"null", 422, "invalid_type"),
        (b"7", 422, "invalid_type"),
        (b'"items"', 422, "invalid_type"),
        (b"[{}]", 422, "invalid_type"),
        (b"{}", 422, "missing_field"),
        (b'{"item":[]}', 422, "missing_field"),
        (b'{"items":null}', 422, "invalid_type"),
        (b'{"items":{}}', 422, "invalid_type"),
        (b'{"items":[]}', 422, "empty"),
        (b'{"items":[1],"items":[2]}', 422, "duplicate_key"),
    ],
)
def test_a_body_of_another_shape_is_refused_whole(
    shared_site: Site, path: str, content: bytes, status: int, code: str
) -> None:
    answer = shared_site.client.post(path, content=content, headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "validation_error"), answer.text
    assert error["code"] in {code, "too_deep"}
    assert error["request_id"] == answer.headers["X-Request-Id"] == answer.headers["Cula-Request-Id"]


def test_a_byte_order_mark_before_a_body_changes_nothing(shared_site: Site) -> None:
    for content, status, code in (
        (b'{"items":[1]}', 202, None),
        (b"[]", 422, "invalid_type"),
        (b"{", 400, "invalid_json"),
    ):
        answer = shared_site.client.post(IMPORT, content=b"\xef\xbb\xbf" + content, headers=JSON)
        assert answer.status_code == status, content
        assert answer.json().get("error", {}).get("code") == code


def test_items_that_cannot_be_read_are_no_objects_and_the_jobs_records_say_what_they_are(site: Site) -> None:
    lines = [b'{"value":', b'{"a":"\\ud800"}', b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"]
    headers = {"Content-Type": "application/x-ndjson"}
    job_id = site.client.post(IMPORT, content=b"\n".join(lines), headers=headers).json()["job_id"]
    assert {error["code"] for error in _finish(site, job_id)["errors"]} == {"not_an_object"}
    records = site.client.get(f"/v1/jobs/{job_id}/records").json()["data"]
    assert [record["reasons"][0]["code"] for record in records] == ["invalid_json", "invalid_json", "too_deep"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/xml", "application/json-seq", "*/*"])
def test_another_content_type_is_415(shared_site: Site, content_type: str) -> None:
    answer = shared_site.client.post(IMPORT, content=b"{}", headers={"Content-Type": content_type})
    assert answer.status_code == 415
    assert shared_site.client.post(BATCH, content=b"a,b\n", headers={"Content-Type": "text/csv"}).status_code == 415


def _rows() -> list[dict[str, object]]:
    return [_item(float(minute), minute=minute) for minute in range(3)]


def _ndjson() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in _rows())


def _csv() -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_rows()[0]))
    writer.writeheader()
    writer.writerows(_rows())
    return text.getvalue().encode()


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_rows()), out)
    return out.getvalue()


def _envelope() -> bytes:
    return json.dumps({"items": _rows()}).encode()


STREAMS = {
    "application/x-ndjson": _ndjson,
    "text/csv; charset=utf-8": _csv,
    "application/vnd.apache.parquet": _parquet,
}
FILES = {"a.json": _envelope, "b.ndjson": _ndjson, "c.jsonl": _ndjson, "d.csv": _csv, "e.parquet": _parquet}


def test_the_same_records_end_alike_in_every_format(site: Site) -> None:
    jobs: list[str] = []
    for content_type, make in STREAMS.items():
        answer = site.client.post(IMPORT, content=make(), headers={"Content-Type": content_type})
        assert (answer.status_code, answer.json()["items_received"]) == (202, None)
        jobs.append(answer.json()["job_id"])
    for name, make in FILES.items():
        for suffix, compress in (("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress)):
            answer = site.client.post(IMPORT, files={"file": (name + suffix, compress(make()))})
            assert answer.status_code == 202, answer.text
            jobs.append(answer.json()["job_id"])
    for job_id in jobs:
        ended = _finish(site, job_id)
        assert (ended["status"], ended["items_received"], ended["items_accepted"]) == ("finished", 3, 3), ended
    file = site.client.get(f"/v1/jobs/{jobs[3]}").json()["file"]
    assert file["name"] == "a.json"
    assert len(file["sha256"]) == 64
    assert site.client.get(POINTS).json()["page"]["total"] == 3


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ([("other", ("a.csv", b"x"))], 422, "missing_field"),
        ([("file", ("a.csv", b"x")), ("file", ("b.csv", b"y"))], 422, "too_many_files"),
        ([("file", ("a.exe", b"x"))], 415, "unsupported_media_type"),
        ([("file", ("a.csv", b""))], 422, "empty"),
        ([("file", ("a.csv.gz", b"no gzip"))], 400, "invalid_encoding"),
    ],
)
def test_a_form_without_exactly_one_readable_file_is_refused(
    shared_site: Site, files: list[tuple[str, tuple[str, bytes]]], status: int, code: str
) -> None:
    answer = shared_site.client.post(IMPORT, files=files)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=b", b""),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nx',
        ),
        ("multipart/form-data; boundary=b", b"no form at all"),
    ],
)
def test_a_broken_form_is_400(shared_site: Site, content_type: str, content: bytes) -> None:
    answer = shared_site.client.post(IMPORT, content=content, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_multipart")


def test_a_file_that_can_not_be_read_fails_its_job_with_one_error_and_a_reason(site: Site) -> None:
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    job_id = site.client.post(IMPORT, content=b"PAR1 no parquet", headers=headers).json()["job_id"]
    ended = _finish(site, job_id)
    assert ended["status"] == "failed"
    (error,) = ended["errors"]
    assert error["index"] is None
    assert error["message"]


def test_a_batch_is_all_or_nothing_and_names_every_bad_item(site: Site) -> None:
    good = site.client.post(BATCH, json={"items": [_item(minute=minute % 60) for minute in range(200)]})
    assert (good.status_code, good.json()) == (
        200,
        {"items_received": 200, "items_accepted": 200, "items_rejected": 0},
    )
    too_many = site.client.post(BATCH, json={"items": [_item()] * 201})
    assert (too_many.status_code, too_many.json()["error"]["code"]) == (422, "too_many_items")
    bad = site.client.post(BATCH, json={"items": [_item(99), _item(True), _item(config=FOREIGN_CONFIG), _item("1")]})  # noqa: FBT003
    assert bad.status_code == 422
    assert [(each["code"], each["param"]) for each in bad.json()["error"]["details"]] == [
        ("invalid_type", "items[1].value"),
        ("not_found", "items[2].machine_data_point_config_id"),
        ("invalid_type", "items[3].value"),
    ]
    _work(site)
    points = site.client.get(POINTS).json()
    assert points["page"]["total"] == 60
    assert {point["raw_value"] for point in points["data"]} == {1.5}
    assert {point["value"] for point in points["data"]} == {3.0}


def test_a_dry_run_gives_the_same_verdicts_and_stores_nothing(site: Site) -> None:
    body = {"items": [_item(), _item("x"), _item(config=FOREIGN_CONFIG)]}
    tried = site.client.post(f"{IMPORT}?dry_run=true", json=body)
    assert tried.status_code == 200
    assert list(tried.json()) == [*EIGHT, "dry_run"]
    job_id = site.client.post(f"{IMPORT}?dry_run=false", json=body).json()["job_id"]
    ended = _finish(site, job_id)
    for name in ("status", "items_received", "items_accepted", "items_rejected", "errors"):
        assert tried.json()[name] == ended[name]
    stream = site.client.post(f"{IMPORT}?dry_run=true", content=_csv(), headers={"Content-Type": "text/csv"})
    assert (stream.json()["items_accepted"], stream.json()["dry_run"]) == (3, True)
    broken = site.client.post(f"{IMPORT}?dry_run=true", files={"file": ("a.parquet", b"x")})
    assert (broken.json()["status"], broken.json()["errors"][0]["index"]) == ("failed", None)
    batch = site.client.post(f"{BATCH}?dry_run=true", json={"items": [_item()]})
    assert batch.json() == {"items_received": 1, "items_accepted": 1, "items_rejected": 0, "dry_run": True}
    assert site.client.get("/v1/jobs").json()["page"]["total"] == 1
    assert list(site.platform.blobs.list()) == []


def test_a_key_of_some_sites_neither_writes_to_nor_reads_of_the_others(site: Site) -> None:
    limited = {"Authorization": f"Bearer {site.key(sites=['plant-a']).token}"}
    body = {"items": [_item(), _item(config=OTHER_SITE_CONFIG)]}
    refused = site.anyone.post(BATCH, json=body, headers=limited)
    assert [each["code"] for each in refused.json()["error"]["details"]] == ["not_found"]
    site.client.post(IMPORT, json=body)
    theirs = site.anyone.post(IMPORT, json=body, headers=limited).json()["job_id"]
    assert _finish(site, theirs)["items_accepted"] == 1
    seen = site.anyone.get(POINTS, headers=limited).json()["data"]
    assert {point["machine_data_point_config_id"] for point in seen} == {CONFIG}
    other = site.anyone.get(POINTS, params={"config_id": OTHER_SITE_CONFIG}, headers=limited).json()
    assert other["data"] == []
    for path, expected in (("/v1/sites", 1), ("/v1/machines", 1), ("/v1/machine-data-point-configs", 1)):
        assert site.anyone.get(path, headers=limited).json()["page"]["total"] == expected
        assert site.client.get(path).json()["page"]["total"] == 2
    assert site.client.get("/v1/machine-data-point-configs?machine=kiln-2").json()["data"][0]["site"] == "plant-b"


def test_points_are_read_by_instant_and_paged(site: Site) -> None:
    site.client.post(IMPORT, json={"items": [_item(minute, minute=minute) for minute in range(10)]})
    site.client.post(
        IMPORT, json={"items": [_item(minute, minute=minute, config=OTHER_SITE_CONFIG) for minute in range(5)]}
    )
    _work(site)
    seen: list[tuple[str, str]] = []
    cursor: str | None = None
    while True:
        params = {"limit": 4, **({"cursor": cursor} if cursor else {})}
        page = site.client.get(POINTS, params=params).json()
        seen += [(point["timestamp"], point["machine_data_point_config_id"]) for point in page["data"]]
        cursor = page["page"]["next_cursor"]
        if not page["page"]["has_more"]:
            break
    assert seen == sorted(set(seen))
    assert (len(seen), page["page"]["total"]) == (15, 15)
    assert set(page["data"][0]) == {
        *("timestamp", "machine_data_point_config_id", "value", "raw_value", "config_version", "job_id"),
    }
    span = {"config_id": CONFIG, "from": "2026-05-06T12:02:00+02:00", "to": "2026-05-06T10:05:00Z"}
    ranged = site.client.get(POINTS, params=span).json()["data"]
    assert [point["raw_value"] for point in ranged] == [2.0, 3.0, 4.0]
    assert ranged[0]["timestamp"] == "2026-05-06T10:02:00.000Z"
    for query in ("limit=10001", "limit=0", "from=2026-05-06", "config_id=x", "cursor=x"):
        assert site.client.get(f"{POINTS}?{query}").status_code == 400


@pytest.mark.parametrize("root", ["/tracking/v1/machine-data", "/tracking/v1/v1/machine-data"])
def test_the_older_paths_behave_alike(shared_site: Site, root: str) -> None:
    answer = shared_site.client.post(f"{root}/import-jobs", json={"items": [_item()]})
    assert answer.status_code == 202
    assert "Cula-Request-Id" in answer.headers
    shown = shared_site.client.get(f"{root}/import-jobs/{answer.json()['job_id']}")
    assert shown.json() == answer.json()
    assert shared_site.client.post(f"{root}/batch", json={"items": [_item()]}).status_code == 200
    assert shared_site.client.get(f"{root}/points").status_code == 200
    assert shared_site.client.get(f"{root}/nothing").headers["Cula-Request-Id"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_that_items_error_alone(site: Site, value: float) -> None:
    content = json.dumps({"items": [_item(), _item(value)]}).encode()
    job_id = site.client.post(IMPORT, content=content, headers=JSON).json()["job_id"]
    ended = _finish(site, job_id)
    assert (ended["items_accepted"], ended["items_rejected"]) == (1, 1)


@pytest.mark.corpus
def test_no_document_of_a_hostile_corpus_causes_a_5xx(shared: Path, shared_site: Site) -> None:
    documents = sorted((shared / "corpus" / "JSONTestSuite").glob("test_*/*.json"))
    if not documents:
        pytest.skip("the JSON corpus is absent")
    with shared_site.platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", rate_limits={"machine_data": 1_000_000}))
    valid = 0
    for document in documents:
        content = document.read_bytes()
        for path in (IMPORT, BATCH):
            for sent in (content, b'{"items":[' + content + b"]}", b'{"items":' + content + b"}"):
                answer = shared_site.client.post(path, content=sent, headers=JSON)
                assert answer.status_code in {200, 202, 400, 422}, (document.name, answer.status_code, answer.text)
                valid += answer.status_code == 202
    assert valid > 100


def test_a_body_over_its_limit_is_413_but_a_stream_may_be_larger(database_url: str, tmp_path: Path) -> None:
    limits = Limits(body_bytes_max=2_000, upload_bytes_max=100_000, disk_free_bytes_min=1)
    with serving(database_url, tmp_path, limits=limits) as site:
        items = [_item()] * 100
        assert site.client.post(IMPORT, json={"items": items}).status_code == 413
        lines = b"".join(json.dumps(item).encode() + b"\n" for item in items)
        headers = {"Content-Type": "application/x-ndjson"}
        assert site.client.post(IMPORT, content=lines, headers=headers).status_code == 202
        assert site.client.post(IMPORT, content=lines * 20, headers=headers).status_code == 413
        assert site.client.post(IMPORT, files={"file": ("a.ndjson", lines * 20)}).status_code == 413
