"""Connections to hosts that declarations name, made so that they reach nothing they should not, within a time.

The rules are those of webhooks (`pipeline/addresses.py`): a name is resolved once, here, and the connection goes to the
very address that was looked at. What is said over a connection is not known here.
"""

import ipaddress
import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from ingest_platform.feeds.stream_events.destinations.destination import (
    CONNECT_SECONDS_MAX,
    SECONDS_MAX,
    DestinationFault,
    Transient,
)
from ingest_platform.pipeline.addresses import Address, OutboundRules, why_refused
from ingest_platform.pipeline.outbound import ADDRESSES_TRIED_MAX

# A name server that does not answer holds a thread until the resolver gives up.
_RESOLVING = threading.BoundedSemaphore(64)


class Deadline:
    """The end of an attempt: every step of it gets what is left."""

    def __init__(self, seconds: float = SECONDS_MAX) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """How many seconds are left; negative once it is over."""
        return self._end - time.monotonic()

    def require(self) -> float:
        """Give the seconds that are left; raises TimeoutError if there are none."""
        left = self.left
        if left <= 0:
            raise TimeoutError
        return left


@dataclass(slots=True)
class _Lookup:
    host: str
    port: int
    addresses: list[Address] = field(default_factory=list[Address])
    failed: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            self.addresses = list(dict.fromkeys(ipaddress.ip_address(each[4][0]) for each in found))
        except (OSError, UnicodeError):
            self.failed = True
        finally:
            _RESOLVING.release()
            self.done.set()


def _addresses(host: str, port: int, *, seconds: float) -> list[Address]:
    with suppress(ValueError):
        return [ipaddress.ip_address(host)]
    if not _RESOLVING.acquire(blocking=False):
        raise Transient("not sent: too many names are being resolved")
    lookup = _Lookup(host, port)
    # A thread of a pool would keep the process from ending for as long as a name server is silent.
    threading.Thread(target=lookup.run, name="resolve", daemon=True).start()
    if not lookup.done.wait(seconds):
        raise Transient("not sent: the name could not be resolved in time")
    if lookup.failed:
        raise Transient("not sent: the name could not be resolved")
    return lookup.addresses


def permitted(host: str, port: int, *, rules: OutboundRules, seconds: float = CONNECT_SECONDS_MAX) -> list[Address]:
    """List the addresses of a host that may be called. Raises Transient, since names and settings can be mended."""
    found = [(address, why_refused(address, rules)) for address in _addresses(host, port, seconds=seconds)]
    good = [address for address, refused in found if refused is None]
    if not good:
        raise Transient(f"not sent: the address is {found[0][1]}" if found else "not sent: the name has no address")
    return good


def connect(host: str, port: int, *, rules: OutboundRules, deadline: Deadline) -> socket.socket:
    """Connect to a host at an address that may be called. Raises Transient."""
    over = Deadline(min(CONNECT_SECONDS_MAX, deadline.left))
    try:
        addresses = permitted(host, port, rules=rules, seconds=over.require())[:ADDRESSES_TRIED_MAX]
        for place, address in enumerate(addresses, start=1):
            # Those that follow get their share of the time.
            seconds = over.require() / (len(addresses) - place + 1)
            try:
                return _configured(socket.create_connection((str(address), port), timeout=seconds))
            except OSError:
                if place == len(addresses):
                    raise
    except TimeoutError:
        raise Transient("no connection within the time") from None
    except OSError as error:
        raise Transient(f"no connection: {error.strerror or type(error).__name__}") from None
    raise AssertionError(host)


def _configured(connection: socket.socket) -> socket.socket:
    # What is written is a whole request already; the second half of one must not wait for an acknowledgement.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def secured(connection: socket.socket, host: str, *, context: ssl.SSLContext, deadline: Deadline) -> ssl.SSLSocket:
    """Speak TLS over a connection, with whoever can prove to be the host. Raises Transient, and closes it then."""
    try:
        connection.settimeout(min(CONNECT_SECONDS_MAX, deadline.require()))
        return context.wrap_socket(connection, server_hostname=host.rstrip("."))
    except TimeoutError:
        connection.close()
        raise Transient("no TLS connection within the time") from None
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise Transient(f"the certificate is refused: {error.verify_message}") from None
    except (OSError, ValueError) as error:
        connection.close()
        raise Transient(f"no TLS connection: {getattr(error, 'reason', None) or type(error).__name__}") from None


def trust(ca: str | None) -> ssl.SSLContext:
    """Make a context that trusts the certificates given as PEM, or else the ones that webhooks are sent with."""
    context = ssl.create_default_context(cadata=ca) if ca is not None else httpx.create_ssl_context(trust_env=True)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def read_trust(ca: object) -> list[DestinationFault]:
    """Find what is wrong with certificates of a declaration."""
    if isinstance(ca, str):
        try:
            ssl.create_default_context(cadata=ca)
        except (ssl.SSLError, ValueError):
            return [DestinationFault(path="ca", message="must be certificates as PEM (-----BEGIN CERTIFICATE-----)")]
    return []


def is_closed(connection: socket.socket) -> bool:
    """Tell whether the other side has ended a connection on which it has nothing to say."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(0))
