"""URLs in texts (RFC 3986): `scheme`, `host`, `port`, `path`, `query`, `fragment`; what is not given is left out.

A text is a URL with a scheme, or the path of a request (`/search?q=1`). Port 0 is
none. The host is in lower case, an IPv6 address
without its brackets; the port is a number. `query` is an object of texts without their percent signs, a list of texts
for a name that occurs several times. The path stays as written. A user and password before the host are not lifted.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import unquote_plus

from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted, collected
from ingest_platform.feeds.stream_events.processing.paths import Document

PORT_MAX = 65_535
PORT_DIGITS_MAX = 20
# More than any page sends; each is a member of the event.
QUERY_NAMES_MAX = 1_000

# A part ends where the next one's mark stands, so that no text is looked at more than twice. None has a blank or a
# control character.
_NO = r"\s\x00-\x1f\x7f"
_NO_NAME = rf"/?#@\[\]\\<>\"^`{{|}}{_NO}"
_URL = re.compile(
    rf"(?:([A-Za-z][A-Za-z0-9+.-]*+):(?=[^{_NO}])|(?=/))"
    rf"(?://(?:[^{_NO_NAME}]*@)?(?:\[([0-9A-Fa-f:.]++)\]|([^:{_NO_NAME}]*+))(?::([0-9]*+))?(?=[/?#]|$)|(?!//))"
    rf"([^?#{_NO}]*+)(?:\?([^#{_NO}]*+))?+(?:#([^{_NO}]*+))?+"
)


def lift(texts: Sequence[str]) -> Iterator[Lifted]:
    """Take URLs apart; None for what is none."""
    return (_read(text) for text in texts)


def _read(text: str) -> Document | None:
    found = _URL.fullmatch(text)
    if found is None:
        return None
    scheme, ipv6, host, port, path, query, fragment = found.groups(default="")
    if (port and not _is_port(port)) or (ipv6 and not _is_ipv6(ipv6)) or query.count("&") >= QUERY_NAMES_MAX:
        return None
    return _members(scheme, host or ipv6, port.strip("0") and port, path, query, fragment)


def _members(scheme: str, host: str, port: str, path: str, query: str, fragment: str) -> Document:
    members: Document = {}
    if scheme:
        members["scheme"] = scheme.lower()
    if host:
        members["host"] = host.lower()
    if port:
        members["port"] = int(port)
    if path:
        members["path"] = path
    if query:
        members["query"] = _query(query)
    if fragment:
        members["fragment"] = fragment
    return members


def _is_port(text: str) -> bool:
    # The length first: Python refuses to read thousands of digits.
    return len(text) <= PORT_DIGITS_MAX and int(text) <= PORT_MAX


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def _query(query: str) -> Document:
    pairs = [(name, value) for name, _, value in [pair.partition("=") for pair in query.split("&")] if name]
    if "%" in query or "+" in query:
        pairs = [(unquote_plus(name), unquote_plus(value)) for name, value in pairs]
    return collected(pairs)
