"""Calls to URLs that clients named lead to what is public, and nowhere else, however they are written."""

import asyncio
import socket
import ssl
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.pipeline.outbound import ANSWER_BYTES_MAX, Outbound, Resolver, Sent, why_wrong
from ingest_platform_tests.receiving import LOOPBACK, Answer, receiving, talking

RULES = OutboundRules()
NAME = "hooks.example.com"


def _post(url: str, rules: OutboundRules = LOOPBACK, headers: dict[str, str] | None = None) -> Sent:
    async def post() -> Sent:
        async with Outbound(rules) as outbound:
            return await outbound.post(url, headers=headers or {}, body=b'{"a": 1}')

    return asyncio.run(post())


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Let names have the addresses that a test says, and count who asks."""
    addresses: dict[str, list[str]] = {}
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: object, **options: int) -> list[object]:
        if host not in addresses:
            return list(real(host, port, *args, **options))
        asked.append(host)
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(family[ip_address(each).version], socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    addresses["(asked)"] = asked
    return addresses


# URLs


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com/hook?team=a&b=%20", "https://EXAMPLE.com.", "https://xn--bcher-kva.example:8443/"),
        *("https://1.1.1.1/", "https://[2606:4700::1111]/", "https://a.b-c.example", "https://_hooks.example.com/x@y"),
    ],
)
def test_urls_that_lead_outside_are_taken(url: str) -> None:
    assert why_wrong(url, RULES) is None


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "example.com", "//example.com", "https:", "https:///", "https:example.com", "ftp://example.com"),
        *("http://example.com", "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)", "https://"),
        *("https://user@example.com", "https://user:pass@example.com", "https://@example.com", "https://:@example.com"),
        *("https://example.com#@evil.example", "https://example.com/#x", "https://example.com\\@evil.example/"),
        *("https://exa mple.com", "https://example.com/\r\nX: y", "https://exämple.com", "https://example.com/ü"),
        *("https://example.com:22/", "https://example.com:25/", "https://example.com:0/", "https://example.com:1023/"),
        *("https://example.com:99999/", "https://example.com:x/", "https://ex%61mple.com/", "https://a..example/"),
        *("https://127.0.0.1/", "https://10.0.0.1:8443/", "https://169.254.169.254/latest/meta-data/"),
        *("https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/", "https://0/"),
        *("https://0x7f.0.0.1/", "https://127.0.0.1./", "https://①②⑦.0.0.1/", "https://127。0。0。1/"),
        *("https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/"),
        *("https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[64:ff9b::7f00:1]/", "https://[::1/"),
        *("https://[fd00:ec2::254]/", "https://[v1.x]/", "https://-a.example/", f"https://{'a' * 64}.example/"),
        f"https://example.com/{'a' * 2_000}",
    ],
)
def test_urls_that_do_not_are_refused_by_their_text(url: str) -> None:
    assert why_wrong(url, RULES)


def test_http_is_taken_only_where_it_is_allowed() -> None:
    assert why_wrong("http://example.com/", OutboundRules(http_allowed=True)) is None
    assert why_wrong("http://example.com/", RULES)
    assert why_wrong("ftp://example.com/", OutboundRules(http_allowed=True))


@given(url=st.text(max_size=60) | st.builds("https://{}".format, st.text(max_size=40)))
def test_no_text_breaks_the_check(url: str) -> None:
    said = why_wrong(url, RULES)
    assert said is None or said


# Calls


def test_a_name_is_asked_for_once_and_its_address_is_called_under_the_name(named: dict[str, list[str]]) -> None:
    named[NAME] = ["127.0.0.1"]
    with receiving() as receiver:
        sent = _post(f"http://{NAME}:{receiver.port}/a?b=c", headers={"X-Own": "1"})
    (got,) = receiver.got
    assert (sent.response_code, sent.error) == (200, None)
    assert (got.path, got.body, got.headers["host"]) == ("/a?b=c", b'{"a": 1}', f"{NAME}:{receiver.port}")
    assert got.headers["x-own"] == "1"
    assert named["(asked)"] == [NAME]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.0.0.1", "::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]])
def test_a_name_of_addresses_that_are_not_public_is_not_called(
    named: dict[str, list[str]], addresses: list[str]
) -> None:
    named[NAME] = addresses
    with receiving() as receiver:
        sent = _post(f"http://{NAME}:{receiver.port}/", replace(LOOPBACK, networks=()))
    assert receiver.got == []
    assert sent.response_code is None
    assert sent.error is not None
    assert sent.error.startswith("not sent: the address is ")


def test_only_the_addresses_of_a_name_that_may_be_called_are(named: dict[str, list[str]]) -> None:
    named[NAME] = ["10.255.255.1", "127.0.0.1"]
    with receiving() as receiver:
        assert _post(f"http://{NAME}:{receiver.port}/").response_code == 200


def test_the_next_address_of_a_name_is_tried_when_one_is_away(named: dict[str, list[str]]) -> None:
    named[NAME] = ["127.0.0.2", "127.0.0.1"]
    with receiving() as receiver:
        sent = _post(f"http://{NAME}:{receiver.port}/", replace(LOOPBACK, networks=(ip_network("127.0.0.0/8"),)))
    assert sent.response_code == 200


def test_a_redirect_is_not_followed() -> None:
    with (
        receiving() as target,
        receiving(lambda _: Answer(status=302, headers={"Location": target.url})) as receiver,
    ):
        sent = _post(receiver.url)
    assert (sent.response_code, sent.error) == (302, "answered 302; redirects are not followed")
    assert target.got == []


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    with receiving() as receiver:
        assert _post(receiver.url).response_code == 200


def test_no_cookie_is_kept() -> None:
    async def post_twice(url: str) -> None:
        async with Outbound(LOOPBACK) as outbound:
            for _ in range(2):
                await outbound.post(url, headers={}, body=b"")

    with receiving(lambda _: Answer(headers={"Set-Cookie": "a=b"})) as receiver:
        asyncio.run(post_twice(receiver.url))
    assert [got.headers.get("cookie") for got in receiver.got] == [None, None]


@pytest.mark.parametrize(
    ("status", "error"), [(204, None), (400, "answered 400"), (500, "answered 500"), (410, "answered 410")]
)
def test_only_a_success_is_one(status: int, error: str | None) -> None:
    with receiving(lambda _: Answer(status=status, body=b"")) as receiver:
        sent = _post(receiver.url)
    assert (sent.response_code, sent.error) == (status, error)


@pytest.mark.parametrize(("text", "seconds"), [("120", 120.0), ("x", None), ("-1", None), ("9" * 30, None)])
def test_a_wait_that_is_asked_for_in_seconds_is_heard(text: str, seconds: float | None) -> None:
    with receiving(lambda _: Answer(status=503, headers={"Retry-After": text})) as receiver:
        assert _post(receiver.url).retry_after_seconds == seconds


def test_of_a_large_answer_only_the_beginning_is_read() -> None:
    taken: list[int] = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        piece, sent = b"x" * 65_536, 0
        try:
            for _ in range(1_000):
                connection.sendall(piece)
                sent += len(piece)
        finally:
            taken.append(sent)

    with talking(flood) as url:
        sent = _post(url)
    assert sent.response_code == 200
    deadline = time.monotonic() + 5
    while not taken and time.monotonic() < deadline:
        time.sleep(0.02)
    # What the kernel's buffers take besides is not ours.
    assert taken[0] < ANSWER_BYTES_MAX + 16 * 1024 * 1024


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["silent", "headers", "continue"]
)
def test_a_receiver_that_drips_is_left_after_the_longest_time(begin: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(begin or b"")
            time.sleep(0.05)

    with talking(drip) as url:
        began = time.monotonic()
        sent = _post(url, replace(LOOPBACK, seconds_max=0.5))
    assert time.monotonic() - began < 2
    assert (sent.response_code, sent.error) == (None, "no answer within 0.5 s")


def test_an_answer_counts_although_its_body_never_ends() -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nx")
        time.sleep(2)

    with talking(speak) as url:
        sent = _post(url, replace(LOOPBACK, seconds_max=0.5))
    assert (sent.response_code, sent.error) == (202, None)


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 999999 X\r\n\r\n"])
def test_what_is_no_answer_is_told_as_a_failure(said: bytes) -> None:
    with talking(lambda connection: connection.sendall(said)) as url:
        sent = _post(url)
    assert sent.response_code is None
    assert sent.error is not None
    assert sent.error.startswith("could not be sent: ")


def test_a_receiver_that_is_away_and_a_name_that_is_none_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
    assert "could not be sent" in str(_post(f"http://127.0.0.1:{port}/").error)
    assert _post("http://nowhere.invalid/").error == "the name could not be resolved"
    assert "not sent: the URL" in str(_post("https://127.0.0.2/").error)


def _reason(url: str, rules: OutboundRules) -> str | None:
    async def ask() -> str | None:
        return await Resolver(rules, threads=1).why_unreachable(url, seconds_max=5.0)

    return asyncio.run(ask())


def test_before_a_url_is_taken_its_name_is_looked_up(named: dict[str, list[str]]) -> None:
    named[NAME] = ["10.0.0.1"]
    named["public.example"] = ["10.0.0.1", "1.1.1.1"]
    assert _reason(f"https://{NAME}/", RULES) == "must lead to a public address; its address is private"
    assert _reason("https://localhost/", RULES) is not None
    assert _reason("https://public.example/", RULES) is None
    # It may get an address yet, and is looked at again then.
    assert _reason("https://nowhere.invalid/", RULES) is None


def test_a_name_server_that_is_silent_holds_up_only_whom_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: silent.wait(5) and [])

    async def ask() -> tuple[float, str | None]:
        resolver, began = Resolver(RULES, threads=1), time.monotonic()
        assert await resolver.why_unreachable("https://a.example/", seconds_max=0.2) is None
        took = time.monotonic() - began
        with pytest.raises(OSError, match="too many names"):
            await resolver.resolve(httpx.URL("https://b.example/"))
        silent.set()
        return took, await resolver.why_unreachable("https://1.1.1.1/", seconds_max=1.0)

    took, refused = asyncio.run(ask())
    assert took < 1.5
    assert refused is None


# Certificates


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate of the name, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize(("host", "good"), [(NAME, True), ("other.example", False)])
def test_the_certificate_must_be_the_names(
    named: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    certified: Path,
    host: str,
    *,
    good: bool,
) -> None:
    named[host] = ["127.0.0.1"]
    monkeypatch.setenv("SSL_CERT_FILE", str(certified))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certified)
    heard: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: heard.append(name)
    with receiving(tls=tls) as receiver:
        sent = _post(f"https://{host}:{receiver.port}/")
    assert heard == [host]
    assert (sent.response_code == 200) is good
    assert len(receiver.got) == int(good)
    if not good:
        assert "certificate" in str(sent.error).lower()


def test_a_certificate_that_nobody_trusts_is_refused(named: dict[str, list[str]], certified: Path) -> None:
    named[NAME] = ["127.0.0.1"]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certified)
    with receiving(tls=tls) as receiver:
        sent = _post(f"https://{NAME}:{receiver.port}/")
    assert receiver.got == []
    assert sent.response_code is None
