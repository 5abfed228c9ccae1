"""Syslog as RFC 5424 and 6587 have it: read by a strict parser of ours, and by a real rsyslog where there is one."""

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ingest_platform.feeds.stream_events.destinations.connecting import Deadline
from ingest_platform.feeds.stream_events.destinations.destination import Destination, Transient
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform_tests.feeds.stream_events.destinations.batches import (
    LOOPBACK,
    STREAM,
    batch,
    faults,
    item,
    opened,
    raw,
)
from ingest_platform_tests.feeds.stream_events.destinations.certificates import certificate

RSYSLOGD = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin")
TLS_DRIVER = next(Path("/usr/lib").glob("*/rsyslog/lmnsd_ossl.so"), None)
PATIENCE_SECONDS = 20.0
with_rsyslog = pytest.mark.skipif(RSYSLOGD is None, reason="no rsyslogd on this machine (package rsyslog)")

# RFC 5424, section 6, to the letter; MSG is taken as it is.
MESSAGE = re.compile(
    rb"<(?P<priority>0|[1-9]\d{0,2})>1 "
    rb"(?P<timestamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)) "
    rb"(?P<hostname>-|[\x21-\x7e]{1,255}) (?P<app>-|[\x21-\x7e]{1,48}) (?P<process>-|[\x21-\x7e]{1,128}) "
    rb"(?P<id>-|[\x21-\x7e]{1,32}) "
    rb"(?P<structured>-|(?:\[[^ =\]\"\x00-\x20]{1,32}(?: [^ =\]\"\x00-\x20]{1,32}=\"(?:[^\"\\\]]|\\[\"\\\]])*\")*\])+)"
    rb"(?: (?P<message>.*))?",
    re.DOTALL,
)


@dataclass(slots=True)
class Reader:
    """A receiver that counts octets, and keeps what came."""

    port: int
    messages: list[re.Match[bytes]] = field(default_factory=list)
    connections: int = 0

    def wait(self, count: int) -> list[re.Match[bytes]]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.messages) < count:
            assert time.monotonic() < deadline, f"{len(self.messages)} of {count} messages came"
            time.sleep(0.01)
        return self.messages

    def read(self, connection: socket.socket) -> None:
        taken = b""
        while piece := connection.recv(65_536):
            taken += piece
            while (head := re.match(rb"([1-9]\d*) ", taken)) and len(taken) >= head.end() + int(head[1]):
                end = head.end() + int(head[1])
                message = MESSAGE.fullmatch(taken[head.end() : end])
                assert message is not None, taken[:end]
                self.messages.append(message)
                taken = taken[end:]
        assert taken == b"", "a message was broken off"


@contextmanager
def _reading(
    handle: Callable[[Reader, socket.socket], None] = Reader.read, *, tls: ssl.SSLContext | None = None
) -> Iterator[Reader]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = Reader(server.getsockname()[1])

        def serve() -> None:
            # Until the server is closed.
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    reader.connections += 1
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                spoken = tls.wrap_socket(connection, server_side=True) if tls else connection
                with spoken:
                    handle(reader, spoken)

        threading.Thread(target=serve, daemon=True).start()
        yield reader
        server.shutdown(socket.SHUT_RDWR)


def _open(folder: Path, address: str, *, rules: OutboundRules = LOOPBACK, **more: object) -> Destination:
    return opened({"type": "syslog", "address": address, **more}, folder, rules=rules)


def test_an_event_is_a_message_with_its_length_before_it(tmp_path: Path) -> None:
    items = [replace(item(1, text='ü\n\u2028] "x"'), weight=100.0), item(2, source=None), item(3, source="a b\nü" * 20)]
    with _reading() as reader:
        destination = _open(
            tmp_path, f"tcp://127.0.0.1:{reader.port}", facility="auth", severity="notice", hostname="h"
        )
        sent = destination.send(batch(items))
        first, second, third = reader.wait(3)
        destination.close()
    assert list(sent.delivered) == [each.event_id for each in items]
    assert first["message"] == items[0].document
    assert first["timestamp"] == b"2026-03-01T12:00:00.124456Z"
    assert (first["priority"], first["hostname"], first["app"]) == (b"37", b"h", b"checkout")
    expected = f'[ingest@32473 id="{items[0].event_id}" weight="100.0" stream="{STREAM}" version="3"]'
    assert first["structured"].decode() == expected
    assert (second["app"], third["app"]) == (b"-", (b"a_b__" * 20)[:48])


@pytest.mark.parametrize(
    ("level", "severity"),
    [("ERROR", 3), ("warn", 4), (" Fatal ", 2), (0, 0), ("7", 7), ("purple", 6), (8, 6), (None, 6), (True, 6), ([], 6)],
)
def test_the_severity_can_be_the_events_own(tmp_path: Path, level: object, severity: int) -> None:
    with _reading() as reader:
        address = f"tcp://127.0.0.1:{reader.port}"
        destination = _open(tmp_path, address, severity_from='event."log.level"', app_name="app")
        destination.send(batch([item(1, **{"log.level": level})]))
        (message,) = reader.wait(1)
    assert int(message["priority"]) == 16 * 8 + severity
    assert message["app"] == b"app"


