"""A receiver of webhooks on a free port of loopback, which keeps what it gets and answers as it is told."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network

from ingest_platform.pipeline.addresses import OutboundRules

# What tests are allowed to reach, with pauses that nobody notices.
LOOPBACK = OutboundRules(
    networks=(ip_network("127.0.0.1"),), http_allowed=True, seconds_max=5.0, pause_seconds=0.02, attempts_max=3
)
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a receiver answers, and after how long."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b"ok"
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass(slots=True, kw_only=True)
class Receiver:
    """What came, and where to send it."""

    url: str
    port: int
    got: list[Received]

    def wait(self, count: int = 1, *, path: str | None = None) -> list[Received]:
        """Wait until so many requests have come (to a path); give them."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = [each for each in self.got if path is None or each.path == path]
            if len(found) >= count:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{len(self.got)} of {count} requests came")


def _handler(got: list[Received], answer: Callable[[Received], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(path=self.path, headers=headers, body=body, at=time.monotonic())
            got.append(received)
            said = answer(received)
            time.sleep(said.seconds)
            try:
                self.send_response(said.status)
                for name, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.body)
            except OSError:
                # Whoever asked has hung up, as some tests want.
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def receiving(
    answer: Callable[[Received], Answer] = lambda _: Answer(), *, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Receive in threads."""
    got: list[Received] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(got, answer))
    server.daemon_threads = True
    server.block_on_close = False
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    # A handshake that the client breaks off is what some tests are about.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    port = server.server_address[1]
    try:
        yield Receiver(url=f"http{'s' if tls else ''}://127.0.0.1:{port}/hook", port=port, got=got)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@contextmanager
def talking(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answer one connection with raw bytes; the URL."""
    with socket.create_server(("127.0.0.1", 0)) as opened:

        def serve() -> None:
            try:
                connection, _ = opened.accept()
                with connection:
                    connection.recv(65_536)
                    speak(connection)
            except OSError:
                # The client hung up, or the test is over.
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{opened.getsockname()[1]}/"
