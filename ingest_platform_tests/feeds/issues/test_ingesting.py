"""The ingest routes to the letter of their contract, over real HTTP and the real path behind them."""

import gzip
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import zstandard

from ingest_platform.api.services import Limits
from ingest_platform.domain.ids import is_id
from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.identity import identify
from ingest_platform.feeds.issues.sources import SOURCES
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import jobs, workspaces
from ingest_platform.storage.warehouse import rows_of
from ingest_platform_tests.serving import Site, fresh_database, serving

EVENTS = "/v1/ingest/events"
BATCH = "/v1/ingest/batch"
JIRA = "/v1/ingest/jira/issues"
STATUS = "/v1/ingest/status"
LIMIT = 5 * 1024 * 1024
# A body that each route takes.
BODIES: Mapping[str, Mapping[str, object]] = {
    EVENTS: {"title": "Disk full"},
    BATCH: {"records": [{"external_id": "A-1", "source": "jira", "title": "t"}]},
    **{f"/v1/ingest/{name}/issues": source.example for name, source in SOURCES.items()},
}


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API once: the tests use ids of their own."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as served:
        yield served


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    """Hold a key that may send and do nothing else."""
    with httpx.Client(base_url=site.url, headers=site.bearer("ingest:write"), timeout=20) as opened:
        yield opened


def _record(**members: object) -> dict[str, object]:
    return {"external_id": f"X-{uuid.uuid4()}", "source": "jira", "title": "It fails", **members}


