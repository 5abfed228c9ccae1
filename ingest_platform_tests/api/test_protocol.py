"""The connection itself: slow, huge, broken and smuggled requests, and the end of the process."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_platform.api import protocol, service
from ingest_platform.api.services import Limits
from ingest_platform_tests.serving import CONFIG, Site, serving

IMPORT = "/v1/machine-data/import-jobs"
ITEM = {"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}

# What is promised of slow clients (promise 23).
CLOSED_SECONDS_MAX = 35.0


def _connect(site: Site) -> socket.socket:
    return socket.create_connection(site.address, timeout=10)


def _read_all(connection: socket.socket) -> bytes:
    pieces: list[bytes] = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def _exchange(site: Site, sent: bytes) -> bytes:
    with _connect(site) as connection:
        connection.sendall(sent)
        return _read_all(connection)


def _error(answer: bytes) -> dict[str, str]:
    head, _, content = answer.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)x-request-id: (\S+)", head)
    error = json.loads(content)["error"]
    assert found is not None
    assert error["request_id"] == found[1].decode()
    return error


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1x\r\n",
        b"no colon\r\n",
        b"Na me: x\r\n",
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_400_and_the_connection_closed(
    shared_site: Site, headers: bytes
) -> None:
    answer = _exchange(shared_site, b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer
    _error(answer)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x00\xa5\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET  \r\n\r\n", b"{}\r\n\r\n"]
)
def test_what_is_no_http_is_400(shared_site: Site, sent: bytes) -> None:
    assert _exchange(shared_site, sent).startswith(b"HTTP/1.1 400 ")


def test_headers_without_end_are_431(shared_site: Site) -> None:
    with _connect(shared_site) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        for _ in range(3):
            connection.sendall(b"x" * 30_000)
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert _error(answer)["code"] == "headers_too_large"


def test_headers_that_come_too_slowly_end_the_connection(shared_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS_MAX", 0.3)
    with _connect(shared_site) as silent, _connect(shared_site) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        assert _error(_read_all(slow))["code"] == "request_timeout"
        assert _read_all(silent) == b""


def test_a_body_that_comes_too_slowly_is_408(database_url: str, tmp_path: Path) -> None:
    limits = Limits(disk_free_bytes_min=1, client_idle_seconds_max=0.5)
    with serving(database_url, tmp_path, limits=limits) as site, _connect(site) as connection:
        connection.sendall(_head(site, b"Content-Length: 100000\r\n") + b'{"items"')
        began = time.monotonic()
        answer = _read_all(connection)
        # The rest is read for a while, so that the client sees the answer; then the connection is closed.
        assert time.monotonic() - began < 5
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer


def test_slow_clients_are_closed_within_35_seconds() -> None:
    assert Limits().client_idle_seconds_max + service.LINGER_SLOW_SECONDS_MAX < CLOSED_SECONDS_MAX
    assert protocol.HEAD_SECONDS_MAX < CLOSED_SECONDS_MAX
    assert protocol.WRITE_STALLED_SECONDS_MAX < CLOSED_SECONDS_MAX


def _head(site: Site, more: bytes) -> bytes:
    return (
        (
            f"POST {IMPORT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\n"
            "Content-Type: application/json\r\n"
        ).encode()
        + more
        + b"\r\n"
    )


def test_too_many_connections_are_refused_in_the_envelope(shared_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS_MAX", 0)
    with _connect(shared_site) as connection:
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer
    _error(answer)


def test_a_broken_request_is_answered_in_the_words_of_its_path(shared_site: Site) -> None:
    head = b"POST /v1/machine-data/batch HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"
    assert b"Cula-Request-Id: req_" in _exchange(shared_site, head)


def test_a_refused_request_whose_body_never_ends_is_closed(shared_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS_MAX", 0.3)
    with _connect(shared_site) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        assert _read_all(connection).startswith(b"HTTP/1.1 404 ")


def test_a_refused_request_with_a_small_body_keeps_the_connection(shared_site: Site) -> None:
    with _connect(shared_site) as connection:
        for _ in range(3):
            connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert b"connection: close" not in answer
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert _read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(shared_site: Site) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    answer = _exchange(
        shared_site,
        (one + b"X-Request-Id: first\r\n\r\n") + (one + b"X-Request-Id: second\r\nConnection: close\r\n\r\n"),
    )
    assert re.findall(rb"(?i)x-request-id: (\S+)", answer) == [b"first", b"second"]


def test_expect_100_is_answered_before_the_body_and_a_refusal_instead_of_it(shared_site: Site) -> None:
    content = json.dumps({"items": [ITEM]}).encode()
    with _connect(shared_site) as connection:
        connection.sendall(_head(shared_site, b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(content)))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(content)
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")
    with _connect(shared_site) as connection:
        connection.sendall(_head(shared_site, b"Expect: 100-continue\r\nContent-Length: 999999999\r\n"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_head_is_answered_like_get_without_a_body(shared_site: Site) -> None:
    answer = shared_site.client.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("method", ["OPTIONS", "DELETE", "PUT", "TRACE"])
def test_another_method_is_405_with_what_is_allowed(shared_site: Site, method: str) -> None:
    answer = shared_site.client.request(method, IMPORT)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"


def _strange_paths() -> Iterator[str]:
    yield from ("/", "//", "/v1/jobs/", "/v1/jobs/%00", "/v1/jobs/%ff%fe", "/v1/jobs/..%2f..%2fetc", "/v1/jobs/a%2Fb")
    yield from (
        "/v1/jobs?limit=%00",
        "/v1/jobs?cursor=%ff",
        "/v1/jobs/x?wait=9999999999999999999999",
        "/v1/jobs?since=x",
    )


@pytest.mark.parametrize("path", list(_strange_paths()))
def test_strange_paths_and_queries_are_4xx(shared_site: Site, path: str) -> None:
    answer = shared_site.client.get(path)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["request_id"] == answer.headers["X-Request-Id"]
