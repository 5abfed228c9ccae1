"""What can go wrong for a user of the client. How an answer is asked for again is not known here.

ClientError
├── Unreachable         no answer came, however often it was asked for
├── UnsafeRecord        a record is nothing that JSON has, or larger than a request may be
├── RecordsRejected     records that the schema refuses, found here or by the server
├── JobUnfinished       a job had not ended when the time was over
└── ApiError            the server refused: status, code, message, request id
    ├── Unauthorized    401
    ├── Forbidden       403
    ├── NotFound        404
    ├── Conflict        409
    ├── TooLarge        413
    ├── Invalid         400, 415, 422
    ├── RateLimited     429, after all attempts
    │   └── QuotaExceeded  429  the month's records are used up; `quota` has the numbers
    └── ServerError     5xx, after all attempts
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import httpx


class ClientError(Exception):
    """Anything that the client raises on purpose."""


class Unreachable(ClientError):
    """No answer came. Whether the request was taken is unknown; the same idempotency key is safe to send again."""


class UnsafeRecord(ClientError):
    """A record can't be sent at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordError:
    """One problem of a record, in the words of the API; `index` counts from the first record that was given."""

    index: int
    field: str | None
    code: str
    error: str


class RecordsRejected(ClientError):
    """Records are wrong. Of the batch they are in, nothing was sent; `sent` records of earlier batches were."""

    def __init__(self, errors: Sequence[RecordError], *, sent: int) -> None:
        self.errors = tuple(errors)
        self.sent = sent
        first = self.errors[0]
        more = f" (and {len(self.errors) - 1} more problems)" if len(self.errors) > 1 else ""
        super().__init__(f"record {first.index}: {first.error}{more}")


class JobUnfinished(ClientError):
    """A job goes on; it was not waited for any longer."""


class ApiError(ClientError):
    """The server answered with an error."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.request_id = response.headers.get("X-Request-Id")
        self.body = _body(response)
        self.code, self.message = _told(self.body, status=self.status)
        super().__init__(f"{self.status} {self.message}" + (f" ({self.request_id})" if self.request_id else ""))


class Unauthorized(ApiError):
    """The token is unknown, expired, revoked or of the wrong kind."""


class Forbidden(ApiError):
    """The token lacks the scope, or the project."""


class NotFound(ApiError):
    """There is no such thing, or it is another workspace's."""


class Conflict(ApiError):
    """What is asked for contradicts what there is."""


class TooLarge(ApiError):
    """The body is larger than the route takes."""


class Invalid(ApiError):
    """The request is wrong."""


class RateLimited(ApiError):
    """More requests than the rate allows, and waiting did not help."""


class QuotaExceeded(RateLimited):
    """The records do not fit into what is left of the month's quota; none was taken."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response)
        self.quota = cast("Mapping[str, object]", self.body.get("quota", {}))


class ServerError(ApiError):
    """The server can't do it now; waiting did not help."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: RateLimited,
}
_TOO_MANY, _SERVER = 429, 500


def error_of(response: httpx.Response) -> ApiError:
    """Make the exception of an answer that is an error."""
    if response.status_code == _TOO_MANY and "quota" in _body(response):
        return QuotaExceeded(response)
    otherwise = ServerError if response.status_code >= _SERVER else Invalid
    return _BY_STATUS.get(response.status_code, otherwise)(response)


def _body(response: httpx.Response) -> dict[str, object]:
    try:
        read: object = json.loads(response.content)
    except ValueError:
        # A proxy's page, say.
        return {}
    return cast("dict[str, object]", read) if isinstance(read, dict) else {}


def _told(body: Mapping[str, object], *, status: int) -> tuple[str, str]:
    """Read code and message from whichever family's envelope."""
    error = body.get("error")
    if isinstance(error, dict):
        told = cast("dict[str, object]", error)
        return str(told.get("code", status)), str(told.get("message", "no message"))
    if "detail" in body:
        return str(error), str(body["detail"])
    return str(status), str(error or "no message")
