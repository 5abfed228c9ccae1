"""Bulk requests as Elasticsearch reads them: a result for each event, and only what was not taken is sent again."""

import base64
import gzip
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ingest_platform.feeds.stream_events.destinations import elasticsearch
from ingest_platform.feeds.stream_events.destinations.destination import Permanent, Transient
from ingest_platform_tests.feeds.stream_events.destinations.batches import (
    CANARY,
    NOON,
    STREAM,
    batch,
    faults,
    item,
    opened,
    raw,
)
from ingest_platform_tests.receiving import Answer, Received, Receiver, receiving

Refuse = Callable[[str, dict[str, object]], tuple[int, str] | None]


@dataclass(slots=True)
class Cluster:
    """A stand-in that reads `_bulk` as strictly as Elasticsearch does, and keeps what it takes."""

    refuse: Refuse = lambda _id, _source: None
    indices: dict[str, dict[str, dict[str, object]]] = field(default_factory=dict)
    body_bytes_max: int = 100_000_000

    def answer(self, received: Received) -> Answer:
        if received.path != "/_bulk" or received.headers["content-type"] != "application/x-ndjson":
            return Answer(status=405)
        packed = received.headers.get("content-encoding") == "gzip"
        body = gzip.decompress(received.body) if packed else received.body
        if len(body) > self.body_bytes_max:
            return Answer(status=413)
        if not body.endswith(b"\n"):
            return _error(400, "illegal_argument_exception", "must be terminated by a newline")
        lines = [json.loads(line, object_pairs_hook=_without_repetition) for line in body.split(b"\n")[:-1]]
        results = [self._take(action, source) for action, source in zip(lines[::2], lines[1::2], strict=True)]
        failed = any("error" in next(iter(result.values())) for result in results)
        return Answer(body=json.dumps({"took": 1, "errors": failed, "items": results}).encode())

    def _take(self, action: dict[str, dict[str, str]], source: dict[str, object]) -> dict[str, dict[str, object]]:
        ((operation, where),) = action.items()
        assert operation in {"index", "create"}
        index = self.indices.setdefault(where["_index"], {})
        refused = self.refuse(where["_id"], source)
        if refused is None and operation == "create" and where["_id"] in index:
            refused = (409, "version_conflict_engine_exception")
        told: dict[str, object] = {"_index": where["_index"], "_id": where["_id"]}
        if refused is not None:
            status, kind = refused
            reason = f"failed to parse field [n]. Preview of field's value: '{CANARY}'"
            return {operation: {**told, "status": status, "error": {"type": kind, "reason": reason}}}
        created = where["_id"] not in index
        index[where["_id"]] = source
        return {operation: {**told, "status": 201 if created else 200, "result": "created" if created else "updated"}}


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), "Elasticsearch refuses a name that stands twice"
    return dict(pairs)


def _error(status: int, kind: str, reason: str) -> Answer:
    return Answer(
        status=status, body=json.dumps({"error": {"type": kind, "reason": reason}, "status": status}).encode()
    )


@contextmanager
def _running(cluster: Cluster) -> Iterator[Receiver]:
    with receiving(cluster.answer) as receiver:
        yield replace(receiver, url=f"http://127.0.0.1:{receiver.port}")


def _body(url: str, **more: object) -> Mapping[str, object]:
    return {"type": "elasticsearch", "url": url, "index": "events-{date}", **more}


def test_an_event_is_a_document_under_its_id_however_often_it_is_sent(tmp_path: Path) -> None:
    cluster = Cluster()
    with _running(cluster) as receiver:
        destination = opened(_body(receiver.url), tmp_path)
        items = [replace(item(1, text="ü\u2028💥"), weight=100.0), item(2, at=NOON + timedelta(days=1))]
        for _ in range(2):
            sent = destination.send(batch(items))
            assert (list(sent.delivered), sent.retry, sent.dead) == ([each.event_id for each in items], {}, {})
    assert {index: list(documents) for index, documents in cluster.indices.items()} == {
        "events-2026-03-01": [items[0].event_id],
        "events-2026-03-02": [items[1].event_id],
    }
    stored = cluster.indices["events-2026-03-01"][items[0].event_id]
    assert stored["event"] == {"number": 1, "text": "ü\u2028💥"}
    assert stored["@timestamp"] == "2026-03-01T12:00:00.124456Z"
    assert stored["ingest"] == {
        "event_id": items[0].event_id,
        "weight": 100.0,
        "stream_id": STREAM,
        "stream_version": 3,
    }


def test_names_that_are_ours_do_not_hide_the_events_own(tmp_path: Path) -> None:
    cluster = Cluster()
    document = b'{"event":{},"ingest":1,"@timestamp":"x","original_ingest":2,"_id":3,"a\\"b\\n":4}'
    with _running(cluster) as receiver:
        opened(_body(receiver.url, index="a-{stream}"), tmp_path).send(batch([raw(1, document)]))
    (stored,) = cluster.indices[f"a-{STREAM}"].values()
    assert stored["ingest"] != 1
    assert stored["original_original_ingest"] == 1
    assert stored["original_timestamp"] == "x"
    assert (stored["original_ingest"], stored["_id"], stored['a"b\n']) == (2, 3, 4)


