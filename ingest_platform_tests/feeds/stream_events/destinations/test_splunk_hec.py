"""Splunk's collector: what its codes mean, and that only what the indexers have is called delivered."""

import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ingest_platform.feeds.stream_events.destinations.connecting import Deadline
from ingest_platform.feeds.stream_events.destinations.destination import Permanent, Transient
from ingest_platform_tests.feeds.stream_events.destinations.batches import (
    CANARY,
    STREAM,
    batch,
    faults,
    item,
    opened,
)
from ingest_platform_tests.receiving import Answer, Received, Receiver, receiving


@dataclass(slots=True)
class Collector:
    """A stand-in that reads events as Splunk does, and acknowledges them once they were asked for so often."""

    acknowledges: bool = True
    asked_first: int = 1
    indexed: list[dict[str, object]] = field(default_factory=list)
    given: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def answer(self, received: Received) -> Answer:
        if received.headers.get("authorization") != f"Splunk {CANARY}":
            return _said(403, 4, "Invalid token")
        channel = str(uuid.UUID(received.headers["x-splunk-request-channel"]))
        if received.path == "/services/collector/ack":
            return self._acknowledge(channel, json.loads(received.body)["acks"])
        assert received.path == "/services/collector/event"
        self.indexed += _events(received.body.decode())
        if not self.acknowledges:
            return _said(200, 0, "Success")
        self.given[channel] = self.given.get(channel, -1) + 1
        return _said(200, 0, "Success", ackId=self.given[channel])

    def _acknowledge(self, channel: str, asked: list[int]) -> Answer:
        if not self.acknowledges:
            return _said(400, 14, "ACK is disabled")
        self.asked += 1
        known = self.given.get(channel, -1)
        acks = {str(each): each <= known and self.asked > self.asked_first for each in asked}
        return Answer(body=json.dumps({"acks": acks}).encode())


def _events(text: str) -> list[dict[str, object]]:
    """Read objects that follow each other, as Splunk does."""
    found, place = list[dict[str, object]](), 0
    while place < len(text):
        one, place = json.JSONDecoder().raw_decode(text, place)
        place += len(text[place:]) - len(text[place:].lstrip())
        found.append(one)
    return found


def _said(status: int, code: int, text: str, **more: object) -> Answer:
    return Answer(status=status, body=json.dumps({"text": text, "code": code, **more}).encode())


@contextmanager
def _running(collector: Collector) -> Iterator[Receiver]:
    with receiving(collector.answer) as receiver:
        yield replace(receiver, url=f"http://127.0.0.1:{receiver.port}")


def _body(url: str, **more: object) -> Mapping[str, object]:
    return {"type": "splunk_hec", "url": url, "token": "${SPLUNK_TOKEN}", **more}


TOKEN = {"token": CANARY}


def test_events_are_delivered_once_the_indexers_acknowledge(tmp_path: Path) -> None:
    collector = Collector(asked_first=2)
    items = [replace(item(1, text="ü\n\u2028"), weight=100.0), item(2, source=None)]
    with _running(collector) as receiver:
        body = _body(f"{receiver.url}/services/collector/event", index="main", sourcetype="_json", host="h")
        sent = opened(body, tmp_path, secrets=TOKEN).send(batch(items))
    assert list(sent.delivered) == [each.event_id for each in items]
    assert collector.asked == 3
    first, second = collector.indexed
    assert first["event"] == json.loads(items[0].document)
    assert first["time"] == items[0].timestamp.timestamp()
    assert (first["index"], first["sourcetype"], first["host"], first["source"]) == ("main", "_json", "h", "checkout")
    assert first["fields"] == {
        "event_id": items[0].event_id,
        "weight": 100.0,
        "stream_id": STREAM,
        "stream_version": 3,
    }
    assert "source" not in second


def test_what_is_not_acknowledged_in_time_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (0.6,))
    with _running(Collector(asked_first=99)) as receiver, pytest.raises(Transient, match="not acknowledged"):
        opened(_body(receiver.url), tmp_path, secrets=TOKEN).send(batch([item(1)]))


