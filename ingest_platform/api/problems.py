"""How a refusal is worded: one envelope by family of paths. Which refusals there are is not known here (domain/errors).

A family with words of its own declares a `Family` in its `routes.py`; everything else speaks `COMMON`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.domain.errors import Refusal

_TYPES = {401: "auth_error", 403: "auth_error", 404: "not_found", 409: "conflict", 429: "rate_limit"}
_SERVER_ERRORS = 500
# More reasons than this help nobody and would make the answer larger than the request.
DETAILS_MAX = 1_000


class MethodNotAllowed(Refusal):
    """The path exists, with other methods."""

    status, code = 405, "method_not_allowed"


class InternalError(Refusal):
    """Ours; what it was is in the log under the request id and nowhere else."""

    status, code = 500, "internal_error"


def common_body(refusal: Refusal, request_id: str) -> dict[str, object]:
    """Word a refusal as `{"error": {"type", "code", "message", "request_id", "param"?, "details"?}}`."""
    error: dict[str, object] = {
        "type": _type_of(refusal.status),
        "code": refusal.code,
        "message": refusal.message,
        "request_id": request_id,
    }
    if refusal.param is not None:
        error["param"] = refusal.param
    if refusal.details:
        error["details"] = [
            {"code": detail.code, "param": detail.param, "message": detail.message}
            for detail in refusal.details[:DETAILS_MAX]
        ]
    return {"error": error}


def _type_of(status: int) -> str:
    return _TYPES.get(status, "internal_error" if status >= _SERVER_ERRORS else "validation_error")


_DETAIL_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "code": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "message": {"type": "string"},
    },
    "required": ["code", "param", "message"],
    "additionalProperties": False,
}
COMMON_SCHEMA: dict[str, object] = {
    "type": "object",
    "description": "Why nothing was taken. `code` is closed and for programs, `message` is for people.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "type": {
                    "enum": [
                        "validation_error",
                        "not_found",
                        "auth_error",
                        "conflict",
                        "rate_limit",
                        "internal_error",
                    ]
                },
                "code": {"type": "string"},
                "message": {"type": "string"},
                "request_id": {"type": "string"},
                "param": {"type": "string"},
                "details": {"type": "array", "items": _DETAIL_SCHEMA},
            },
            "required": ["type", "code", "message", "request_id"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Paths that share an error envelope and the names under which they send the request id.

    `statuses` has the family's own status where it is not the refusal's.
    """

    name: str
    prefixes: tuple[str, ...]
    id_headers: tuple[str, ...] = ("X-Request-Id",)
    body: Callable[[Refusal, str], Mapping[str, object]] = common_body
    schema: Mapping[str, object]
    statuses: Mapping[int, int] = field(default_factory=dict[int, int])

    def covers(self, path: str) -> bool:
        """Tell whether a path belongs to the family."""
        return path.startswith(self.prefixes)

    def problem(self, refusal: Refusal, request_id: str) -> Reply:
        """Answer with a refusal in the family's words."""
        return json_reply(self.status_of(refusal), self.body(refusal, request_id), headers=refusal.headers)

    def status_of(self, refusal: Refusal | type[Refusal]) -> int:
        """Tell the status that the family answers a refusal with."""
        return self.statuses.get(refusal.status, refusal.status)


COMMON = Family(name="Problem", prefixes=("/",), schema=COMMON_SCHEMA)
