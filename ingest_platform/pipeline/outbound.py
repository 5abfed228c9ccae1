"""Calls to addresses that clients have named, made so that they reach nothing they should not. What is sent: not here.

A client that may name a URL must not be able to use us as its hand inside our network. So a name is resolved once,
here; every address that is not plainly public is refused, and the connection goes to the very address that was looked
at, under the name that was asked for. Redirects are not followed, no proxy of the environment is used, no cookie is
kept, and size and time are bounded.
"""

import asyncio
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import httpx

from ingest_platform.pipeline.addresses import Address, OutboundRules, why_refused

URL_CHARACTERS_MAX = 2_000
# Nothing of the answer but its status is used; this much is read so that the connection ends in good order.
ANSWER_BYTES_MAX = 64 * 1024
# A name may have many addresses; where the first few are away, so are the others.
ADDRESSES_TRIED_MAX = 3
# Ports below are those of other protocols, and a request to one of them may be a command there.
_PORT_MIN, _PORT_MAX = 1024, 65_535
_HTTPS_PORT, _HTTP_PORT = 443, 80
# A name server that does not answer holds a thread until the resolver gives up.
_RESOLVING_MAX = 64

_AUTHORITY = re.compile(r"https?://([^/?#]+)", re.IGNORECASE)
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
# The last label begins with a letter: resolvers read 2130706433, 0x7f.1 and 0177.0.0.1 as addresses.
_NAME = re.compile(rf"(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.?")


class Refused(Exception):
    """No address of a URL may be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How a call went: the status of the answer, or why there is none."""

    duration_ms: int
    response_code: int | None = None
    error: str | None = None
    retry_after_seconds: float | None = None


def why_wrong(text: str, rules: OutboundRules) -> str | None:
    """Tell what is wrong with a URL, by its text alone: the second half of a sentence; None if nothing is."""
    if len(text) > URL_CHARACTERS_MAX:
        return f"must have at most {URL_CHARACTERS_MAX} characters"
    if _VISIBLE.fullmatch(text) is None or "\\" in text:
        return "must be a URL of visible ASCII characters (write international names as xn--…)"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return "is no URL"
    return _why_wrong_parts(text, url, rules) or _why_wrong_host(url, rules)


def _why_wrong_parts(text: str, url: httpx.URL, rules: OutboundRules) -> str | None:
    authority = _AUTHORITY.match(text)
    if authority is None or (url.scheme != "https" and not rules.http_allowed):
        return "must begin with https://"
    if url.userinfo or "@" in authority[1]:
        return "must not have a user or password in it; deliveries are signed"
    if "#" in text:
        return "must not have a fragment (#…)"
    return None


def _why_wrong_host(url: httpx.URL, rules: OutboundRules) -> str | None:
    port = _port(url)
    if port not in {_HTTPS_PORT, _HTTP_PORT} and not _PORT_MIN <= port <= _PORT_MAX:
        return f"must have the port {_HTTPS_PORT}, or one from {_PORT_MIN} to {_PORT_MAX}"
    literal = _literal(_host(url))
    if literal is not None:
        refused = why_refused(literal, rules)
        return None if refused is None else f"must lead to a public address; {literal} is {refused}"
    if _NAME.fullmatch(_host(url).lower()) is None:
        return "must have the name of a host, or an address in its usual form"
    return None


def _port(url: httpx.URL) -> int:
    if url.port is not None:
        return url.port
    return _HTTPS_PORT if url.scheme == "https" else _HTTP_PORT


