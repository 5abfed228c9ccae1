"""Who may send: token, scope, rate and idempotency key, decided for all waiting requests in one transaction.

Nothing of a submission is written here, and nothing of HTTP is known.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import LiteralString

from ingest_platform.domain.errors import Forbidden, IngestError, RateLimited, Refusal, Unauthenticated
from ingest_platform.pipeline.grouped import Grouped, OwnConnection
from ingest_platform.storage import idempotency, keys, limits
from ingest_platform.storage.ledger import Transaction

# One group is one transaction: long enough to pay for its round trips, short enough for nobody to wait for it.
GROUP_ITEMS_MAX = 512
# So long after its process was killed, a retry may take the place of the first request under a key: half of the 30 s in
# which everything recovers. Whoever works on a request extends its reservation.
RESERVED_SECONDS = 15.0


# What is decided here needs no fsync: a reservation or a token lost with the server is lost with its request, and the
# commit that takes a submission carries everything before it to the disk. And all its rows are found by primary keys:
# planned anew each time, as PostgreSQL does while it can't know how long an array is, its statements take 460 us a
# group, of which 170 are the planning.
_SETTINGS: tuple[LiteralString, ...] = (
    "SET synchronous_commit = off",
    # As in `land.py`: a process that is stopped here would hold its workspaces' rates, and so all others.
    "SET idle_in_transaction_session_timeout = '1s'",
    "SET plan_cache_mode = force_generic_plan",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRule:
    """A token bucket per workspace: its name and the requests a minute unless the workspace has its own number."""

    name: str
    per_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a request shows and wants. The route takes these kinds of token, with any one of these scopes."""

    token: str | None
    kinds: frozenset[str]
    scopes: tuple[str, ...]
    rate: RateRule | None = None
    address: str | None = None
    address_per_minute: int = 0
    idempotency_route: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever holds the key. `sites` None means every site; `rate_limits` are the workspace's own, by feed."""

    key_id: str
    workspace: str
    project: str | None
    scopes: frozenset[str]
    sites: frozenset[str] | None
    rate_limits: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many requests a minute are allowed, and how many are left at once."""

    limit: int
    remaining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The decision: a principal, or a refusal. The rate is known in most refusals too."""

    principal: Principal | None = None
    refusal: Refusal | None = None
    rate: Rate | None = None
    keyed: idempotency.Scope | None = None
    kept: idempotency.Kept | None = None


class Admitter:
    """Admits requests of one process, many at a time."""

    def __init__(self, database_url: str) -> None:
        self._own = OwnConnection(database_url, application="ingest-admit", settings=_SETTINGS)
        self._grouped: Grouped[Ask, Admission] = Grouped(self._decide, name="admit", items_max=GROUP_ITEMS_MAX)

    async def admit(self, ask: Ask) -> Admission:
        """Decide about one request. Raises Unavailable when PostgreSQL is away."""
        return await self._grouped.ask(ask)

    def _decide(self, asks: Sequence[Ask]) -> Sequence[Admission | IngestError]:
        # Keys of one group are reserved together or not at all; a token taken in vain harms nobody.
        keyed = any(ask.idempotency_key is not None for ask in asks)
        return self._own.run(lambda tx: decide(tx, asks), one_by_one=not keyed)

    def close(self) -> None:
        """Let the connection go."""
        self._grouped.close(self._own.close)


def decide(tx: Transaction, asks: Sequence[Ask]) -> list[Admission]:
    """Decide about requests together, each as if alone and in their order."""
    split = [keys.split_token(ask.token) if ask.token else None for ask in asks]
    found = keys.find(tx, [parts[1] for parts in split if parts])
    known = [_authenticate(ask, parts, found) for ask, parts in zip(asks, split, strict=True)]
    rates = _take(tx, asks, known)
    decided = [_weigh(ask, who, rate) for ask, who, rate in zip(asks, known, rates, strict=True)]
    return _reserve(tx, asks, decided)


def _authenticate(
    ask: Ask, parts: tuple[str, str, str] | None, found: dict[str, keys.KeyRecord]
) -> Principal | Unauthenticated:
    record = found.get(parts[1]) if parts else None
    # The comparison comes first, so that its time tells nothing about expiry or kind.
    good = parts is not None and record is not None and keys.matches(record, parts[2])
    if not good or record is None or parts is None or record.kind != parts[0] or not record.active:
        return unauthenticated(ask)
    if record.kind not in ask.kinds:
        return unauthenticated(ask, "This kind of token is not accepted on this route.")
    return Principal(
        key_id=record.key_id,
        workspace=record.workspace,
        project=record.project,
        scopes=record.scopes,
        sites=record.sites,
        rate_limits=record.rate_limits,
    )