def test_a_connection_is_kept_and_one_that_ended_is_made_anew(tmp_path: Path) -> None:
    connections = list[socket.socket]()

    def handle(reader: Reader, connection: socket.socket) -> None:
        connections.append(connection)
        reader.read(connection)

    with _reading(handle) as reader:
        destination = _open(tmp_path, f"tcp://127.0.0.1:{reader.port}")
        for number in range(3):
            destination.send(batch([item(number)]))
        reader.wait(3)
        assert reader.connections == 1
        connections[0].shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)
        destination.send(batch([item(4)]))
        reader.wait(4)
        assert reader.connections == 2
        destination.close()


def test_a_message_that_would_be_cut_is_a_dead_letter_instead(tmp_path: Path) -> None:
    items = [item(1), item(2, text="x" * 9_000), item(3)]
    with _reading() as reader:
        sent = _open(tmp_path, f"tcp://127.0.0.1:{reader.port}").send(batch(items))
        assert "message_bytes_max is 8192" in sent.dead[items[1].event_id]
        assert len(sent.delivered) == len(reader.wait(2)) == 2
        large = _open(tmp_path, f"tcp://127.0.0.1:{reader.port}", message_bytes_max=1_000_000)
        assert len(large.send(batch([item(4, text="x" * 900_000)])).delivered) == 1
        assert len(reader.wait(3)[-1]["message"]) > 900_000


def test_a_receiver_that_takes_nothing_is_left_after_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (0.5,))
    done = threading.Event()
    with _reading(lambda *_: (done.wait(5), None)[1]) as reader:
        began = time.monotonic()
        destination = _open(tmp_path, f"tcp://127.0.0.1:{reader.port}", message_bytes_max=1_000_000)
        with pytest.raises(Transient, match="within the time"):
            destination.send(batch(item(number, text="x" * 900_000) for number in range(20)))
        done.set()
    assert time.monotonic() - began < 3


def test_a_receiver_that_ends_the_connection_in_the_middle_is_sent_everything_again(tmp_path: Path) -> None:
    def handle(_: Reader, connection: socket.socket) -> None:
        connection.recv(100_000)
        # With bytes unread, the end is a reset.
        connection.close()

    with _reading(handle) as reader:
        destination = _open(tmp_path, f"tcp://127.0.0.1:{reader.port}", message_bytes_max=1_000_000)
        with pytest.raises(Transient, match=r"broke|ended"):
            destination.send(batch(item(number, text="x" * 900_000) for number in range(20)))


def test_who_is_away_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(Transient, match="no connection"):
        _open(tmp_path, f"tcp://127.0.0.1:{port}").send(batch([item(1)]))


@pytest.mark.parametrize(
    ("host", "rules", "reason"),
    [
        ("localhost", OutboundRules(http_allowed=True), "the address is loopback"),
        ("127.0.0.1", OutboundRules(http_allowed=True), "must lead to a public address"),
        ("127.0.0.1", OutboundRules(networks=LOOPBACK.networks), "not sent: tcp:// is allowed only"),
    ],
)
def test_only_what_the_settings_allow_is_called(tmp_path: Path, host: str, rules: OutboundRules, reason: str) -> None:
    with _reading() as reader:
        with pytest.raises(Transient, match=reason):
            _open(tmp_path, f"tcp://{host}:{reader.port}", rules=rules).send(batch([item(1)]))
        assert reader.connections == 0


