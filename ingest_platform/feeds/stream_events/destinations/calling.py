"""HTTP calls to hosts that declarations name: pooled, pinned to vetted addresses, bounded in time and size.

Redirects are not followed, no proxy of the environment is used, no cookie is kept. What an answer means to a type is
not known here, but for what it means to all of them.
"""

import contextvars
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore
import httpx
import msgspec

from ingest_platform.feeds.stream_events.destinations import connecting
from ingest_platform.feeds.stream_events.destinations.connecting import Deadline
from ingest_platform.feeds.stream_events.destinations.destination import (
    DeclaredField,
    DestinationFault,
    Permanent,
    Transient,
)
from ingest_platform.pipeline.addresses import OutboundRules, read_networks
from ingest_platform.pipeline.outbound import why_wrong

USER_AGENT = "ingest-platform-streams"
# A bulk request's answer has some hundred bytes for each of its items.
ANSWER_BYTES_MAX = 16 * 1024 * 1024
RETRY_AFTER_SECONDS_MAX = 6 * 3600.0
TOO_MANY, TIMEOUT, TOO_EARLY, TOO_LARGE = 429, 408, 425, 413
UNAUTHORIZED, FORBIDDEN = 401, 403
_IDLE_SECONDS_MAX = 20.0
# Where a URL may lead is decided when it is called, by the settings of that time; a declaration is read without them.
ANYWHERE = OutboundRules(networks=read_networks("0.0.0.0/0, ::/0"), http_allowed=True)

CA_FIELD = DeclaredField(
    name="ca",
    meaning="Certificates (PEM) that the server's must come from; absent: the public ones, or `SSL_CERT_FILE`.",
)

_deadline: contextvars.ContextVar[Deadline] = contextvars.ContextVar("_deadline")


def read_url(body: Mapping[str, object], name: str = "url", *, path_allowed: bool = True) -> list[DestinationFault]:
    """Find what is wrong with the URL of a declaration. It is never quoted: parts of it may be secret."""
    text = str(body.get(name, ""))
    wrong = why_wrong(text, ANYWHERE)
    if wrong is not None:
        wrong = wrong.replace("https://", "https:// (or http://, where the setting webhook_http allows it)", 1)
    elif not path_allowed and httpx.URL(text).raw_path not in {b"", b"/"}:
        wrong = "must be the host alone, as in https://name:port; the type knows the paths"
    return [] if wrong is None else [DestinationFault(path=name, message=wrong)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def good(self) -> bool:
        """Whether it is one of 2xx."""
        return self.status // 100 == 2  # noqa: PLR2004

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the server asks to wait, in either of HTTP's forms; None if it does not."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return min(float(text[:9]), RETRY_AFTER_SECONDS_MAX)
        with suppress(ValueError):
            at = parsedate_to_datetime(text)
            left = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
            return min(max(left, 0.0), RETRY_AFTER_SECONDS_MAX)
        return None

    def object(self) -> dict[str, object]:
        """Read the body as a JSON object; raises Transient, since no sound server says anything else."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Transient(f"answered {self.status} with what is no JSON object") from None

    def failure(self, said: str = "") -> Transient | Permanent:
        """Say what an answer that is none of 2xx means where a type knows nothing better."""
        reason = f"answered {self.status}" + (f": {said}" if said else "")
        if self.status // 100 == 3:  # noqa: PLR2004
            return Transient(f"{reason}; redirects are not followed")
        if self.status in {TOO_MANY, TIMEOUT, TOO_EARLY} or self.status >= 500:  # noqa: PLR2004
            return Transient(reason, retry_after_seconds=self.retry_after_seconds)
        return Permanent(reason)


class _Stream(httpcore.NetworkStream):
    """A connection whose every step ends with the attempt that it is a part of."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        try:
            self._connection.settimeout(_deadline.get().require())
            return self._connection.recv(max_bytes)
        except TimeoutError:
            raise httpcore.ReadTimeout from None
        except OSError as error:
            raise httpcore.ReadError(_in_words(error)) from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        try:
            self._connection.settimeout(_deadline.get().require())
            self._connection.sendall(buffer)
        except TimeoutError:
            raise httpcore.WriteTimeout from None
        except OSError as error:
            raise httpcore.WriteError(_in_words(error)) from None

    def close(self) -> None:
        self._connection.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        assert server_hostname is not None
        return _Stream(
            connecting.secured(self._connection, server_hostname, context=ssl_context, deadline=_deadline.get())
        )

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":
            return connecting.is_closed(self._connection)
        return self._connection if info == "ssl_object" and isinstance(self._connection, ssl.SSLSocket) else None


def _in_words(error: OSError) -> str:
    return error.strerror or type(error).__name__


class _Network(httpcore.NetworkBackend):
    def __init__(self, rules: OutboundRules) -> None:
        self._rules = rules

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        del timeout, local_address, socket_options
        return _Stream(connecting.connect(host, port, rules=self._rules, deadline=_deadline.get()))


class Caller:
    """Calls one destination's hosts; threads may call at once. Nothing is opened before the first call."""

    def __init__(self, rules: OutboundRules, *, ca: str | None = None, connections_max: int = 4) -> None:
        self._rules = rules
        self._ca = ca
        self._connections_max = connections_max
        self._lock = threading.Lock()
        self._pool: httpcore.ConnectionPool | None = None

    def _opened(self) -> httpcore.ConnectionPool:
        with self._lock:
            if self._pool is None:
                self._pool = httpcore.ConnectionPool(
                    ssl_context=connecting.trust(self._ca),
                    max_connections=self._connections_max,
                    max_keepalive_connections=self._connections_max,
                    keepalive_expiry=_IDLE_SECONDS_MAX,
                    http1=True,
                    http2=False,
                    retries=0,
                    network_backend=_Network(self._rules),
                )
            return self._pool

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Answer:
        """Send a body; whatever the status, give the answer. Raises Transient if there is none."""
        return self.call("POST", url, headers=headers, body=body, deadline=deadline)

    def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Answer:
        """Make a call; whatever the status, give the answer. Raises Transient if there is none."""
        wrong = why_wrong(url, self._rules)
        if wrong is not None:
            raise Transient(f"not sent: the URL {wrong}")
        token = _deadline.set(deadline)
        try:
            return self._call(method, httpx.URL(url), headers, body, deadline)
        except (httpcore.TimeoutException, TimeoutError):
            raise Transient("no answer within the time") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Transient(f"the connection broke: {str(error) or type(error).__name__}") from None
        finally:
            _deadline.reset(token)

    def _call(self, method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Answer:
        own = {"Host": url.netloc.decode("ascii"), "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        sized = {"Content-Length": str(len(body))} if body or method == "POST" else {}
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        with self._opened().stream(
            method,
            target,
            headers={**headers, **own, **sized},
            content=body,
            # Waiting for a connection of the pool is the only step that does not look at the deadline by itself.
            extensions={"timeout": {"pool": deadline.require()}},
        ) as answer:
            names = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in answer.headers}
            return Answer(status=answer.status, headers=names, body=_read(answer.iter_stream()))


def _read(pieces: Iterable[bytes]) -> bytes:
    taken, size = list[bytes](), 0
    for piece in pieces:
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise Transient(f"answered more than {ANSWER_BYTES_MAX} bytes")
        taken.append(piece)
    return b"".join(taken)


def text_at(answer: Mapping[str, object], *path: str) -> str:
    """Take a text out of a server's answer, without what could break a line; "" if there is none.

    >>> text_at({"error": {"type": "x"}}, "error", "type")
    'x'
    """
    found: object = answer
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return " ".join(found.split())[:200] if isinstance(found, str) else ""
