"""The words of the datasets API: its errors, a dataset as it is shown. How anything is decided is not known here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ingest_platform.domain.contract import Contract, Kind
from ingest_platform.domain.errors import Exceeded, Malformed, NotFound, QuotaExceeded, Refusal
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.datasets.registry import Dataset
from ingest_platform.feeds.datasets.schema import THE_VERSION

INVALID_JSON = "Invalid JSON body"
INVALID_ID = "Invalid dataset ID"
NOT_AN_OBJECT = "Payload must be an object"
NO_DATASET = "Dataset not found"
NO_PROJECT = "Project not found"
NO_SCHEMA = "Dataset schema not found"
NO_PROJECT_OF_KEY = "Project not found in API token claims"
QUOTA_EXCEEDED = "Dataset quota exceeded"
# What a dataset's id is called among a route's parameters.
_IDS = frozenset({"id", "dataset_id"})
TIMESTAMP, CONTEXT = "timestamp", "context"
BODY_BYTES_MAX = 5 * 1024 * 1024
# Of more bad records nobody learns more, and the answer would be larger than the request.
ERRORS_MAX = 10_000
_OF_WHOLE = {
    Code.NOT_AN_OBJECT.value: NOT_AN_OBJECT,
    Code.INVALID_JSON.value: INVALID_JSON,
}
# A value that is not what its field was declared as, in whichever way.
_WRONG_TYPE = frozenset({Code.INVALID_TYPE.value, Code.INVALID_TIMESTAMP.value, Code.NOT_FINITE.value})
_RANK_OF_WHOLE, _RANK_TIMESTAMP, _RANK_CONTEXT, _RANK_EXTRA, _RANK_MISSING, _RANK_WRONG = range(6)

Shown = dict[str, object]


# Records that are wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """A record with problems; `index` is None where it was sent alone."""

    index: int | None
    problems: Sequence[Problem]


class BadRecords(Malformed):
    """Records that are wrong, of which nothing was taken: the first failure is the error, all are told beside it."""

    def __init__(self, records: Sequence[BadRecord], contract: Contract) -> None:
        self.errors = errors_of(records, contract)
        super().__init__(str(self.errors[0]["error"]))
        self.index = records[0].index


def errors_of(records: Sequence[BadRecord], contract: Contract) -> list[Shown]:
    """Tell all problems of records, each record's in the order in which they are checked."""
    return [
        {
            **({} if record.index is None else {"index": record.index}),
            "field": problem.field,
            "code": problem.code,
            "error": error_of(problem, contract),
        }
        for record in records
        for problem in in_order(record.problems)
    ]


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Put a record's problems into the order of the contract: first the usual fields, then what is extra or missing."""
    return sorted(problems, key=_rank)


def _rank(problem: Problem) -> int:
    if problem.code == Code.EXTRA_FIELD:
        return _RANK_EXTRA
    if problem.field is None:
        return _RANK_OF_WHOLE
    usual = {TIMESTAMP: _RANK_TIMESTAMP, CONTEXT: _RANK_CONTEXT}.get(problem.field)
    if usual is not None:
        return usual
    return _RANK_MISSING if problem.code == Code.MISSING_FIELD else _RANK_WRONG


def error_of(problem: Problem, contract: Contract) -> str:
    """Word one problem of a record; a key that stands twice, say, has no words of its own and keeps the platform's."""
    name, code = problem.field, problem.code
    if name is None:
        return _OF_WHOLE.get(code, problem.message)
    if code == Code.EXTRA_FIELD:
        return f"Extra field: {name}"
    if code != Code.MISSING_FIELD and code not in _WRONG_TYPE:
        return problem.message
    if name == TIMESTAMP:
        return "Invalid or missing timestamp"
    if name == CONTEXT:
        return problem.message if code == Code.NOT_FINITE else "context must be an object"
    return f"Missing field: {name}" if code == Code.MISSING_FIELD else wrong_type(name, contract.field(name).kind)


def wrong_type(name: str, kind: Kind) -> str:
    """Say that a field is not of its type.

    >>> wrong_type("amount", Kind.NUMBER)
    'Invalid number field: amount'
    """
    return f"Invalid {kind.value} field: {name}"


# Errors


def error_body(refusal: Refusal, _request_id: str) -> Shown:
    """Word a refusal as `{"error": "<text>"}`, with what else there is to tell of bad records and of a quota."""
    if isinstance(refusal, BadRecords):
        index = {} if refusal.index is None else {"index": refusal.index}
        errors = refusal.errors[:ERRORS_MAX]
        more = {"errors_truncated": True} if len(refusal.errors) > len(errors) else {}
        return {"error": refusal.message, **index, "errors": errors, **more}
    if isinstance(refusal, QuotaExceeded) and refusal.exceeded is not None:
        return {"error": QUOTA_EXCEEDED, "quota": _quota(refusal.exceeded)}
    if refusal.code == "invalid_parameter" and refusal.param in _IDS:
        return {"error": INVALID_ID}
    return {"error": refusal.message}


def _quota(exceeded: Exceeded) -> Shown:
    return {
        "limit": exceeded.limit,
        "used": exceeded.used,
        "remaining": exceeded.remaining,
        "requested": exceeded.requested,
        "period": exceeded.period,
        "resets_at": format_instant(exceeded.resets_at),
    }


ERROR_ITEM_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "minimum": 0},
        "field": {"type": ["string", "null"]},
        "code": {"type": "string"},
        "error": {"type": "string"},
    },
    "required": ["field", "code", "error"],
    "additionalProperties": False,
}
ERROR_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "description": (
        "Why nothing was taken. Of records that are wrong, `error` is the first failure and `errors` has all; of a "
        "batch, `index` is the record's. Of an exceeded quota, `quota` has its numbers."
    ),
    "properties": {
        "error": {"type": "string"},
        "index": {"type": "integer", "minimum": 0},
        "errors": {"type": "array", "maxItems": ERRORS_MAX, "items": ERROR_ITEM_SCHEMA},
        "errors_truncated": {"const": True},
        "quota": {
            "type": "object",
            "properties": {
                **{name: {"type": "integer", "minimum": 0} for name in ("limit", "used", "remaining", "requested")},
                "period": {"type": "string", "description": "A month of UTC: YYYY-MM."},
                "resets_at": {"type": "string", "format": "date-time"},
            },
            "required": ["limit", "used", "remaining", "requested", "period", "resets_at"],
            "additionalProperties": False,
        },
    },
    "required": ["error"],
    "additionalProperties": False,
}


def no_schema() -> NotFound:
    """Refuse what needs a dataset with a schema."""
    return NotFound(NO_SCHEMA)


# What was taken


def batch_reply(*, count: int, rejected: int, bad: Sequence[BadRecord] | None, contract: Contract) -> Shown:
    """Tell how many records of a batch were taken, and which were not; `bad` is None where all were or none."""
    shown: Shown = {"success": True, "count": count, "status": "queued"}
    if bad is not None:
        shown["rejected"] = errors_of(bad, contract)
        if rejected > len(bad):
            shown["rejected_truncated"] = True
    return shown


# A dataset


def shown_schema(dataset: Dataset) -> Shown | None:
    """Show a dataset's schema, its fields in the order in which they were declared."""
    return None if dataset.fields is None else {"version": THE_VERSION, "fields": dict(dataset.fields)}


def shown_dataset(dataset: Dataset) -> Shown:
    """Show a dataset."""
    return {
        "id": dataset.id,
        "name": dataset.name,
        "slug": dataset.slug,
        "description": dataset.description,
        "schema": shown_schema(dataset),
        "status": "pending_schema" if dataset.fields is None else "active",
    }
