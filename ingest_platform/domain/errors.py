"""All errors that cross a module's border. What an HTTP body looks like is not known here.

IngestError
├── Refusal                 the request's: answered to the client, nothing was taken
│   ├── Malformed           400  the bytes are not what they claim to be
│   ├── Unauthenticated     401
│   ├── Forbidden           403
│   ├── NotFound            404  also for whatever belongs to somebody else
│   ├── TooSlow             408
│   ├── Conflict            409
│   ├── PayloadTooLarge     413
│   ├── UnsupportedFormat   415
│   ├── Unprocessable       422  valid JSON, wrong content
│   ├── RateLimited         429
│   ├── QuotaExceeded       429  more records than the workspace may have accepted this month
│   └── Unavailable         503  durability can't be promised now
│       └── InDoubt         503  the store fell silent in the middle of a commit: it may have been taken
├── Unreadable              the submission's: it ends `failed` with a reason
└── Fault                   ours: logged, retried, somebody is woken
    ├── LedgerFault         PostgreSQL
    ├── WarehouseFault      the lake
    │   └── TooCostly       a question to it took more time, memory or bytes than it may
    ├── ParserFault         a parser process died or overran its limits
    └── LeaseLost           another worker owns the load now; nothing was changed

A rejection (one record's) is a value, never an exception: see `rejection.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


class IngestError(Exception):
    """Anything that this platform raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One of several reasons of a refusal: a closed code, a message for people, the parameter it speaks of."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceeded:
    """Records that do not fit into what is left of a month's quota; none of them is counted.

    `period` is a month of UTC (YYYY-MM), and `retry_after_seconds`, at least 1, the time until it ends.
    """

    limit: int
    used: int
    requested: int
    period: str
    resets_at: datetime
    retry_after_seconds: int

    @property
    def remaining(self) -> int:
        """How many records may still be accepted this month; none if the limit was lowered below what was used."""
        return max(0, self.limit - self.used)


class Refusal(IngestError):
    """A request that is answered with an error; nothing of it was taken.

    `code` is closed and for programs, `message` is for people and names the field and the limit.
    """

    status = 400
    code = "bad_request"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        details: Sequence[Detail] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.details = tuple(details)
        self.headers = dict(headers or {})


class Malformed(Refusal):
    """The bytes are not what they claim to be."""

    status, code = 400, "malformed"


class Unauthenticated(Refusal):
    """No token, or one that is unknown, expired, revoked or of the wrong kind."""

    status, code = 401, "unauthorized"


class Forbidden(Refusal):
    """The token is good but lacks the scope."""

    status, code = 403, "forbidden"


class NotFound(Refusal):
    """It does not exist, or it belongs to another workspace; the two can't be told apart."""

    status, code = 404, "not_found"


class TooSlow(Refusal):
    """The client sent its request more slowly than the least rate."""

    status, code = 408, "request_timeout"


class Conflict(Refusal):
    """The state of the thing does not allow it now."""

    status, code = 409, "conflict"


class PayloadTooLarge(Refusal):
    """More bytes than the route takes, as sent or once decompressed."""

    status, code = 413, "payload_too_large"


class UnsupportedFormat(Refusal):
    """A content type or encoding that the route does not read."""

    status, code = 415, "unsupported_media_type"


class Unprocessable(Refusal):
    """Valid JSON with the wrong content."""

    status, code = 422, "unprocessable"


class RateLimited(Refusal):
    """More requests than the workspace or the address may send."""

    status, code = 429, "rate_limited"


class QuotaExceeded(Refusal):
    """More records than the workspace may still have accepted this month; nothing was taken."""

    status, code = 429, "quota_exceeded"

    def __init__(self, message: str, *, exceeded: Exceeded | None = None) -> None:
        headers = {} if exceeded is None else {"Retry-After": str(exceeded.retry_after_seconds)}
        super().__init__(message, headers=headers)
        self.exceeded = exceeded


class Unavailable(Refusal):
    """Durability can't be promised at the moment, so nothing is taken."""

    status, code = 503, "unavailable"


class InDoubt(Unavailable):
    """The store fell silent in the middle of a commit: whether it was taken shows only when the store is back.

    The one refusal that does not say that nothing was taken, so what belongs to the submission must be left in place.
    """

    code = "unconfirmed"


class Unreadable(IngestError):
    """A submission that can't be read at all (not JSON, corrupt Parquet); `code` is closed, `str()` for people."""

    def __init__(self, message: str, *, code: str = "unreadable") -> None:
        super().__init__(message)
        self.code = code


class Fault(IngestError):
    """Ours to mend; never the client's."""


class LedgerFault(Fault):
    """PostgreSQL refused, was away, or broke a promise."""


class WarehouseFault(Fault):
    """The lake refused, was away, or broke a promise."""


class TooCostly(WarehouseFault):
    """A question to the lake took more time, memory or bytes of an answer than it may; `str()` is for people."""


class ParserFault(Fault):
    """A parser process died or overran its limits of memory or time; `job_id` is whose submission it read."""

    job_id: str | None = None


class LeaseLost(Fault):
    """The load is another worker's by now."""
