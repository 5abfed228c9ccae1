"""The way in for events to the letter of its contract, over real HTTP and the real path behind it."""

import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest
import zstandard

from ingest_platform.api.services import Limits
from ingest_platform.domain.ids import is_id, new_id
from ingest_platform.domain.job import Job
from ingest_platform.feeds.stream_events import FEED, ingesting
from ingest_platform.feeds.stream_events.wire import BODY_BYTES_MAX, REJECTED_MAX
from ingest_platform.pipeline.files import land_file
from ingest_platform.storage import catalog, jobs, workspaces
from ingest_platform.storage.jobs import JobFilter
from ingest_platform_tests.pipeline.working import job_of, rejections_of, work
from ingest_platform_tests.serving import Site, fresh_database, serving

PATH = "/v1/streams/ingest"
GOOD: Mapping[str, object] = {
    "timestamp": "2026-05-06T10:15:30.123Z",
    "source": "payments-api",
    "event": {"level": "ERROR", "message": "card declined", "latency_ms": 512},
    "metadata": {"env": "prod"},
    "trace": "abc",
}
FLAT: Mapping[str, object] = {"timestamp": "2026-05-06T10:15:30Z", "service": "payments-api", "level": "ERROR"}
JSON_TYPE = {"Content-Type": "application/json"}
LINES_TYPE = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API once: each test has a stream of its own."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as served:
        yield served


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    """Hold a key of acme that may send events and do nothing else."""
    with httpx.Client(base_url=site.url, headers=site.bearer(FEED.write_scope), timeout=20) as opened:
        yield opened


def declare(
    site: Site,
    stream_id: str,
    *,
    envelope: str = "strict",
    workspace: str = "acme",
    retired: bool = False,
    parse: Sequence[object] = (),
) -> str:
    routes = {"match": "first", "rules": [], "otherwise": "drop"}
    body = {"name": "tests", "envelope": envelope, "parse": list(parse), "routes": routes}
    one = catalog.Declared(workspace=workspace, kind="streams", id=stream_id, body=body, retired=retired)
    with site.platform.ledger.transaction() as tx:
        catalog.put(tx, [one])
    return stream_id


@pytest.fixture
def stream(site: Site) -> str:
    return declare(site, new_id(""))


@pytest.fixture
def auto(site: Site) -> str:
    return declare(site, new_id(""), envelope="auto")


