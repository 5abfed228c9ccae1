"""One request on its way through a route: what was asked, by whom, and under which idempotency key."""

import hashlib
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive

from ingest_platform.api.body import Body
from ingest_platform.api.replies import Reply
from ingest_platform.api.route import ApiRoute
from ingest_platform.domain.errors import Conflict, Unprocessable
from ingest_platform.pipeline.admit import Principal, Rate
from ingest_platform.storage import idempotency
from ingest_platform.storage.ledger import Transaction

Value = TypeVar("Value")
# What of an answer is repeated under its key; the rest (request id, rate) belongs to each response of its own.
_HEADERS_KEPT = ("Location",)


class Replayed(Exception):
    """The request was answered before; the first answer is the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


@dataclass(slots=True, kw_only=True)
class Keyed:
    """The idempotency key of a request. `digest` is of its body, once that is known."""

    scope: idempotency.Scope
    kept: idempotency.Kept
    digest: bytes | None = None
    finished: bool = False

    def require_first(self) -> None:
        """Raise Conflict while the first request under this key has not been answered."""
        if isinstance(self.kept, idempotency.InFlight):
            message = "The first request with this Idempotency-Key has not been answered yet."
            raise Conflict(message, code="idempotency_in_flight", headers={"Retry-After": "1"})

    def know_body(self, digest: bytes) -> None:
        """Learn the body's digest; raise Replayed if it was answered before, Unprocessable if another body was."""
        self.digest = digest
        if not isinstance(self.kept, idempotency.Answered):
            return
        if self.kept.body_sha256 != digest:
            message = "This Idempotency-Key was used with another body."
            raise Unprocessable(message, code="idempotency_key_reused", param="Idempotency-Key")
        content_type = self.kept.headers.get("Content-Type", "application/json")
        headers = {name: value for name, value in self.kept.headers.items() if name != "Content-Type"}
        headers["Idempotency-Replayed"] = "true"
        raise Replayed(
            Reply(status=self.kept.status, body=self.kept.response, content_type=content_type, headers=headers)
        )

    @property
    def open(self) -> bool:
        """Whether this request holds the key and has not been answered under it."""
        return isinstance(self.kept, idempotency.Reserved) and not self.finished

    def finish(self, tx: Transaction, reply: Reply) -> None:
        """Keep an answer for repetitions, in the transaction that makes it true."""
        assert self.digest is not None
        headers = {name: reply.headers[name] for name in _HEADERS_KEPT if name in reply.headers}
        headers["Content-Type"] = reply.content_type
        answer = idempotency.Answered(
            body_sha256=self.digest, status=reply.status, headers=headers, response=reply.body
        )
        idempotency.finish(tx, self.scope, answer)
        self.finished = True


@dataclass(slots=True, kw_only=True)
class Call:
    """One request of a declared route, admitted."""

    route: ApiRoute
    path: str
    request_id: str
    headers: Headers
    receive: Receive
    parameters: dict[str, object]
    principal: Principal | None = None
    rate: Rate | None = None
    keyed: Keyed | None = None
    body: Body | None = field(default=None)

    @property
    def who(self) -> Principal:
        """Whoever sent it; only for guarded routes."""
        assert self.principal is not None, self.route.operation_id
        return self.principal

    @property
    def content_type(self) -> str:
        """The media type of the body, without its parameters, in lower case."""
        return media_type(self.headers)

    def get(self, name: str, kind: type[Value]) -> Value | None:
        """Read a parameter of which the schema says the type."""
        value = self.parameters.get(name)
        assert value is None or isinstance(value, kind), name
        return value

    def require(self, name: str, kind: type[Value]) -> Value:
        """Read a parameter that is required or has a default."""
        value = self.get(name, kind)
        assert value is not None, name
        return value

    def open_body(self, *, bytes_max: int, window_seconds: float) -> Body:
        """Make ready to read the body."""
        self.body = Body(self.receive, self.headers, bytes_max=bytes_max, window_seconds=window_seconds)
        return self.body

    def know_body(self, content: bytes, *, salt: bytes = b"") -> None:
        """Compare the body with the one that was sent under the same idempotency key, if there is one."""
        if self.keyed is not None:
            self.know_digest(hashlib.sha256(content).digest(), salt=salt)

    def know_digest(self, digest: bytes, *, salt: bytes = b"") -> None:
        """Do the same for a body of which only the digest was kept."""
        if self.keyed is not None:
            self.keyed.know_body(hashlib.sha256(salt + b"\x00" + digest).digest())

    def kept(self, tx: Transaction, reply: Reply) -> Reply:
        """Keep the answer under the idempotency key, if there is one, in the transaction that makes it true."""
        if self.keyed is not None and self.keyed.open:
            self.keyed.finish(tx, reply)
        return reply


def media_type(headers: Headers) -> str:
    """Read the media type of a body without its parameters.

    >>> media_type(Headers({"Content-Type": "Text/CSV; charset=utf-8"}))
    'text/csv'
    """
    return headers.get("content-type", "").partition(";")[0].strip().lower()