def test_over_tls_the_receiver_must_be_who_it_says(tmp_path: Path) -> None:
    pem = certificate(["127.0.0.1"], tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    ca = _certificate_in(pem)
    rules = OutboundRules(networks=LOOPBACK.networks)
    with _reading(tls=context) as reader:
        destination = _open(tmp_path, f"tls://127.0.0.1:{reader.port}", ca=ca, rules=rules)
        for number in range(3):
            destination.send(batch([item(number)]))
        assert [each["message"] for each in reader.wait(3)] == [item(number).document for number in range(3)]
        assert reader.connections == 1
        destination.close()
        with pytest.raises(Transient, match="the certificate is refused"):
            _open(tmp_path, f"tls://127.0.0.1:{reader.port}", rules=rules).send(batch([item(1)]))
    with _reading(lambda _, connection: connection.close()) as plain, pytest.raises(Transient):
        _open(tmp_path, f"tls://127.0.0.1:{plain.port}", ca=ca, rules=rules).send(batch([item(1)]))


def _certificate_in(pem: Path) -> str:
    return "-----BEGIN CERTIFICATE-----" + pem.read_text().partition("-----BEGIN CERTIFICATE-----")[2]


def test_every_fault_of_a_declaration_is_told() -> None:
    assert faults({"type": "syslog"}) == {"address": "is missing"}
    for address in (
        "",
        "host",
        "udp://h:514",
        "tcp://h:22",
        "tcp://h:99999",
        "tls://u@h",
        "tls://h/x",
        "tls://a b",
        "tls://",
    ):
        assert list(faults({"type": "syslog", "address": address})) == ["address"], address
    for address in (
        "tls://logs.example.com",
        "tcp://10.0.0.1:514",
        "tls://[2001:db8::1]:6514",
        "tls://h.example:6514/",
    ):
        assert faults({"type": "syslog", "address": address}) == {}, address
    wrong = {"address": "x", "ca": "x", "app_name": "a b", "hostname": "", "severity_from": "event..x"}
    assert set(faults({"type": "syslog", **wrong})) == set(wrong)
    assert set(faults({"type": "syslog", "address": "tls://h", "facility": "x", "severity": "x"})) == {
        "facility",
        "severity",
    }


# A real rsyslog


@dataclass(frozen=True, slots=True, kw_only=True)
class Rsyslog:
    """A running rsyslogd."""

    port: int
    out: Path

    def wait(self, count: int) -> list[dict[str, str]]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            lines = self.out.read_text(encoding="utf-8").splitlines() if self.out.exists() else []
            if len(lines) >= count:
                return [json.loads(line) for line in lines]
            assert time.monotonic() < deadline, f"{len(lines)} of {count} lines were written"
            time.sleep(0.05)


_PROPERTIES = {
    "pri": "pri",
    "at": 'timereported" dateformat="rfc3339',
    "host": "hostname",
    "app": "app-name",
    "structured": "structured-data",
    "message": "msg",
}


@contextmanager
def _rsyslog(folder: Path, *, pem: Path | None = None) -> Iterator[Rsyslog]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tls, driver = "", ""
    if pem is not None:
        ca = folder / "ca.pem"
        ca.write_text(_certificate_in(pem))
        tls = (
            f'global(DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="{ca}"'
            f' DefaultNetstreamDriverCertFile="{ca}" DefaultNetstreamDriverKeyFile="{pem}")\n'
        )
        driver = ' StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon"'
    names = 'constant(value=",")'.join(
        f'property(outname="{name}" name="{of}" format="jsonf")' for name, of in _PROPERTIES.items()
    )
    out, config = folder / "out.ndjson", folder / "rsyslog.conf"
    config.write_text(
        f'{tls}global(workDirectory="{folder}" maxMessageSize="64k")\n'
        f'module(load="imtcp"{driver})\ninput(type="imtcp" address="127.0.0.1" port="{port}")\n'
        f'template(name="lines" type="list") {{ constant(value="{{") {names} constant(value="}}\\n") }}\n'
        f'action(type="omfile" file="{out}" template="lines")\n'
    )
    assert RSYSLOGD is not None
    command = [RSYSLOGD, "-n", "-f", str(config), "-i", str(folder / "pid")]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        _wait_until_listening(port, process, folder / "said")
        yield Rsyslog(port=port, out=out)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_until_listening(port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, said.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(said.read_text())


@with_rsyslog
def test_a_real_rsyslog_reads_every_part_of_a_message(tmp_path: Path) -> None:
    items = [
        item(1, text='ü 💥 \\ "x" ]'),
        item(2, source=None, level="error"),
        raw(3, b'{"event":{"a":1},\n "b":2}'),
        item(4, text="x" * 20_000),
    ]
    with _rsyslog(tmp_path) as rsyslog:
        address = f"tcp://127.0.0.1:{rsyslog.port}"
        destination = _open(
            tmp_path, address, severity_from="event.level", hostname="h.example", message_bytes_max=32_768
        )
        assert len(destination.send(batch(items)).delivered) == 4
        first, second, third, fourth = rsyslog.wait(4)
        destination.close()
    assert json.loads(first["message"]) == json.loads(items[0].document)
    assert (first["pri"], first["host"], first["app"]) == ("134", "h.example", "checkout")
    assert first["at"].startswith("2026-03-01T12:00:00.124456")
    assert first["structured"].startswith(f'[ingest@32473 id="{items[0].event_id}" weight="1.0"')
    assert (second["pri"], second["app"]) == ("131", "-")
    # A line break inside of a message does not end it: its length stands before it.
    assert third["message"].replace("#012", "\n").strip().encode() == items[2].document
    assert json.loads(fourth["message"]) == json.loads(items[3].document)


@with_rsyslog
@pytest.mark.skipif(TLS_DRIVER is None, reason="rsyslog without TLS (package rsyslog-openssl)")
def test_a_real_rsyslog_is_spoken_to_over_tls_and_found_again_when_it_comes_back(tmp_path: Path) -> None:
    pem = certificate(["127.0.0.1"], tmp_path)
    with _rsyslog(tmp_path, pem=pem) as rsyslog:
        destination = _open(tmp_path, f"tls://127.0.0.1:{rsyslog.port}", ca=_certificate_in(pem))
        for number in range(3):
            destination.send(batch([item(number)]))
        assert [json.loads(each["message"]) for each in rsyslog.wait(3)] == [
            json.loads(item(number).document) for number in range(3)
        ]
    with pytest.raises(Transient):
        destination.send(batch([item(4)]))
    destination.close()