def test_each_event_has_its_own_result_and_only_what_may_pass_is_sent_again(tmp_path: Path) -> None:
    wrong = {1: (429, "es_rejected_execution_exception"), 2: (400, "mapper_parsing_exception"), 3: (503, "unavailable")}
    refusals = {item(number).event_id: refused for number, refused in wrong.items()}
    cluster = Cluster(refuse=lambda event_id, _: refusals.get(event_id))
    items = [item(number) for number in range(5)]
    with _running(cluster) as receiver:
        destination = opened(_body(receiver.url), tmp_path)
        sent = destination.send(batch(items))
        assert list(sent.delivered) == [items[0].event_id, items[4].event_id]
        assert set(sent.retry) == {items[1].event_id, items[3].event_id}
        assert list(sent.dead) == [items[2].event_id]
        reason = sent.dead[items[2].event_id]
        assert reason.startswith("answered 400: mapper_parsing_exception: failed to parse field [n]")
        assert CANARY not in reason
        refusals.clear()
        again = destination.send(batch([each for each in items if each.event_id in sent.retry]))
        assert len(again.delivered) == 2
    assert len(cluster.indices["events-2026-03-01"]) == 4
    assert sum(each.path == "/_bulk" for each in receiver.got) == 2


def test_create_leaves_what_is_there_and_says_that_it_is_delivered(tmp_path: Path) -> None:
    cluster = Cluster()
    with _running(cluster) as receiver:
        destination = opened(_body(receiver.url, operation="create", index="logs-app-default"), tmp_path)
        for _ in range(2):
            assert len(destination.send(batch([item(1)])).delivered) == 1
    assert len(cluster.indices["logs-app-default"]) == 1


def test_a_request_that_is_too_large_is_sent_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(body_bytes_max=5_000)
    items = [item(number, text="x" * (9_000 if number == 5 else 900)) for number in range(16)]
    with _running(cluster) as receiver:
        sent = opened(_body(receiver.url), tmp_path).send(batch(items))
        assert len(sent.delivered) == 15
        assert sent.dead == {items[5].event_id: "answered 413: too large"}
        requests = len(receiver.got)
        # What is larger than any request should be is not tried.
        monkeypatch.setattr(elasticsearch, "BODY_BYTES_MAX", 5_000)
        opened(_body(receiver.url), tmp_path).send(batch(items[:5]))
        bodies = [len(gzip.decompress(each.body)) for each in receiver.got[requests:]]
    assert max(bodies) <= 5_000
    assert len(cluster.indices["events-2026-03-01"]) == 15


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(status=429, headers={"Retry-After": "2"}), Transient),
        (Answer(status=503), Transient),
        (_error(401, "security_exception", "missing authentication credentials"), Transient),
        (_error(403, "security_exception", "not allowed"), Transient),
        (Answer(status=404, body=b"<html>"), Transient),
        (Answer(status=200, body=b"<html>welcome</html>"), Transient),
        (Answer(status=200, body=b'{"items": []}'), Transient),
        (Answer(status=200, body=b'{"items": [1, null]}'), None),
        (_error(400, "illegal_argument_exception", "no"), Permanent),
    ],
)
def test_what_an_answer_to_the_whole_request_means(
    tmp_path: Path, answer: Answer, kind: type[Exception] | None
) -> None:
    with receiving(lambda _: answer) as receiver:
        destination = opened(_body(f"http://127.0.0.1:{receiver.port}"), tmp_path)
        if kind is None:
            assert len(destination.send(batch([item(1), item(2)])).retry) == 2
            return
        with pytest.raises(kind) as told:
            destination.send(batch([item(1), item(2)]))
    if answer.status == 429:
        assert isinstance(told.value, Transient)
        assert told.value.retry_after_seconds == 2.0
    if answer.status == 401:
        assert str(told.value) == "answered 401: security_exception: missing authentication credentials"


@pytest.mark.parametrize(
    ("more", "header"),
    [
        (
            {"username": "elastic", "password": "${P}"},
            "Basic " + base64.b64encode(f"elastic:{CANARY}".encode()).decode(),
        ),
        ({"api_key": "${P}"}, f"ApiKey {CANARY}"),
        ({}, None),
    ],
)
def test_who_asks_is_told_to_the_cluster_and_to_nobody_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, more: Mapping[str, object], header: str | None
) -> None:
    secrets = {name: CANARY for name in more if name != "username"}
    with caplog.at_level(logging.DEBUG), receiving(lambda _: Answer(status=401)) as receiver:
        destination = opened(_body(f"http://127.0.0.1:{receiver.port}", **more), tmp_path, secrets=secrets)
        with pytest.raises(Transient) as told:
            destination.send(batch([item(1)]))
    assert receiver.got[0].headers.get("authorization") == header
    shown = f"{destination!r} {told.value!r} {caplog.text}"
    assert CANARY not in shown
    assert "Basic" not in shown


def test_every_fault_of_a_declaration_is_told() -> None:
    assert set(faults({"type": "elasticsearch"})) == {"url", "index"}
    for index in ("Events", "_x", "a b", "a/b", "ä", "{when}", "a" * 300, "{date", "../x", "a*", ""):
        assert list(faults(_body("https://es.example", index=index))) == ["index"], index
    wrong = _body("es.example", username="a", api_key="b c", ca="x")
    assert set(faults(wrong)) == {"url", "ca", "password", "api_key"}
    assert faults(_body("https://es.example:9200/proxy/", index="events-{stream}-{date}", api_key="abc==")) == {}
