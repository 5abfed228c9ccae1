"""One ASGI application over declared routes: request ids, admission, idempotency, problems, metrics.

What any route does is not known here.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.routing import compile_path
from starlette.types import Message, Receive, Scope, Send

from ingest_platform.api.auth import ask_of, bearer_token, client_address
from ingest_platform.api.body import ClientGone
from ingest_platform.api.call import Call, Keyed, Replayed, media_type
from ingest_platform.api.held import Held
from ingest_platform.api.parameters import read_parameters
from ingest_platform.api.problems import COMMON, Family, InternalError, MethodNotAllowed
from ingest_platform.api.replies import Reply
from ingest_platform.api.request_ids import request_id_of
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Limits, Services
from ingest_platform.domain.errors import (
    Fault,
    InDoubt,
    Malformed,
    NotFound,
    Refusal,
    TooSlow,
    Unavailable,
    UnsupportedFormat,
)
from ingest_platform.pipeline import admit
from ingest_platform.pipeline.admit import Rate
from ingest_platform.pipeline.grouped import unavailable
from ingest_platform.pipeline.land import answered_meanwhile
from ingest_platform.storage import idempotency

log = structlog.get_logger()
# Answers whose cause lies in the request itself: a repetition would get the same.
STATUSES_KEPT = frozenset({400, 422})
# A key's reservation is extended at every third of it: if one turn fails, the next one still comes in time.
EXTENDED_IN_RESERVATION = 3
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z").match
_SUCCESS = range(200, 300)
# What a client has still on its way is read for a while after a refusal, so that it sees the answer, not a reset.
_REST_IGNORED_BYTES = 64 * 1024
_LINGER_BYTES_MAX = 256 * 1024 * 1024
_LINGER_SECONDS_MAX = 8.0
# Of a client that is refused for being slow there is little to come, and it has had its half minute already.
LINGER_SLOW_SECONDS_MAX = 2.0
_UNROUTED = "(none)"


@dataclass(slots=True)
class _Exchange:
    """A request and what is known of it so far, for the headers and the metrics of its answer."""

    scope: Scope
    receive: Receive
    headers: Headers
    request_id: str
    family: Family
    methods: Mapping[str, ApiRoute] = field(default_factory=dict[str, ApiRoute])
    route: ApiRoute | None = None
    rate: Rate | None = None
    call: Call | None = None

    def shown_rate(self) -> Rate | None:
        """Tell the rate of a limited path; the default where it is not known whose request it is."""
        known = self.rate if self.rate is not None or self.call is None else self.call.rate
        if known is not None:
            return known
        rule = next((route.rate for route in self.methods.values() if route.rate is not None), None)
        return Rate(limit=rule.per_minute, remaining=rule.per_minute) if rule else None

    def rest_unread(self) -> bool:
        """Whether more of the body may come than is worth waiting for."""
        if self.call is not None and self.call.body is not None and self.call.body.complete:
            return False
        length = self.headers.get("content-length", "")
        if length.isdigit():
            return int(length) > _REST_IGNORED_BYTES
        return "transfer-encoding" in self.headers


class HttpService:
    """The ASGI application."""

    def __init__(self, routes: Sequence[ApiRoute], services: Services, *, families: Sequence[Family] = ()) -> None:
        self.services = services
        self.routes = tuple(routes)
        self._families = tuple(families)
        self._exact: dict[str, dict[str, ApiRoute]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, ApiRoute]]] = {}
        for route in routes:
            for path in route.paths:
                self._mount(path, route)

    def _mount(self, path: str, route: ApiRoute) -> None:
        if "{" in path:
            _, methods = self._patterns.setdefault(path, (compile_path(path)[0], {}))
        else:
            methods = self._exact.setdefault(path, {})
        assert route.method not in methods, (route.method, path)
        methods[route.method] = route
        if route.method == "GET":
            methods["HEAD"] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.services.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        path: str = scope["path"]
        exchange = _Exchange(scope, receive, Headers(scope=scope), request_id_of(scope["headers"]), self.family(path))
        try:
            reply = await self._reply(exchange, path)
        except ClientGone:
            return
        status = reply.status
        with suppress(ClientGone):
            await _send(exchange, reply, send)
        route = exchange.route.path if exchange.route else _UNROUTED
        method = exchange.route.method if exchange.route else "(any)"
        self.services.metrics.answered(route=route, method=method, status=status, seconds=time.perf_counter() - began)

    def family(self, path: str) -> Family:
        """Tell whose words a path is answered in."""
        return next((family for family in self._families if family.covers(path)), COMMON)

    async def _reply(self, exchange: _Exchange, path: str) -> Reply:
        try:
            return await self._dispatch(exchange, path)
        except Refusal as refusal:
            return exchange.family.problem(refusal, exchange.request_id)
        except ClientGone:
            raise
        except Fault as fault:
            log.warning("request refused", request_id=exchange.request_id, reason=str(fault))
            return exchange.family.problem(unavailable(), exchange.request_id)
        except asyncio.CancelledError:
            refusal = Unavailable("The server is stopping.", headers={"Retry-After": "2", "Connection": "close"})
            return exchange.family.problem(refusal, exchange.request_id)
        except Exception:
            log.exception("request failed", request_id=exchange.request_id, path=path)
            refusal = InternalError("Something failed on our side; it is logged under the request id.")
            return exchange.family.problem(refusal, exchange.request_id)

    async def _dispatch(self, exchange: _Exchange, path: str) -> Reply:
        exchange.methods, path_parameters = self._resolve(path)
        method: str = exchange.scope["method"]
        route = exchange.methods.get(method)
        if route is None:
            allowed = ", ".join(sorted(exchange.methods))
            raise MethodNotAllowed(f"This path takes {allowed}.", headers={"Allow": allowed})
        exchange.route = route
        call = Call(
            route=route,
            path=path,
            request_id=exchange.request_id,
            headers=exchange.headers,
            receive=exchange.receive,
            parameters={},
        )
        exchange.call = call
        await self._admit(exchange, call)
        return await self._handle(exchange, call, path_parameters)

    def _resolve(self, path: str) -> tuple[Mapping[str, ApiRoute], Mapping[str, str]]:
        methods = self._exact.get(path)
        if methods is not None:
            return methods, {}
        for pattern, templated in self._patterns.values():
            found = pattern.match(path)
            if found is not None:
                return templated, found.groupdict()
        raise NotFound("There is nothing at this path.")

    async def _admit(self, exchange: _Exchange, call: Call) -> None:
        access = call.route.access
        if access is None:
            return
        key, wrong = _idempotency_key(call), _wrong_before_reading(call, self.services.limits)
        # A dry run stores nothing, not even that it was asked for.
        keeping = wrong is None and not _is_dry_run(exchange)
        ask = ask_of(
            call.route,
            token=bearer_token(exchange.headers),
            address=client_address(exchange.scope, exchange.headers, self.services.limits),
            address_per_minute=self.services.limits.address_per_minute,
            idempotency_key=key if isinstance(key, str) and keeping else None,
        )
        admission = await self.services.admitter.admit(ask)
        call.rate = exchange.rate = admission.rate
        if admission.refusal is not None:
            raise admission.refusal
        for refusal in (wrong, key):
            if isinstance(refusal, Refusal):
                raise refusal
        call.principal = admission.principal
        if admission.keyed is not None and admission.kept is not None:
            call.keyed = Keyed(scope=admission.keyed, kept=admission.kept)

    def _held(self, keyed: Keyed) -> Held:
        """Keep the idempotency key reserved while its request is worked on, its body included."""
        seconds = admit.RESERVED_SECONDS

        async def extend() -> None:
            await self.services.write(lambda tx: idempotency.extend(tx, keyed.scope, seconds=seconds))

        return Held(extend, every_seconds=seconds / EXTENDED_IN_RESERVATION)

    async def _handle(self, exchange: _Exchange, call: Call, path_parameters: Mapping[str, str]) -> Reply:
        keyed = call.keyed
        if keyed is None or not keyed.open:
            return await self._handle_once(exchange, call, path_parameters)
        with self._held(keyed):
            return await self._handle_once(exchange, call, path_parameters)

    async def _handle_once(self, exchange: _Exchange, call: Call, path_parameters: Mapping[str, str]) -> Reply:
        try:
            if call.keyed is not None:
                call.keyed.require_first()
            query = QueryParams(exchange.scope["query_string"])
            call.parameters = read_parameters(call.route, path_parameters, query)
            reply = await call.route.handler(call)
            return await self._keep(call, reply)
        except Replayed as replayed:
            return replayed.reply
        except InDoubt:
            # Its key stays reserved for a while: under it may be an answer by then.
            raise
        except Refusal as refusal:
            reply = exchange.family.problem(refusal, call.request_id)
            return await self._keep(call, reply)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.table_name != idempotency.TABLE:
                raise
            # The answer could not be kept, and what it was to make true was undone with it.
            raise answered_meanwhile() from None
        except BaseException:
            await self._abandon(call)
            raise

    async def _keep(self, call: Call, reply: Reply) -> Reply:
        """Keep the answer under the request's idempotency key, or free the key if it is one that may change."""
        keyed = call.keyed
        if keyed is None or not keyed.open:
            return reply
        good = reply.status in _SUCCESS or reply.status in STATUSES_KEPT
        if not good or keyed.digest is None:
            await self._abandon(call)
            return reply
        await self.services.write(lambda tx: keyed.finish(tx, reply))
        return reply

    async def _abandon(self, call: Call) -> None:
        keyed = call.keyed
        if keyed is None or not isinstance(keyed.kept, idempotency.Reserved):
            return
        # If PostgreSQL is away, the reservation ends by itself.
        with suppress(Fault, Unavailable):
            await asyncio.shield(self.services.write(lambda tx: idempotency.abandon(tx, keyed.scope)))


