"""Whose request it is: the token of the header, and the address behind proxies."""

import pytest
from starlette.datastructures import Headers

from ingest_platform.api.auth import bearer_token, client_address
from ingest_platform.api.services import Limits

PROXIES = frozenset({"10.0.0.1", "10.0.0.2"})


@pytest.mark.parametrize(
    ("sent", "token"),
    [
        (["Bearer abc"], "abc"),
        (["bearer  abc "], "abc"),
        ([], None),
        (["Bearer"], None),
        (["Bearer "], None),
        (["Basic abc"], None),
        (["Bearer a", "Bearer b"], None),
        (["Bearer " + "x" * 500], None),
    ],
)
def test_one_bearer_token_is_read(sent: list[str], token: str | None) -> None:
    headers = Headers(raw=[(b"authorization", value.encode()) for value in sent])
    assert bearer_token(headers) == token


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["rubbish"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
    ],
)
def test_a_forwarded_address_is_believed_only_behind_a_trusted_proxy(
    peer: str, forwarded: list[str], address: str
) -> None:
    headers = Headers(raw=[(b"x-forwarded-for", value.encode()) for value in forwarded])
    limits = Limits(address_per_minute=60, trusted_proxies=PROXIES)
    assert client_address({"client": (peer, 1)}, headers, limits) == address


def test_without_a_limit_by_address_none_is_looked_for() -> None:
    assert client_address({"client": ("203.0.113.9", 1)}, Headers(), Limits()) is None
