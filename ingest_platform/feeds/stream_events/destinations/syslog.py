"""Syslog (RFC 5424) over TCP or TLS, each message with its length before it (RFC 6587, RFC 5425).

Syslog has no acknowledgement. A batch counts as delivered once the other machine has confirmed every byte of it and has
not ended the connection; what the receiver does with them, nobody is told.
"""

import fcntl
import re
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import ClassVar, cast

import msgspec

from ingest_platform.feeds.stream_events.declaration.paths import WrongPath, read_path
from ingest_platform.feeds.stream_events.destinations import calling, connecting
from ingest_platform.feeds.stream_events.destinations.calling import ANYWHERE
from ingest_platform.feeds.stream_events.destinations.connecting import Deadline, read_trust
from ingest_platform.feeds.stream_events.destinations.destination import (
    KIB,
    MIB,
    Batch,
    BatchRule,
    Body,
    DeclaredField,
    DestinationFault,
    DestinationType,
    FieldKind,
    Item,
    Sent,
    Site,
    Transient,
    batch_fields,
    batch_rule,
)
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.pipeline.outbound import why_wrong

RULE = BatchRule(events_max=1_000, bytes_max=1 * MIB, linger_seconds=1.0, at_once=1)
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock", *(f"local{number}" for number in range(8))),
)
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_ALSO: Mapping[str, str] = {
    "emergency": "emerg",
    "panic": "emerg",
    "critical": "crit",
    "fatal": "crit",
    "error": "err",
    "warn": "warning",
    "informational": "info",
    "information": "info",
    "trace": "debug",
    "verbose": "debug",
}
# What every receiver should take (RFC 5425, 4.3.1), and what rsyslog cuts messages to unless it is told otherwise.
MESSAGE_BYTES_MAX = 8_192
# Nobody has a number of an enterprise for us; this one is kept free for examples (RFC 5612).
_STRUCTURED = 'ingest@32473 id="{id}" weight="{weight}" stream="{stream}" version="{version}"'
_PORTS = {"tcp": 601, "tls": 6514}
_OTHER_PORTS = frozenset({514, 601, 6514})
_PORT_MIN, _PORT_MAX = 1024, 65_535
_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@?#]+)(?::(\d{1,5}))?/?")
_NOT_VISIBLE = re.compile(r"[^\x21-\x7e]")
_APP_CHARACTERS_MAX, _HOST_CHARACTERS_MAX = 48, 255
_CHUNK_BYTES = 64 * KIB
_SETTLING_SECONDS_MIN, _SETTLING_SECONDS_MAX = 0.001, 0.1


def _read_address(text: str) -> tuple[str, str, int] | None:
    """Read an address as scheme, host and port; None if it is none."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    scheme, host, port = found[1], found[2], int(found[3] or _PORTS[found[1]])
    if port not in _OTHER_PORTS and not _PORT_MIN <= port <= _PORT_MAX:
        return None
    return scheme, host, port


def _check(body: Body) -> list[DestinationFault]:
    faults = read_trust(body.get("ca"))
    address = _read_address(str(body["address"]))
    if address is None:
        allowed = "must be tls://host:port or tcp://host:port, the port 514, 601, 6514 or from 1024 on"
        faults.append(DestinationFault(path="address", message=allowed))
    elif (wrong := why_wrong(f"https://{address[1]}", ANYWHERE)) is not None:
        faults.append(DestinationFault(path="address", message=wrong))
    for name, most in (("app_name", _APP_CHARACTERS_MAX), ("hostname", _HOST_CHARACTERS_MAX)):
        if name in body and re.fullmatch(rf"[\x21-\x7e]{{1,{most}}}", str(body[name])) is None:
            faults.append(DestinationFault(path=name, message=f"must have 1 to {most} visible ASCII characters"))
    if "severity_from" in body:
        try:
            read_path(str(body["severity_from"]))
        except WrongPath as wrong:
            faults.append(DestinationFault(path="severity_from", message=str(wrong)))
    return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an event is written as a message."""

    facility: int
    severity: int
    severity_from: tuple[str, ...] | None
    app_name: str | None
    hostname: str

    def message(self, item: Item, batch: Batch) -> bytes:
        """Write an event as a message, without its length."""
        priority = self.facility * 8 + self._severity(item)
        at = item.timestamp.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        app = self.app_name or _visible(item.source, characters_max=_APP_CHARACTERS_MAX)
        structured = _STRUCTURED.format(
            id=_escaped(item.event_id),
            weight=repr(item.weight),
            stream=_escaped(batch.stream_id),
            version=batch.stream_version,
        )
        return f"<{priority}>1 {at}Z {self.hostname} {app} - - [{structured}] ".encode() + item.document

    def _severity(self, item: Item) -> int:
        if self.severity_from is None:
            return self.severity
        found: object = msgspec.json.decode(item.document)
        for name in self.severity_from:
            found = cast("dict[str, object]", found).get(name) if isinstance(found, dict) else None
        known = severity_of(found)
        return self.severity if known is None else known


def severity_of(value: object) -> int | None:
    """Read a severity, as a word or as syslog's number; None for what is none.

    >>> severity_of("WARN"), severity_of(3), severity_of("purple"), severity_of(True)
    (4, 3, None, None)
    """
    if isinstance(value, str):
        word = value.strip().lower()
        word = _ALSO.get(word, word)
        if word in SEVERITIES:
            return SEVERITIES.index(word)
        return int(word) if word in set("01234567") else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < len(SEVERITIES) else None
    return None