def test_a_token_without_acknowledgement_is_enough_unless_it_is_required(tmp_path: Path) -> None:
    collector = Collector(acknowledges=False)
    with _running(collector) as receiver:
        for acknowledge in ("auto", "off"):
            destination = opened(_body(receiver.url, acknowledge=acknowledge), tmp_path, secrets=TOKEN)
            assert len(destination.send(batch([item(1)])).delivered) == 1
        with pytest.raises(Transient, match="no indexer acknowledgement"):
            opened(_body(receiver.url, acknowledge="required"), tmp_path, secrets=TOKEN).send(batch([item(1)]))
    assert collector.asked == 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_said(403, 1, "Token disabled"), Transient),
        (_said(401, 2, "Token is required"), Transient),
        (_said(401, 3, "Invalid authorization"), Transient),
        (_said(403, 4, "Invalid token"), Transient),
        (_said(400, 7, "Incorrect index"), Transient),
        (_said(500, 8, "Internal server error"), Transient),
        (_said(503, 9, "Server is busy"), Transient),
        (_said(400, 10, "Data channel is missing"), Transient),
        (_said(400, 11, "Invalid data channel"), Transient),
        (_said(200, 9, "Server is busy"), Transient),
        (_said(503, 23, "Server is shutting down"), Transient),
        (_said(429, 26, "Queue at capacity"), Transient),
        (Answer(status=502, body=b"<html>"), Transient),
        (Answer(status=200, body=b"<html>"), Transient),
        (Answer(status=405, body=b""), Permanent),
        (_said(400, 99, "Something new"), Permanent),
    ],
)
def test_what_the_codes_mean(tmp_path: Path, answer: Answer, kind: type[Exception]) -> None:
    with receiving(lambda _: answer) as receiver, pytest.raises(kind) as told:
        opened(_body(f"http://127.0.0.1:{receiver.port}"), tmp_path, secrets=TOKEN).send(batch([item(1), item(2)]))
    if b"code" in answer.body:
        said = json.loads(answer.body)
        assert str(told.value) == f"answered {answer.status}: {said['text']}, code {said['code']}"


def test_an_event_that_splunk_names_is_dead_and_the_others_are_sent_again(tmp_path: Path) -> None:
    answer = _said(400, 6, "Invalid data format", **{"invalid-event-number": 1})
    items = [item(number) for number in range(3)]
    with receiving(lambda _: answer) as receiver:
        destination = opened(_body(f"http://127.0.0.1:{receiver.port}"), tmp_path, secrets=TOKEN)
        sent = destination.send(batch(items))
    assert sent.dead == {items[1].event_id: "answered 400: Invalid data format, code 6"}
    assert set(sent.retry) == {items[0].event_id, items[2].event_id}


def test_an_event_that_splunk_does_not_name_is_found(tmp_path: Path) -> None:
    items = [item(number, text="bad" if number == 3 else "good") for number in range(6)]

    def answer(received: Received) -> Answer:
        return _said(400, 12, "Event field is required") if b"bad" in received.body else _said(200, 0, "Success")

    with receiving(answer) as receiver:
        sent = opened(_body(f"http://127.0.0.1:{receiver.port}"), tmp_path, secrets=TOKEN).send(batch(items))
    assert list(sent.dead) == [items[3].event_id]
    assert len(sent.delivered) == 5


def test_a_collector_that_goes_away_while_it_is_asked_is_sent_everything_again(tmp_path: Path) -> None:
    collector = Collector()

    def answer(received: Received) -> Answer:
        busy = received.path.endswith("/ack")
        return _said(503, 9, "Server is busy") if busy else collector.answer(received)

    with receiving(answer) as receiver, pytest.raises(Transient, match="busy, code 9"):
        opened(_body(f"http://127.0.0.1:{receiver.port}"), tmp_path, secrets=TOKEN).send(batch([item(1)]))


def test_the_token_is_told_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), receiving(lambda _: _said(403, 4, "Invalid token")) as receiver:
        destination = opened(_body(f"http://127.0.0.1:{receiver.port}"), tmp_path, secrets=TOKEN)
        with pytest.raises(Transient) as told:
            destination.send(batch([item(1)]))
    assert CANARY not in f"{destination!r} {told.value!r} {caplog.text}"
    assert CANARY not in str(faults(_body("https://a.example", token=f"{CANARY}\n")))


def test_every_fault_of_a_declaration_is_told() -> None:
    assert set(faults({"type": "splunk_hec"})) == {"url", "token"}
    wrong = _body("https://a.example/elsewhere", token="a b", acknowledge="maybe", ca="x")
    assert set(faults(wrong)) == {"acknowledge"}
    assert set(faults({**wrong, "acknowledge": "auto"})) == {"url", "token", "ca"}
    for path in ("", "/", "/services/collector", "/services/collector/event/"):
        assert faults(_body(f"https://a.example:8088{path}")) == {}
