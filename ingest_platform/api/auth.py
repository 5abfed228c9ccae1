"""From a request's headers to what admission asks for. Whether it is good is decided in `pipeline/admit.py`."""

import ipaddress

from starlette.datastructures import Headers
from starlette.types import Scope

from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Limits
from ingest_platform.pipeline.admit import Ask

# Far above any token of ours; a longer one is not worth hashing.
_TOKEN_LENGTH_MAX = 200


def bearer_token(headers: Headers) -> str | None:
    """Read the token of `Authorization: Bearer <token>`; None unless there is exactly one.

    >>> bearer_token(Headers({"Authorization": "bearer pat_x"}))
    'pat_x'
    """
    given = headers.getlist("authorization")
    if len(given) != 1:
        return None
    scheme, _, token = given[0].strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and 0 < len(token) <= _TOKEN_LENGTH_MAX else None


def client_address(scope: Scope, headers: Headers, limits: Limits) -> str | None:
    """Tell the client's address: the peer's, or behind a trusted proxy the last one that is not a proxy's."""
    if limits.address_per_minute == 0:
        return None
    peer: str | None = scope["client"][0] if scope.get("client") else None
    if peer not in limits.trusted_proxies:
        return peer
    hops = [hop.strip() for hop in ",".join(headers.getlist("x-forwarded-for")).split(",")]
    for hop in reversed(hops):
        address = _address(hop)
        if address is None:
            return peer
        if address not in limits.trusted_proxies:
            return address
    return peer


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def ask_of(
    route: ApiRoute, *, token: str | None, address: str | None, address_per_minute: int, idempotency_key: str | None
) -> Ask:
    """Put together what admission needs to know of a request."""
    access = route.access
    assert access is not None
    return Ask(
        token=token,
        kinds=access.kinds,
        scopes=access.scopes,
        rate=route.rate,
        address=address if route.rate is not None else None,
        address_per_minute=address_per_minute,
        idempotency_route=route.operation_id,
        idempotency_key=idempotency_key,
    )