def send(client: httpx.Client, stream_id: str, body: object, **headers: str) -> httpx.Response:
    """Send JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(PATH, content=content, headers={**JSON_TYPE, "X-Stream-Id": stream_id, **headers})


def lines_of(*events: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


def worked(site: Site, answer: httpx.Response) -> Job:
    assert answer.status_code == 200, answer.text
    work(site.platform, FEED)
    return job_of(site.platform, answer.json()["ingest_id"])


def count_jobs(site: Site) -> int:
    with site.platform.ledger.connection() as tx:
        return jobs.count_jobs(tx, JobFilter(feed=FEED.name))


def error(answer: httpx.Response) -> tuple[int, str, str]:
    assert answer.headers["X-Request-Id"]
    told = answer.json()
    return answer.status_code, told["error"], told["detail"]


# Who may


def test_sending_needs_an_api_key_with_the_scope(site: Site, stream: str) -> None:
    nobody = send(site.anyone, stream, GOOD)
    assert error(nobody)[:2] == (401, "unauthorized")
    assert nobody.headers["WWW-Authenticate"] == "Bearer"
    assert send(site.anyone, stream, GOOD, **site.bearer(FEED.write_scope, kind="pat")).status_code == 401
    assert error(send(site.anyone, stream, GOOD, **site.bearer("jobs:read")))[:2] == (403, "forbidden")


def test_the_stream_is_named_in_its_header(site: Site, client: httpx.Client, stream: str) -> None:
    assert error(client.post(PATH, json=GOOD))[:2] == (400, "missing_stream_id")
    assert error(send(client, "", GOOD))[:2] == (400, "missing_stream_id")
    foreign = declare(site, new_id(""), workspace="globex")
    known = {send(client, each, GOOD).content for each in ("no such", foreign, "x" * 500)}
    assert len(known) == 1
    assert error(send(client, foreign, GOOD))[:2] == (404, "stream_not_found")
    assert send(client, stream, GOOD).status_code == 200


def test_what_is_applied_shows_within_a_second(site: Site, client: httpx.Client, stream: str) -> None:
    assert send(client, stream, GOOD).status_code == 200
    later = new_id("")
    assert send(client, later, GOOD).status_code == 404
    declare(site, later)
    assert send(client, later, GOOD).status_code == 200
    declare(site, later, retired=True)
    deadline = time.monotonic() + 1
    while send(client, later, GOOD).status_code != 404:
        assert time.monotonic() < deadline
    assert send(client, stream, GOOD).status_code == 200


# What is taken


def test_an_event_is_taken_as_the_contract_says(site: Site, client: httpx.Client, stream: str) -> None:
    body = json.dumps(GOOD, indent=1).encode()
    answer = send(client, stream, body)
    ingest_id = answer.json()["ingest_id"]
    assert answer.json() == {
        "status": "accepted",
        "ingested_bytes": len(body),
        "stream_id": stream,
        "ingest_id": ingest_id,
        "accepted_items": 1,
    }
    assert is_id(ingest_id, prefix="evt_")
    assert int(answer.headers["X-RateLimit-Limit"]) >= int(answer.headers["X-RateLimit-Remaining"])
    job = worked(site, answer)
    assert (job.target, job.received, job.accepted, job.verdict) == (stream, 1, 1, "succeeded")


@pytest.mark.parametrize("form", ["array", "lines"])
def test_of_a_list_the_good_events_are_taken_and_the_others_told(
    site: Site, client: httpx.Client, stream: str, form: str
) -> None:
    events = [GOOD, {**GOOD, "source": None}, 7, {**GOOD, "event": "x"}, GOOD]
    headers, body = (JSON_TYPE, json.dumps(events).encode()) if form == "array" else (LINES_TYPE, lines_of(*events))
    answer = send(client, stream, body, **headers)
    assert answer.json() | {"ingest_id": None} == {
        "status": "accepted",
        "ingested_bytes": len(body),
        "stream_id": stream,
        "ingest_id": None,
        "accepted_items": 2,
        "rejected": [
            {"index": 1, "error": "invalid_format", "detail": "The 'source' field must be a non-empty string."},
            {"index": 2, "error": "invalid_format", "detail": "The event must be an object."},
            {"index": 3, "error": "invalid_format", "detail": "The 'event' field must be an object."},
        ],
    }
    job = worked(site, answer)
    assert (job.received, job.accepted, job.rejected) == (5, 2, 3)
    assert [each.record_index for each in rejections_of(site.platform, job.id)] == [1, 2, 3]


def test_blank_lines_are_no_events_and_a_byte_order_mark_is_none_either(
    site: Site, client: httpx.Client, stream: str
) -> None:
    answer = send(client, stream, b"\xef\xbb\xbf\n" + lines_of(GOOD) + b" \r\n\n" + lines_of(GOOD), **LINES_TYPE)
    assert (answer.json()["accepted_items"], worked(site, answer).received) == (2, 2)
    marked = send(client, stream, b"\xef\xbb\xbf " + json.dumps(GOOD).encode())
    assert worked(site, marked).accepted == 1


@pytest.mark.parametrize(("name", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_compressed_bodies_are_taken_and_counted_as_received(
    site: Site, client: httpx.Client, stream: str, name: str, compress: Callable[[bytes], bytes]
) -> None:
    body = compress(lines_of(*[GOOD] * 300))
    answer = send(client, stream, body, **LINES_TYPE, **{"Content-Encoding": name})
    assert (answer.json()["ingested_bytes"], answer.json()["accepted_items"]) == (len(body), 300)
    assert worked(site, answer).accepted == 300


def test_flat_objects_are_taken_where_the_stream_says_so(client: httpx.Client, stream: str, auto: str) -> None:
    assert error(send(client, stream, FLAT)) == (400, "invalid_format", "The 'source' field is required.")
    assert send(client, auto, FLAT).json()["accepted_items"] == 1
    assert send(client, auto, GOOD).json()["accepted_items"] == 1
    nameless = {"timestamp": FLAT["timestamp"], "level": "ERROR"}
    assert error(send(client, auto, nameless)) == (400, "invalid_format", "The 'source' field is required.")
    with_event = {**nameless, "event": {}, "source": "x", "metadata": 7}
    assert error(send(client, auto, with_event))[2] == "The 'metadata' field must be an object."


def test_events_that_the_stream_can_not_parse_are_rejected_where_it_says_so(site: Site, client: httpx.Client) -> None:
    step = {"field": "event.message", "as": "json", "on_error": "reject"}
    strict = declare(site, new_id(""), parse=[step, {"field": "event.url", "as": "url"}])
    auto = declare(site, new_id(""), envelope="auto", parse=[step])
    unfit = {**GOOD, "event": {"message": "no JSON"}}
    detail = "The 'event.message' field could not be parsed as json."
    assert error(send(client, strict, unfit)) == (400, "invalid_format", detail)
    assert error(send(client, auto, {**FLAT, "message": "no JSON"})) == (400, "invalid_format", detail)
    told = send(client, auto, [FLAT, {**FLAT, "message": "{"}, 7, {**FLAT, "message": "{}"}, {"timestamp": ""}])
    assert [(each["index"], each["detail"]) for each in told.json()["rejected"]] == [
        (1, detail),
        (2, "The event must be an object."),
        (4, "The 'timestamp' field must be a valid ISO 8601 string."),
    ]


# What is refused


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"timestamp": None}, "The 'timestamp' field must be a valid ISO 8601 string."),
        ({"timestamp": 1_700_000_000}, "The 'timestamp' field must be a valid ISO 8601 string."),
        ({"timestamp": "2026-05-06"}, "The 'timestamp' field must be a valid ISO 8601 string."),
        ({"timestamp": "2026-05-06T10:15:00"}, "The 'timestamp' field must be a valid ISO 8601 string."),
        ({"source": " "}, "The 'source' field must be a non-empty string."),
        ({"source": 5}, "The 'source' field must be a non-empty string."),
        ({"event": []}, "The 'event' field must be an object."),
        ({"event": None}, "The 'event' field must be an object."),
        ({"metadata": None}, "The 'metadata' field must be an object."),
        ({"metadata": "x"}, "The 'metadata' field must be an object."),
    ],
)
def test_a_field_that_is_wrong_is_named(
    client: httpx.Client, stream: str, change: dict[str, object], detail: str
) -> None:
    assert error(send(client, stream, {**GOOD, **change})) == (400, "invalid_format", detail)


@pytest.mark.parametrize("name", ["timestamp", "source", "event"])
def test_a_field_that_is_missing_is_named(client: httpx.Client, stream: str, name: str) -> None:
    left = {key: value for key, value in GOOD.items() if key != name}
    assert error(send(client, stream, left)) == (400, "invalid_format", f"The '{name}' field is required.")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "The request body must be valid JSON."),
        (b"{", "The request body must be valid JSON."),
        (b'{"timestamp": "2026-05-06T10:15:00Z"} x', "The request body must be valid JSON."),
        (b'["\xff"]', "The event must be valid JSON."),
        (b"[{}", "The request body must be valid JSON."),
        (b"7", "The request body must be an event object, or an array of them."),
        (b"[]", "The request body must have at least one event."),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "The record is nested more than 64 levels deep."),
        (
            b'{"timestamp":"2026-05-06T10:15:00Z","source":"a","event":{"a":1,"a":2}}',
            "The 'event' field must not have a key twice, nor be given twice.",
        ),
        (
            b'{"timestamp":"2026-05-06T10:15:00Z","source":"a","event":{"a":1e999}}',
            "The 'event' field must have only numbers that fit a double or a 64-bit integer.",
        ),
    ],
)
def test_a_body_that_is_no_event_is_refused(client: httpx.Client, stream: str, body: bytes, detail: str) -> None:
    assert error(send(client, stream, body)) == (400, "invalid_format", detail)


def test_a_list_without_a_good_event_is_refused_with_all_reasons(site: Site, client: httpx.Client, stream: str) -> None:
    before = count_jobs(site)
    answer = send(client, stream, [{"source": "x"}, 7])
    assert error(answer) == (400, "invalid_format", "The 'timestamp' field is required.")
    assert [(each["index"], each["error"]) for each in answer.json()["rejected"]] == [
        (0, "invalid_format"),
        (1, "invalid_format"),
    ]
    assert error(send(client, stream, b" \n\n", **LINES_TYPE))[2] == "The request body must have at least one event."
    many = send(client, stream, [0] * (REJECTED_MAX + 1)).json()
    assert (len(many["rejected"]), many["rejected_truncated"]) == (REJECTED_MAX, True)
    some = send(client, stream, [GOOD, *[0] * (REJECTED_MAX + 1)]).json()
    assert (len(some["rejected"]), some["rejected_truncated"], some["accepted_items"]) == (REJECTED_MAX, True, 1)
    assert count_jobs(site) == before + 1


def test_a_body_that_is_too_large_is_a_400(site: Site, client: httpx.Client, stream: str) -> None:
    before = count_jobs(site)
    filled = {**GOOD, "event": {"text": ""}}
    room = BODY_BYTES_MAX - len(json.dumps(filled))
    whole = json.dumps({**filled, "event": {"text": "x" * room}}).encode()
    assert len(whole) == BODY_BYTES_MAX
    taken = send(client, stream, whole)
    assert (taken.status_code, taken.json()["ingested_bytes"]) == (200, BODY_BYTES_MAX)
    larger = whole + b" "
    refused = [
        send(client, stream, larger),
        client.post(PATH, content=iter([larger]), headers={**JSON_TYPE, "X-Stream-Id": stream}),
        send(client, stream, gzip.compress(larger), **{"Content-Encoding": "gzip"}),
        send(client, stream, zstandard.compress(larger), **{"Content-Encoding": "zstd"}),
    ]
    assert [error(each)[:2] for each in refused] == [(400, "payload_too_large")] * 4
    assert count_jobs(site) == before + 1
    assert worked(site, taken).accepted == 1


def test_what_any_route_refuses_is_refused_in_the_familys_words(client: httpx.Client, stream: str) -> None:
    assert error(send(client, stream, GOOD, **{"Content-Type": "text/csv"}))[:2] == (415, "unsupported_media_type")
    assert error(send(client, stream, GOOD, **{"Content-Encoding": "br"}))[:2] == (415, "unsupported_encoding")
    assert error(send(client, stream, b"x", **{"Content-Encoding": "gzip"}))[:2] == (400, "invalid_encoding")
    assert error(client.put(PATH, json=GOOD))[:2] == (405, "method_not_allowed")
    assert error(client.post(f"{PATH}?dry_run=perhaps", json=GOOD))[:2] == (400, "invalid_parameter")


def test_beyond_the_rate_nothing_is_taken(site: Site) -> None:
    limited = workspaces.Workspace(name="slow", rate_limits={FEED.name: 2})
    with site.platform.ledger.transaction() as tx:
        workspaces.put(tx, limited)
    headers = site.bearer(FEED.write_scope, workspace="slow")
    slow = declare(site, new_id(""), workspace="slow")
    answers = [send(site.anyone, slow, GOOD, **headers) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert error(answers[2])[1] == "rate_limited"
    assert int(answers[2].headers["Retry-After"]) >= 1
    assert [each.headers["X-RateLimit-Remaining"] for each in answers] == ["1", "0", "0"]


def test_with_a_full_disk_nothing_is_taken(server_url: str, template: str, tmp_path: Path) -> None:
    with (
        fresh_database(server_url, template) as url,
        serving(url, tmp_path, limits=Limits(disk_free_bytes_min=1 << 60)) as full,
    ):
        stream = declare(full, "full")
        refused = send(full.anyone, stream, GOOD, **full.bearer(FEED.write_scope))
        assert error(refused)[:2] == (503, "disk_full")
        assert refused.headers["Retry-After"]
        assert count_jobs(full) == 0


# Again, and only to try


def test_the_same_key_gets_the_first_answer_again(site: Site, client: httpx.Client, stream: str, auto: str) -> None:
    before = count_jobs(site)
    first = send(client, stream, GOOD, **{"Idempotency-Key": "k-1"})
    declare(site, stream, retired=True)
    again = send(client, stream, GOOD, **{"Idempotency-Key": "k-1"})
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert error(send(client, auto, GOOD, **{"Idempotency-Key": "k-1"}))[:2] == (422, "idempotency_key_reused")
    assert count_jobs(site) == before + 1
    for _ in range(2):
        bad = send(client, auto, 7, **{"Idempotency-Key": "k-2"})
        assert error(bad)[:2] == (400, "invalid_format")


def test_a_dry_run_says_the_same_and_stores_nothing(site: Site, client: httpx.Client, stream: str) -> None:
    before = count_jobs(site)
    headers = {"X-Stream-Id": stream}
    tried = client.post(f"{PATH}?dry_run=true", json=[GOOD, 7], headers=headers).json()
    taken = client.post(PATH, json=[GOOD, 7], headers=headers).json()
    assert tried == {**taken, "ingest_id": None, "dry_run": True}
    assert client.post(f"{PATH}?dry_run=true", json=[7], headers=headers).status_code == 400
    assert count_jobs(site) == before + 1


def test_large_bodies_are_judged_in_another_thread_with_the_same_verdict(
    site: Site, client: httpx.Client, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [GOOD, {**GOOD, "event": 7}] * 20
    near = send(client, stream, events).json()
    monkeypatch.setattr(ingesting, "NEAR_BYTES_MAX", 0)
    apart = send(client, stream, events)
    assert apart.json() | {"ingest_id": None} == near | {"ingest_id": None}
    assert worked(site, apart).rejected == 20


# Files


def drop(site: Site, stream_id: str | None, path: Path) -> Job:
    job_id = land_file(site.platform, FEED, "acme", path, target=stream_id)
    work(site.platform, FEED)
    return job_of(site.platform, job_id)


def test_a_file_goes_to_the_stream_that_its_folder_is_named_after(site: Site, stream: str, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "timestamp,source,event,metadata,trace\n"
        '2026-05-06T10:15:30Z,api,"{""level"": ""ERROR""}",,abc\n'
        '2026-05-06T10:15:30Z,api,no object,"{}",abc\n'
    )
    job = drop(site, stream, path)
    assert (job.target, job.received, job.accepted, job.rejected) == (stream, 2, 1, 1)
