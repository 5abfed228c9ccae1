"""Batches over HTTP: signed, under stable ids, only to where they may go, and never with a secret in what is told."""

import gzip
import json
import logging
import re
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingest_platform.feeds.stream_events.destinations import calling
from ingest_platform.feeds.stream_events.destinations.connecting import Deadline
from ingest_platform.feeds.stream_events.destinations.destination import Permanent, Transient
from ingest_platform.pipeline.addresses import OutboundRules, read_networks
from ingest_platform.pipeline.signature import is_signed
from ingest_platform_tests.feeds.stream_events.destinations.batches import (
    CANARY,
    DELIVERY,
    LOOPBACK,
    batch,
    faults,
    item,
    opened,
    raw,
)
from ingest_platform_tests.feeds.stream_events.destinations.certificates import certificate
from ingest_platform_tests.receiving import Answer, Received, receiving, talking

SECRET = f"whsec_{CANARY}"


def _body(url: str, **more: object) -> dict[str, object]:
    return {"type": "http", "url": url, **more}


def test_a_batch_is_signed_as_webhooks_are_and_named_the_same_in_every_attempt(tmp_path: Path) -> None:
    with receiving() as receiver:
        destination = opened(_body(receiver.url, secret="${S}"), tmp_path, secrets={"secret": SECRET})
        for attempt in (1, 2):
            sent = destination.send(batch([item(1, text="ü\u2028"), item(2)], attempt=attempt))
            assert (len(sent.delivered), sent.retry, sent.dead) == (2, {}, {})
        destination.close()
    first, second = receiver.got
    assert first.body == second.body
    assert [each["document"]["event"]["number"] for each in json.loads(first.body)] == [1, 2]
    assert first.headers["x-delivery-id"] == second.headers["x-delivery-id"] == DELIVERY
    assert (first.headers["x-delivery-attempt"], second.headers["x-delivery-attempt"]) == ("1", "2")
    ours, hub = first.headers["x-causeloop-signature"], first.headers["x-hub-signature-256"]
    assert is_signed(SECRET, first.body, signatures=[ours], hub_signatures=[])
    assert is_signed(SECRET, first.body, signatures=[], hub_signatures=[hub])
    assert "authorization" not in first.headers


def test_lines_can_be_compressed_and_headers_be_added(tmp_path: Path) -> None:
    with receiving() as receiver:
        body = _body(receiver.url, format="ndjson", compression="gzip", headers={"X-Key": "${K}", "X-Team": "a b"})
        secrets = {"headers.X-Key": CANARY, "authorization": f"Bearer {CANARY}"}
        opened(body | {"authorization": "${A}"}, tmp_path, secrets=secrets).send(batch([item(1), item(2)]))
    (got,) = receiver.got
    lines = gzip.decompress(got.body).decode().splitlines()
    assert [json.loads(line)["event_id"] for line in lines] == [item(1).event_id, item(2).event_id]
    assert got.headers["content-type"] == "application/x-ndjson"
    assert got.headers["content-encoding"] == "gzip"
    assert (got.headers["x-key"], got.headers["x-team"]) == (CANARY, "a b")
    assert got.headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        (Answer(status=429, headers={"Retry-After": "7"}), 7.0),
        (Answer(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), 0.0),
        (Answer(status=503, headers={"Retry-After": "soon"}), None),
        (Answer(status=503, headers={"Retry-After": "9" * 50}), calling.RETRY_AFTER_SECONDS_MAX),
        (Answer(status=500), None),
        (Answer(status=408), None),
        (Answer(status=302, headers={"Location": "http://127.0.0.1/"}), None),
    ],
)
def test_what_may_pass_is_transient(tmp_path: Path, answer: Answer, pause: float | None) -> None:
    with receiving(lambda _: answer) as receiver, pytest.raises(Transient) as told:
        opened(_body(receiver.url), tmp_path).send(batch([item(1)]))
    assert told.value.retry_after_seconds == pause
    assert str(answer.status) in told.value.reason
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_any_other_refusal_is_permanent(tmp_path: Path, status: int) -> None:
    with receiving(lambda _: Answer(status=status, body=CANARY.encode())) as receiver, pytest.raises(Permanent) as told:
        opened(_body(receiver.url), tmp_path).send(batch([item(1)]))
    assert told.value.reason == f"answered {status}"