def _visible(text: str | None, *, characters_max: int) -> str:
    return _NOT_VISIBLE.sub("_", text or "")[:characters_max] or "-"


def _escaped(value: str) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", value)


@dataclass(slots=True, kw_only=True)
class Syslog:
    """One receiver."""

    type: ClassVar[str] = "syslog"
    batch: BatchRule
    scheme: str
    host: str
    port: int
    form: Form
    message_bytes_max: int
    rules: OutboundRules
    ca: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _idle: list[socket.socket] = field(default_factory=list[socket.socket], repr=False)
    _context: ssl.SSLContext | None = None

    def send(self, batch: Batch) -> Sent:
        """Send a batch. One that broke off is sent again whole: which of its messages arrived, nobody knows."""
        deadline = Deadline()
        delivered, dead, said = list[str](), dict[str, str](), list[bytes]()
        for item in batch.items:
            message = self.form.message(item, batch)
            if len(message) > self.message_bytes_max:
                reason = f"the message has {len(message)} bytes; message_bytes_max is {self.message_bytes_max}"
                dead[item.event_id] = reason
                continue
            delivered.append(item.event_id)
            said.append(b"%d %b" % (len(message), message))
        if said:
            self._say(b"".join(said), deadline)
        return Sent(delivered=delivered, dead=dead)

    def _say(self, frames: bytes, deadline: Deadline) -> None:
        connection = self._taken() or self._connected(deadline)
        try:
            _write(connection, frames, deadline)
            _settle(connection, deadline)
        except TimeoutError:
            connection.close()
            raise Transient("the receiver did not take the messages within the time") from None
        except OSError as error:
            connection.close()
            raise Transient(f"the connection broke: {error.strerror or type(error).__name__}") from None
        if _ended(connection):
            connection.close()
            raise Transient("the receiver ended the connection")
        with self._lock:
            self._idle.append(connection)

    def _taken(self) -> socket.socket | None:
        """Take a connection that is still good."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not _ended(connection):
                return connection
            connection.close()

    def _connected(self, deadline: Deadline) -> socket.socket:
        if self.scheme == "tcp" and not self.rules.http_allowed:
            raise Transient(
                "not sent: tcp:// is allowed only where the setting webhook_http allows what is not secured"
            )
        wrong = why_wrong(f"https://{self.host}", self.rules)
        if wrong is not None:
            raise Transient(f"not sent: the address {wrong}")
        host = self.host.strip("[]")
        connection = connecting.connect(host, self.port, rules=self.rules, deadline=deadline)
        if self.scheme == "tcp":
            return connection
        return connecting.secured(connection, host, context=self._trusting(), deadline=deadline)

    def _trusting(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = connecting.trust(self.ca)
            return self._context

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


def _write(connection: socket.socket, frames: bytes, deadline: Deadline) -> None:
    for begin in range(0, len(frames), _CHUNK_BYTES):
        # In pieces: TLS counts the time anew for each record.
        connection.settimeout(deadline.require())
        connection.sendall(frames[begin : begin + _CHUNK_BYTES])


def _settle(connection: socket.socket, deadline: Deadline) -> None:
    """Wait until the other machine has confirmed every byte. Raises TimeoutError."""
    pause = _SETTLING_SECONDS_MIN
    while _unconfirmed(connection):
        deadline.require()
        time.sleep(pause)
        pause = min(pause * 2, _SETTLING_SECONDS_MAX)


def _unconfirmed(connection: socket.socket) -> int:
    """Count the bytes that the kernel still holds for this connection."""
    (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    return int(count)


def _ended(connection: socket.socket) -> bool:
    """Tell whether the other side has ended the connection; what it says is not listened to."""
    connection.settimeout(0)
    try:
        while connection.recv(4_096):
            continue
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True


def _open(body: Body, site: Site) -> Syslog:
    address = _read_address(str(body["address"]))
    assert address is not None
    severity_from = body.get("severity_from")
    return Syslog(
        batch=batch_rule(body, RULE),
        scheme=address[0],
        host=address[1],
        port=address[2],
        form=Form(
            facility=FACILITIES.index(str(body.get("facility", "local0"))),
            severity=SEVERITIES.index(str(body.get("severity", "info"))),
            severity_from=None if severity_from is None else read_path(str(severity_from)),
            app_name=cast("str | None", body.get("app_name")),
            hostname=str(body.get("hostname", "-")),
        ),
        message_bytes_max=int(cast("int", body.get("message_bytes_max", MESSAGE_BYTES_MAX))),
        rules=site.outbound,
        ca=cast("str | None", body.get("ca")),
    )


KIND = DestinationType(
    type=Syslog.type,
    fields=(
        DeclaredField(name="address", meaning="Receiver, `tls://host:port` or `tcp://host:port`.", required=True),
        calling.CA_FIELD,
        DeclaredField(name="facility", meaning="Facility of all messages.", choices=FACILITIES, default="local0"),
        DeclaredField(
            name="severity", meaning="Severity of what has none of its own.", choices=SEVERITIES, default="info"
        ),
        DeclaredField(name="severity_from", meaning="Path of a word or number of the event that is its severity."),
        DeclaredField(name="app_name", meaning="APP-NAME; absent: the event's source."),
        DeclaredField(name="hostname", meaning="HOSTNAME.", default="-"),
        DeclaredField(
            name="message_bytes_max",
            meaning="Largest message that the receiver takes whole; a larger one is a dead letter.",
            kind=FieldKind.INTEGER,
            default=MESSAGE_BYTES_MAX,
            least=480,
            most=MIB,
        ),
        *batch_fields(RULE),
    ),
    check=_check,
    opened=_open,
)