def _idempotency_key(call: Call) -> str | Malformed | None:
    given = call.headers.getlist("idempotency-key")
    if not call.route.idempotent or not given:
        return None
    if len(given) == 1 and _KEY(given[0]):
        return given[0]
    message = "Idempotency-Key must be one value of 1 to 255 visible ASCII characters."
    return Malformed(message, code="invalid_idempotency_key", param="Idempotency-Key")


def _is_dry_run(exchange: _Exchange) -> bool:
    query: bytes = exchange.scope["query_string"]
    return b"dry_run" in query and QueryParams(query).get("dry_run") == "true"


def _wrong_before_reading(call: Call, limits: Limits) -> Refusal | None:
    """Find what is wrong with a request with a body before any of it is read."""
    bodies = call.route.bodies
    if not bodies:
        return None
    content = bodies.get(media_type(call.headers))
    if content is None:
        message = f"Content-Type must be one of {', '.join(bodies)}."
        return UnsupportedFormat(message, headers={"Accept-Post": ", ".join(bodies)})
    try:
        body = call.open_body(bytes_max=content.bytes_max, window_seconds=limits.client_idle_seconds_max)
        body.refuse_declared_excess()
        _ = body.encoding
    except Refusal as refusal:
        return refusal
    return None


async def _send(exchange: _Exchange, reply: Reply, send: Send) -> None:
    lingering = exchange.rest_unread()
    headers = _headers(exchange, reply, close=lingering)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.stream is not None and exchange.scope["method"] != "HEAD":
        await _send_stream(reply.stream, send)
        return
    await send({"type": "http.response.body", "body": reply.body, "more_body": lingering})
    if lingering:
        slow = reply.status == TooSlow.status
        await _read_rest(exchange.receive, seconds_max=LINGER_SLOW_SECONDS_MAX if slow else _LINGER_SECONDS_MAX)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_stream(stream: AsyncIterator[bytes], send: Send) -> None:
    async for piece in stream:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read_rest(receive: Receive, *, seconds_max: float) -> None:
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds_max):
            while taken < _LINGER_BYTES_MAX:
                message: Message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                taken += len(message.get("body", b""))


def _headers(exchange: _Exchange, reply: Reply, *, close: bool) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", reply.content_type.encode("latin-1"))]
    if reply.stream is None:
        headers.append((b"content-length", b"%d" % len(reply.body)))
    headers += [(name.encode(), exchange.request_id.encode()) for name in exchange.family.id_headers]
    rate = exchange.shown_rate()
    if rate is not None:
        headers.append((b"X-RateLimit-Limit", b"%d" % rate.limit))
        headers.append((b"X-RateLimit-Remaining", b"%d" % rate.remaining))
    headers += [(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    if close:
        headers.append((b"connection", b"close"))
    return headers