def _error(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    shown = answer.json()
    assert list(shown) == ["error"]
    error = shown["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["trace_id"] == answer.headers["X-Request-Id"]
    assert set(error) <= {"code", "message", "trace_id", "details"}
    return error


def _work(site: Site) -> None:
    work_until_idle(site.platform, FEED, day=None, run_id="run", linger_seconds=0)


def _status(client: httpx.Client, job_id: object) -> dict[str, object]:
    answer = client.get(f"{STATUS}/{job_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def _count_jobs(site: Site) -> int:
    with site.platform.ledger.connection() as tx:
        return jobs.count_jobs(tx, jobs.JobFilter(feed=FEED.name))


# Who may


@pytest.mark.parametrize("path", BODIES)
def test_sending_needs_a_token_of_the_right_kind_and_the_scope(site: Site, path: str) -> None:
    body = BODIES[path]
    _error(site.anyone.post(path, json=body), 401, "unauthorized")
    bad = {"Authorization": "Bearer ing_live_no"}
    _error(site.anyone.post(path, json=body, headers=bad), 401, "unauthorized")
    pat = site.bearer("jobs:read", kind="pat")
    _error(site.anyone.post(path, json=body, headers=pat), 401, "unauthorized")
    _error(site.anyone.post(path, json=body, headers=site.bearer("machine-data:write")), 403, "forbidden")


def test_the_status_is_for_whoever_may_send_or_read_jobs(site: Site, client: httpx.Client) -> None:
    job_id = client.post(EVENTS, json={"title": "t"}).json()["job_id"]
    path = f"{STATUS}/{job_id}"
    _error(site.anyone.get(path), 401, "unauthorized")
    _error(site.anyone.get(path, headers=site.bearer("issues:read")), 403, "forbidden")
    for scope in ("ingest:write", "jobs:read"):
        assert site.anyone.get(path, headers=site.bearer(scope)).status_code == 200


def test_a_job_of_another_workspace_or_feed_is_not_there(site: Site, client: httpx.Client) -> None:
    job_id = client.post(EVENTS, json={"title": "t"}).json()["job_id"]
    elsewhere = site.bearer("ingest:write", workspace="globex")
    foreign = _error(site.anyone.get(f"{STATUS}/{job_id}", headers=elsewhere), 404, "not_found")
    missing = _error(client.get(f"{STATUS}/ing_job_no"), 404, "not_found")
    assert foreign["message"] == missing["message"]
    readings = site.client.post("/v1/machine-data/import-jobs", json={"items": [{}]}).json()["job_id"]
    _error(client.get(f"{STATUS}/{readings}"), 404, "not_found")


# Single records


@pytest.mark.parametrize("path", [path for path in BODIES if path != BATCH])
def test_a_single_record_is_answered_with_its_issue_and_its_job(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=BODIES[path])
    assert answer.status_code == 202
    shown = answer.json()
    assert list(shown) == ["accepted", "rejected", "issue_id", "job_id"]
    assert (shown["accepted"], shown["rejected"]) == (1, [])
    assert is_id(shown["issue_id"], prefix="iss_")
    assert is_id(shown["job_id"], prefix="ing_job_")
    assert answer.headers["Location"] == f"{STATUS}/{shown['job_id']}"
    assert answer.headers["X-RateLimit-Limit"] == "1000"
    assert int(answer.headers["X-RateLimit-Remaining"]) < 1000


def test_an_issues_id_is_a_function_of_its_key_whatever_way_it_comes(client: httpx.Client) -> None:
    record = {"external_id": "ABC-77", "title": "t"}
    ids = {
        client.post(EVENTS, json={**record, "source": " JIRA"}).json()["issue_id"],
        client.post(JIRA, json=record).json()["issue_id"],
        *client.post(BATCH, json={"records": [{**record, "source": "Jira "}]}).json()["issue_ids"],
    }
    assert ids == {identify("acme", "jira", "ABC-77")[0]}
    unknown = [client.post(EVENTS, json={**record, "source": each}).json()["issue_id"] for each in ("a", "b", "a")]
    assert unknown[0] == unknown[2]
    assert len({*unknown, *ids}) == 3


def test_events_without_an_external_id_are_never_one_issue(client: httpx.Client) -> None:
    ids = {client.post(EVENTS, json={"title": "t"}).json()["issue_id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize("path", [EVENTS, JIRA])
def test_a_single_record_that_fails_is_refused_with_its_fields_and_nothing_is_stored(
    site: Site, client: httpx.Client, path: str
) -> None:
    before = _count_jobs(site)
    answer = client.post(path, json={"external_id": "ABC-1", "title": "x" * 301, "severity": "p5", "source": "jira"})
    error = _error(answer, 400, "validation_error")
    assert set(error["details"]) == {"title", "severity"}  # type: ignore[arg-type]
    assert _count_jobs(site) == before


def test_a_sources_own_requirements_hold_on_its_own_route_only(client: httpx.Client) -> None:
    record = {"external_id": "no key of theirs", "title": "t"}
    for name in ("jira", "github"):
        error = _error(client.post(f"/v1/ingest/{name}/issues", json=record), 400, "validation_error")
        assert list(error["details"]) == ["external_id"]  # type: ignore[call-overload]
        assert client.post(EVENTS, json={**record, "source": name}).status_code == 202
        assert client.post(BATCH, json={"records": [{**record, "source": name}]}).json()["accepted"] == 1


def test_a_contradicting_source_is_refused_and_an_unknown_one_has_no_route(client: httpx.Client) -> None:
    record = {"external_id": "ABC-1", "title": "t", "source": "github"}
    error = _error(client.post(JIRA, json=record), 400, "validation_error")
    assert list(error["details"]) == ["source"]  # type: ignore[call-overload]
    for name in ("slack", "email", "Jira", "x"):
        _error(client.post(f"/v1/ingest/{name}/issues", json=record), 404, "not_found")
    _error(client.get(EVENTS), 405, "method_not_allowed")


# Batches


def test_each_record_of_a_batch_has_a_verdict_of_its_own(site: Site, client: httpx.Client) -> None:
    first, last = _record(), _record()
    body = json.dumps({"records": [first, {"external_id": "a", "source": "jira"}, 7, last, {**_record(), "team": 1}]})
    twice = b',{"external_id":"a","source":"b","title":"t","title":"u"}]}'
    answer = client.post(BATCH, content=body.encode()[:-2] + twice, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202
    shown = answer.json()
    assert list(shown) == ["accepted", "rejected", "job_id", "issue_ids"]
    assert shown["accepted"] == 2
    assert shown["issue_ids"] == [identify("acme", "jira", str(each["external_id"]))[0] for each in (first, last)]
    assert shown["rejected"][0] == {
        "index": 1,
        "code": "processing_error",
        "message": "title is required",
        "reason_code": "missing_field",
        "field": "title",
    }
    told = [(each["index"], each["reason_code"], each["field"]) for each in shown["rejected"]]
    assert told == [
        (1, "missing_field", "title"),
        (2, "not_an_object", None),
        (4, "invalid_type", "team"),
        (5, "duplicate_key", "title"),
    ]
    _work(site)
    ended = _status(client, shown["job_id"])
    assert ended["status"] == "partial"
    assert ended["result"] == {"accepted": 2, "rejected_count": 4, "total": 6}


def test_a_batch_of_which_nothing_is_accepted_is_taken_and_fails(site: Site, client: httpx.Client) -> None:
    answer = client.post(BATCH, json={"records": [{"external_id": "a"}, None]})
    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["accepted"], shown["issue_ids"], len(shown["rejected"])) == (0, [], 2)
    _work(site)
    ended = _status(client, shown["job_id"])
    assert (ended["status"], ended["progress"]) == ("failed", 1.0)
    assert ended["result"] == {"accepted": 0, "rejected_count": 2, "total": 2}


def test_a_batch_has_1_to_500_records(site: Site, client: httpx.Client) -> None:
    assert client.post(BATCH, json={"records": [_record() for _ in range(500)]}).json()["accepted"] == 500
    before = _count_jobs(site)
    for count in (0, 501):
        error = _error(client.post(BATCH, json={"records": [_record()] * count}), 400, "validation_error")
        assert list(error["details"]) == ["records"]  # type: ignore[call-overload]
    assert _count_jobs(site) == before


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"7", b'"x"', b'[{"external_id":"a","source":"b","title":"t"}]', b"\xff"),
        *(b"{}", b'{"records":{}}', b'{"records":null}', b'{"records":[{}],"records":[{}]}', b'{"records":[{}]}x'),
        *(b"[" * 100_000, b'{"records":[' + b"[" * 100_000, b'{"events":[{}]}'),
    ],
)
def test_a_body_that_is_no_batch_is_refused(client: httpx.Client, content: bytes) -> None:
    answer = client.post(BATCH, content=content, headers={"Content-Type": "application/json"})
    _error(answer, 400, "validation_error")


# Bodies


@pytest.mark.parametrize("path", [EVENTS, BATCH, JIRA])
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies_are_read_and_bombs_are_not(client: httpx.Client, path: str, encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zstandard.ZstdCompressor().compress
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    body = json.dumps(BODIES[path]).encode()
    assert client.post(path, content=compress(body), headers=headers).status_code == 202
    bomb = compress(b" " * (LIMIT + 1))
    _error(client.post(path, content=bomb, headers=headers), 413, "payload_too_large")
    _error(client.post(path, content=b"no such thing", headers=headers), 400, "validation_error")


@pytest.mark.parametrize("path", [EVENTS, BATCH, JIRA])
def test_a_body_may_have_5_mib_and_no_byte_more(client: httpx.Client, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    head, comma, rest = json.dumps(BODIES[path]).encode().partition(b'"title"')
    padding = b'"ignored":"%s",' % (b"x" * (LIMIT - len(head + comma + rest) - len(b'"ignored":"",')))
    body = head + padding + comma + rest
    assert len(body) == LIMIT
    assert client.post(path, content=body, headers=headers).status_code == 202
    _error(client.post(path, content=body + b" ", headers=headers), 413, "payload_too_large")


def test_other_content_types_are_refused(client: httpx.Client) -> None:
    _error(client.post(EVENTS, content=b"a,b", headers={"Content-Type": "text/csv"}), 415, "unsupported_media_type")


# Promises of every POST


@pytest.mark.parametrize("path", [EVENTS, BATCH, JIRA])
def test_the_same_key_and_body_get_the_first_answer_again(client: httpx.Client, path: str) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = (client.post(path, json=BODIES[path], headers=key) for _ in range(2))
    assert (again.content, again.status_code) == (first.content, 202)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = client.post(path, json={**BODIES[path], "more": 1}, headers=key)
    _error(other, 422, "idempotency_key_reused")


def test_a_dry_run_says_the_same_and_stores_nothing(site: Site, client: httpx.Client) -> None:
    before = _count_jobs(site)
    batch = {"records": [_record(), {}]}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    tried = client.post(f"{BATCH}?dry_run=true", json=batch, headers=key)
    assert tried.status_code == 200
    named = client.post(f"{JIRA}?dry_run=true", json=BODIES[JIRA]).json()
    made = client.post(f"{EVENTS}?dry_run=true", json={"title": "t"}).json()
    assert (named["dry_run"], made["dry_run"], made["job_id"], made["issue_id"]) == (True, True, None, None)
    _error(client.post(f"{EVENTS}?dry_run=true", json={}), 400, "validation_error")
    assert _count_jobs(site) == before
    sent = client.post(BATCH, json=batch, headers=key).json()
    assert tried.json() == {**sent, "job_id": None, "dry_run": True}
    assert named["issue_id"] == client.post(JIRA, json=BODIES[JIRA]).json()["issue_id"]


def test_too_many_requests_are_told_without_a_trace_id(site: Site) -> None:
    with site.platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="slow", rate_limits={"issues": 1}))
    headers = site.bearer("ingest:write", workspace="slow")
    site.anyone.post(EVENTS, json={"title": "t"}, headers=headers)
    answer = site.anyone.post(EVENTS, json={"title": "t"}, headers=headers)
    assert answer.status_code == 429
    assert set(answer.json()["error"]) == {"code", "message"}
    assert answer.json()["error"]["code"] == "rate_limited"
    assert int(answer.headers["Retry-After"]) >= 1
    assert (answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]) == ("1", "0")


def test_the_clients_request_id_is_the_trace_id(client: httpx.Client) -> None:
    answer = client.post(EVENTS, json={}, headers={"X-Request-Id": "abc-123"})
    assert _error(answer, 400, "validation_error")["trace_id"] == "abc-123"


def test_nothing_is_taken_while_the_disk_is_full(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path, limits=Limits(disk_free_bytes_min=1 << 60)) as full:
        answer = full.anyone.post(EVENTS, json={"title": "t"}, headers=full.bearer("ingest:write"))
    error = _error(answer, 503, "disk_full")
    assert "Nothing was taken" in str(error["message"])


# Status


def test_progress_goes_forward_and_the_result_is_the_replys(site: Site, client: httpx.Client) -> None:
    sent = client.post(BATCH, json={"records": [_record(), _record()]}).json()
    waiting = _status(client, sent["job_id"])
    assert list(waiting) == ["job_id", "status", "progress", "result", "created_at", "finished_at"]
    assert (waiting["status"], waiting["progress"], waiting["result"], waiting["finished_at"]) == (
        *("pending", 0.0, None, None),
    )
    _work(site)
    ended = _status(client, sent["job_id"])
    assert (ended["status"], ended["progress"]) == ("succeeded", 1.0)
    assert ended["result"] == {"accepted": 2, "rejected_count": 0, "total": 2}
    assert ended["created_at"] == waiting["created_at"]
    assert str(ended["finished_at"]) >= str(ended["created_at"])


def test_what_is_accepted_names_its_issues_until_it_is_worked(site: Site, client: httpx.Client) -> None:
    record = _record()
    _, key_hash = identify("acme", "jira", str(record["external_id"]))
    sent = client.post(BATCH, json={"records": [record, {}, record]}).json()

    def pending() -> list[str]:
        with site.platform.ledger.connection() as tx:
            found = jobs.pending_of_subject(tx, workspace="acme", feed=FEED.name, subject=key_hash)
        return [submission.job_id for submission in found]

    assert pending() == [sent["job_id"]]
    _work(site)
    assert pending() == []


def _row(site: Site, issue_id: object) -> dict[str, object]:
    found = site.platform.warehouse.query(f"SELECT * FROM {rows_of(FEED.table.name)} WHERE issue_id = ?", [issue_id])
    (row,) = found.to_pylist()
    return row


def test_an_event_without_a_title_does_not_take_the_title_that_the_issue_has(site: Site, client: httpx.Client) -> None:
    event = {"external_id": f"X-{uuid.uuid4()}", "source": "zabbix"}
    issue_id = client.post(EVENTS, json=event).json()["issue_id"]
    reader = site.bearer("issues:read")

    def shown() -> tuple[object, object]:
        issue = site.anyone.get(f"/v1/issues/{issue_id}", headers=reader).json()
        return issue["title"], issue["pending"]

    assert shown() == (event["external_id"], True)
    _work(site)
    assert (_row(site, issue_id)["title"], _row(site, issue_id)["severity"]) == (event["external_id"], "p3")
    client.post(EVENTS, json={**event, "title": "Disk full", "severity": "p1"})
    client.post(EVENTS, json={**event, "team": "core"})
    assert shown() == ("Disk full", True)
    _work(site)
    client.post(EVENTS, json={**event, "body": "at last"})
    assert shown() == ("Disk full", True)
    _work(site)
    assert shown() == ("Disk full", False)
    row = _row(site, issue_id)
    assert (row["title"], row["severity"], row["team"], row["body"]) == ("Disk full", "p1", "core", "at last")
    assert row["occurrences"] == 4


# What the document says


def test_the_document_says_what_each_source_asks_and_what_becomes_of_a_record(site: Site) -> None:
    document = site.anyone.get("/openapi.json").json()
    for name, source in SOURCES.items():
        operation = document["paths"][f"/v1/ingest/{name}/issues"]["post"]
        assert source.requirement in operation["description"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert schema["required"] == ["external_id", "title"]
        assert schema["properties"]["external_id"]["pattern"] == source.schema_pattern or name == "custom_api"
    for path in (EVENTS, BATCH, JIRA):
        operation = document["paths"][path]["post"]
        for word in ("**Merge.**", "`stale`", "identify an\nissue"):
            assert word in operation["description"], (path, word)
        refused = operation["responses"]["400"]["content"]["application/json"]["schema"]
        assert refused == {"$ref": "#/components/schemas/IssuesProblem"}


@pytest.mark.parametrize("path", BODIES)
def test_replies_are_as_the_document_describes_them(site: Site, client: httpx.Client, path: str) -> None:
    validate = pytest.importorskip("jsonschema").validate
    responses = site.anyone.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    for query, status in (("", "202"), ("?dry_run=true", "200")):
        answer = client.post(path + query, json=BODIES[path])
        assert str(answer.status_code) == status
        validate(answer.json(), responses[status]["content"]["application/json"]["schema"])
    shown = _status(client, client.post(path, json=BODIES[path]).json()["job_id"])
    status_route = site.anyone.get("/openapi.json").json()["paths"][f"{STATUS}/{{job_id}}"]["get"]
    validate(shown, status_route["responses"]["200"]["content"]["application/json"]["schema"])