def test_what_is_too_large_is_sent_in_parts_that_have_ids_of_their_own(tmp_path: Path) -> None:
    def answer(received: Received) -> Answer:
        many = len(json.loads(received.body)) > 2 or b"huge" in received.body
        return Answer(status=413 if many else 200)

    items = [item(number, text="huge" if number == 3 else "") for number in range(6)]
    with receiving(answer) as receiver:
        sent = opened(_body(receiver.url), tmp_path).send(batch(items))
    assert sent.dead == {items[3].event_id: "answered 413: too large"}
    assert sorted(sent.delivered) == sorted(each.event_id for each in items if each is not items[3])
    ids = [each.headers["x-delivery-id"] for each in receiver.got]
    assert len(set(ids)) == len(ids)
    assert ids[0] == DELIVERY
    assert all(each.startswith(f"{DELIVERY}.") for each in ids[1:])


def test_a_receiver_that_fails_in_the_middle_keeps_what_it_has_taken(tmp_path: Path) -> None:
    def answer(received: Received) -> Answer:
        numbers = [each["document"]["event"]["number"] for each in json.loads(received.body)]
        return Answer(status=413 if len(numbers) == 4 else 200 if 0 in numbers else 503, headers={"Retry-After": "3"})

    items = [item(number) for number in range(4)]
    with receiving(answer) as receiver:
        sent = opened(_body(receiver.url), tmp_path).send(batch(items))
    assert list(sent.delivered) == [each.event_id for each in items[:2]]
    assert sent.retry == dict.fromkeys([each.event_id for each in items[2:]], "answered 503")
    assert sent.retry_after_seconds == 3.0


def test_a_huge_document_arrives_as_it_is(tmp_path: Path) -> None:
    large = raw(1, b'{"event":{"text":"' + b"x" * 20_000_000 + b'"}}')
    with receiving() as receiver:
        opened(_body(receiver.url), tmp_path).send(batch([large]))
    assert large.document in receiver.got[0].body


# Who answers badly, or not at all


def test_a_receiver_that_takes_and_hangs_is_left_after_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (0.5,))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Transient, match="no answer within the time"):
        began = time.monotonic()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        opened(_body(url), tmp_path).send(batch([item(1, text="x" * 3_000_000)]))
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
def test_a_receiver_that_drips_is_left_after_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (0.6,))

    def drip(connection: socket.socket) -> None:
        connection.sendall(begin)
        for _ in range(100):
            connection.sendall(b"X-A: b\r\n")
            time.sleep(0.05)

    with talking(drip) as url, pytest.raises(Transient, match="no answer within the time"):
        began = time.monotonic()
        opened(_body(url), tmp_path).send(batch([item(1)]))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"])
def test_a_receiver_that_breaks_off_is_asked_again(tmp_path: Path, said: bytes) -> None:
    with talking(lambda connection: connection.sendall(said)) as url, pytest.raises(Transient, match="broke"):
        opened(_body(url), tmp_path).send(batch([item(1)]))


def test_a_receiver_that_never_stops_talking_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "ANSWER_BYTES_MAX", 100_000)

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(10_000):
            connection.sendall(b"x" * 10_000)

    with talking(flood) as url, pytest.raises(Transient, match="answered more than"):
        opened(_body(url), tmp_path).send(batch([item(1)]))


def test_who_is_away_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(Transient, match="no connection"):
        opened(_body(f"http://127.0.0.1:{port}/"), tmp_path).send(batch([item(1)]))
    with pytest.raises(Transient, match="could not be resolved"):
        opened(_body("http://nowhere.invalid/"), tmp_path).send(batch([item(1)]))


def test_connections_are_kept_for_the_next_batch_and_those_that_ended_are_not(tmp_path: Path) -> None:
    connections = list[socket.socket]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.append(self.connection)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        destination = opened(_body(f"http://127.0.0.1:{server.server_address[1]}/"), tmp_path)
        for _ in range(3):
            assert len(destination.send(batch([item(1)])).delivered) == 1
        assert len(connections) == 1
        connections[0].shutdown(socket.SHUT_RDWR)
        assert len(destination.send(batch([item(1)])).delivered) == 1
        assert len(connections) == 2
        destination.close()
        server.shutdown()