def _host(url: httpx.URL) -> str:
    # As it goes over the wire; `url.host` is what people read.
    return url.raw_host.decode("ascii")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Resolver:
    """Looks names up, so many at a time; used in one event loop."""

    def __init__(self, rules: OutboundRules, *, threads: int) -> None:
        self._rules = rules
        self._free = threading.BoundedSemaphore(threads)

    async def why_unreachable(self, text: str, *, seconds_max: float) -> str | None:
        """Tell why a URL that is well-formed would not be called. A name that can't be resolved now may be later."""
        try:
            async with asyncio.timeout(seconds_max):
                found = await self.resolve(httpx.URL(text))
        except (TimeoutError, OSError, UnicodeError):
            return None
        refused = [why_refused(each, self._rules) for each in found]
        return f"must lead to a public address; its address is {refused[0]}" if found and all(refused) else None

    async def reachable(self, url: httpx.URL) -> list[Address]:
        """List the addresses of a URL that may be called; raise Refused if there is none."""
        found = await self.resolve(url)
        reasons = [(address, why_refused(address, self._rules)) for address in found]
        permitted = [address for address, refused in reasons if refused is None]
        if not permitted:
            raise Refused(f"the address is {reasons[0][1]}" if reasons else "the name has no address")
        return permitted

    async def resolve(self, url: httpx.URL) -> list[Address]:
        """List all addresses of a URL. Raises OSError if its name has none."""
        literal = _literal(_host(url))
        if literal is not None:
            return [literal]

        if not self._free.acquire(blocking=False):
            message = "too many names are being resolved"
            raise OSError(message)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Address]] = loop.create_future()
        # A thread of a pool would keep the process from ending for as long as a name server is silent.
        work = (loop, answer, _host(url), _port(url))
        threading.Thread(target=self._look_up, args=work, name="resolve", daemon=True).start()
        return await answer

    def _look_up(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[Address]], host: str, port: int
    ) -> None:
        failed, addresses = None, list[Address]()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            addresses = list(dict.fromkeys(ipaddress.ip_address(each[4][0]) for each in found))
        except (OSError, UnicodeError) as error:
            failed = error
        finally:
            self._free.release()

        def tell() -> None:
            if not answer.done():
                answer.set_result(addresses) if failed is None else answer.set_exception(failed)

        # Whoever asked may be gone, and the loop with them.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell)


class Outbound:
    """Makes such calls; used in one event loop, many at a time."""

    def __init__(self, rules: OutboundRules) -> None:
        self._rules = rules
        self._resolver = Resolver(rules, threads=_RESOLVING_MAX)
        # A kept connection would be found by its address, and used for whoever else has the same one. Of the
        # environment only the certificates' places are read (SSL_CERT_FILE), no proxy.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=True, http2=False, retries=0)

    async def __aenter__(self) -> Self:
        """Use it in a with statement."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close its connections."""
        await self._transport.aclose()

    async def post(self, text: str, *, headers: Mapping[str, str], body: bytes) -> Sent:
        """Send a body to a URL, and tell how that went; raises nothing."""
        began = time.monotonic()
        wrong = why_wrong(text, self._rules)
        if wrong is not None:
            return Sent(duration_ms=0, error=f"not sent: the URL {wrong}")
        answer: httpx.Response | None = None
        try:
            async with asyncio.timeout(self._rules.seconds_max):
                answer = await self._post(httpx.URL(text), headers, body)
                await _read_some(answer)
        except TimeoutError:
            if answer is None:
                return Sent(duration_ms=_since(began), error=f"no answer within {self._rules.seconds_max:g} s")
        except Refused as refused:
            return Sent(duration_ms=_since(began), error=f"not sent: {refused}")
        except (httpx.TransportError, OSError, UnicodeError) as error:
            return Sent(duration_ms=_since(began), error=_in_words(error))
        finally:
            if answer is not None:
                with suppress(httpx.TransportError, OSError):
                    await answer.aclose()
        return _sent(answer, began)

    async def _post(self, url: httpx.URL, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        failed: httpx.TransportError | None = None
        for address in (await self._resolver.reachable(url))[:ADDRESSES_TRIED_MAX]:
            try:
                return await self._transport.handle_async_request(self._request(url, address, headers, body))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
        assert failed is not None
        raise failed

    def _request(self, url: httpx.URL, address: Address, headers: Mapping[str, str], body: bytes) -> httpx.Request:
        """Make a request to the address itself; the name is what the certificate is held against, and the Host."""
        own = {"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity", "Connection": "close"}
        timeout = httpx.Timeout(self._rules.seconds_max).as_dict()
        extensions = {"sni_hostname": _host(url).rstrip("."), "timeout": timeout}
        return httpx.Request(
            "POST", url.copy_with(host=str(address)), headers={**headers, **own}, content=body, extensions=extensions
        )


async def _read_some(answer: httpx.Response) -> None:
    taken = 0
    with suppress(httpx.TransportError):
        async for piece in answer.aiter_raw():
            taken += len(piece)
            if taken >= ANSWER_BYTES_MAX:
                return


def _sent(answer: httpx.Response | None, began: float) -> Sent:
    assert answer is not None
    good = answer.is_success
    error = None if good else f"answered {answer.status_code}"
    if answer.is_redirect:
        error = f"answered {answer.status_code}; redirects are not followed"
    return Sent(
        duration_ms=_since(began),
        response_code=answer.status_code,
        error=error,
        retry_after_seconds=_retry_after(answer.headers.get("retry-after", "")),
    )


def _retry_after(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < len("1000000") else None


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _in_words(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the name could not be resolved"
    said = str(error) or type(error).__name__
    return f"could not be sent: {said[:300]}"