def unauthenticated(ask: Ask, message: str | None = None) -> Unauthenticated:
    """Word the refusal of a request without a good token, the same for whatever is wrong with it."""
    if message is None:
        message = "The token is unknown, expired or revoked." if ask.token else "Send a token: Authorization: Bearer …"
    return Unauthenticated(message, headers={"WWW-Authenticate": "Bearer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """What one request got of the buckets it needs: the tightest of them."""

    granted: bool
    rate: Rate | None
    retry_after_seconds: float = 0.0


def _take(tx: Transaction, asks: Sequence[Ask], known: Sequence[Principal | Unauthenticated]) -> list[_Share]:
    buckets: list[list[tuple[str, int]]] = [_buckets(ask, who) for ask, who in zip(asks, known, strict=True)]
    wanted = Counter(bucket for per_ask in buckets for bucket in per_ask)
    taken = {
        each.bucket: each
        for each in limits.take(
            tx,
            [
                limits.Wanted(bucket=name, per_minute=per_minute, tokens=count)
                for (name, per_minute), count in wanted.items()
            ],
        )
    }
    given: Counter[str] = Counter()
    return [_share(per_ask, taken, given) for per_ask in buckets]


def _buckets(ask: Ask, who: Principal | Unauthenticated) -> list[tuple[str, int]]:
    buckets: list[tuple[str, int]] = []
    # A stranger costs his address something and the workspace he names nothing.
    if ask.rate is not None and isinstance(who, Principal):
        per_minute = who.rate_limits.get(ask.rate.name, ask.rate.per_minute)
        buckets.append((f"workspace:{who.workspace}:{ask.rate.name}", per_minute))
    if ask.address is not None and ask.address_per_minute > 0:
        buckets.append((f"address:{ask.address}", ask.address_per_minute))
    return buckets


def _share(per_ask: list[tuple[str, int]], taken: dict[str, limits.Taken], given: Counter[str]) -> _Share:
    granted, rate, retry_after = True, None, 0.0
    for name, per_minute in per_ask:
        bucket = taken[name]
        given[name] += 1
        remaining = bucket.remaining + max(0, bucket.granted - given[name])
        if given[name] > bucket.granted:
            granted, remaining = False, 0
            retry_after = max(retry_after, bucket.retry_after_seconds)
        if rate is None or remaining < rate.remaining:
            rate = Rate(limit=per_minute, remaining=remaining)
    return _Share(granted=granted, rate=rate, retry_after_seconds=retry_after)


def _weigh(ask: Ask, who: Principal | Unauthenticated, share: _Share) -> Admission:
    if not share.granted:
        seconds = max(1, math.ceil(share.retry_after_seconds))
        message = f"Too many requests; the limit is {share.rate.limit if share.rate else 0} a minute."
        refusal = RateLimited(message, headers={"Retry-After": str(seconds)})
        return Admission(refusal=refusal, rate=share.rate)
    if isinstance(who, Unauthenticated):
        return Admission(refusal=who, rate=share.rate)
    if who.scopes.isdisjoint(ask.scopes):
        return Admission(refusal=Forbidden(f"The key lacks the scope {' or '.join(ask.scopes)}."), rate=share.rate)
    return Admission(principal=who, rate=share.rate)


def _reserve(tx: Transaction, asks: Sequence[Ask], decided: Sequence[Admission]) -> list[Admission]:
    scopes = [_scope(ask, admission) for ask, admission in zip(asks, decided, strict=True)]
    wanted = [scope for scope in scopes if scope is not None]
    if not wanted:
        return list(decided)
    kept = iter(idempotency.reserve_each(tx, wanted, seconds=RESERVED_SECONDS))
    return [
        admission if scope is None else replace(admission, keyed=scope, kept=next(kept))
        for admission, scope in zip(decided, scopes, strict=True)
    ]


def _scope(ask: Ask, admission: Admission) -> idempotency.Scope | None:
    if ask.idempotency_key is None or ask.idempotency_route is None or admission.principal is None:
        return None
    return idempotency.Scope(
        workspace=admission.principal.workspace, route=ask.idempotency_route, key=ask.idempotency_key
    )