def test_batches_are_sent_at_once_and_no_one_waits_for_another(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def answer(_: Received) -> Answer:
        together.wait(timeout=10)
        return Answer()

    with receiving(answer) as receiver, ThreadPoolExecutor(4) as threads:
        destination = opened(_body(receiver.url, at_once=4), tmp_path)
        sent = list(threads.map(lambda number: destination.send(batch([item(number)])), range(8)))
    assert [list(each.delivered) for each in sent] == [[item(number).event_id] for number in range(8)]


# Where calls lead


@pytest.mark.parametrize(
    ("host", "rules", "reason"),
    [
        ("localhost", OutboundRules(http_allowed=True), "the address is loopback"),
        ("127.0.0.1", OutboundRules(http_allowed=True), "must lead to a public address"),
        ("127.0.0.1", OutboundRules(networks=LOOPBACK.networks), "must begin with https://"),
    ],
)
def test_only_what_the_settings_allow_is_called(tmp_path: Path, host: str, rules: OutboundRules, reason: str) -> None:
    with receiving() as receiver, pytest.raises(Transient, match=re.escape(reason)):
        opened(_body(f"http://{host}:{receiver.port}/"), tmp_path, rules=rules).send(batch([item(1)]))
    assert receiver.got == []


def test_a_name_that_changes_its_address_is_looked_at_where_it_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["1.1.1.1", "127.0.0.1"], ["127.0.0.1"]])
    asked = list[str]()

    def look_up(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in next(answers)]

    called = list[str]()
    real = socket.create_connection

    def create(address: tuple[str, int], *args: object, **options: float) -> socket.socket:
        called.append(address[0])
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError
        return real(address, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", create)
    rules = OutboundRules(http_allowed=True)
    with receiving() as receiver:
        destination = opened(_body(f"http://rebound.example:{receiver.port}/"), tmp_path, rules=rules)
        for reason in ("no connection", "the address is loopback"):
            with pytest.raises(Transient, match=reason):
                destination.send(batch([item(1)]))
    assert called == ["1.1.1.1"]
    assert asked == ["rebound.example"] * 2


def test_no_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        opened(_body(receiver.url), tmp_path).send(batch([item(1)]))
    assert (len(receiver.got), proxy.got) == (1, [])


# TLS


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    pem = certificate(["localhost"], tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context, pem.read_text().partition("-----BEGIN CERTIFICATE-----")[2]


def test_a_declared_authority_is_trusted_and_no_other(tmp_path: Path, certified: tuple[ssl.SSLContext, str]) -> None:
    context, pem = certified
    rules = OutboundRules(networks=read_networks("127.0.0.0/8, ::1"))
    with receiving(tls=context) as receiver:
        url = f"https://localhost:{receiver.port}/"
        ca = f"-----BEGIN CERTIFICATE-----{pem}"
        destination = opened(_body(url, ca=ca), tmp_path, rules=rules)
        for _ in range(2):
            assert len(destination.send(batch([item(1)])).delivered) == 1
        destination.close()
        with pytest.raises(Transient, match="the certificate is refused"):
            opened(_body(url), tmp_path, rules=rules).send(batch([item(1)]))
        with pytest.raises(Transient, match="the certificate is refused"):
            opened(_body(f"https://127.0.0.1:{receiver.port}/", ca=ca), tmp_path, rules=rules).send(batch([item(1)]))
    assert len(receiver.got) == 2


# Declarations, and what is told


def test_no_secret_is_in_what_is_shown_or_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    secrets = {"secret": SECRET, "authorization": CANARY, "url": f"http://127.0.0.1:{port}/{CANARY}"}
    body = _body("${URL}", secret="${S}", authorization="${A}")
    destination = opened(body, tmp_path, secrets=secrets)
    with caplog.at_level(logging.DEBUG), pytest.raises(Transient) as told:
        destination.send(batch([item(1)]))
    assert CANARY not in f"{destination!r} {destination} {told.value!r} {told.value.__cause__!r} {caplog.text}"
    wrong = faults(_body(f"ftp://{CANARY}", secret=f"{CANARY}\n", authorization=f"{CANARY}\r\nX: y"))
    assert set(wrong) == {"url", "secret", "authorization"}
    assert CANARY not in str(wrong)


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Transfer-Encoding", "X-Delivery-Id", "Authorization", "a b", "", "ü", "a:b", "a\n"],
)
def test_headers_that_are_not_the_declarations_to_say_are_refused(name: str) -> None:
    assert list(faults(_body("https://a.example/", headers={name: "x"}))) == [f"headers.{name}"]


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "ü", " a", "a\0", "x" * 2_001])
def test_values_of_headers_can_not_break_a_line(value: str) -> None:
    assert list(faults(_body("https://a.example/", headers={"X-A": value}))) == ["headers.X-A"]


def test_every_fault_of_a_declaration_is_told() -> None:
    wrong = faults(_body("https://user:pw@a.example/", secret="short", ca="no", headers={"Host": "a"}))
    assert set(wrong) == {"url", "secret", "ca", "headers.Host"}
    assert faults({"type": "http"}) == {"url": "is missing"}
    assert set(faults(_body("https://a.example", format="xml", headers={"a": 1}, at_once=True))) == {
        "format",
        "headers",
        "at_once",
    }
    assert faults(_body("http://a.example/hook", batch_seconds=0.5, batch_events=10)) == {}
