"""The words of the streams API: its errors, what was taken. How anything is decided is not known here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ingest_platform.domain.contract import WHITE_SPACE, Contract, Field, Kind
from ingest_platform.domain.errors import Malformed, NotFound, PayloadTooLarge, Refusal
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.feeds.stream_events.contract import STRICT

INVALID_FORMAT = "invalid_format"
MISSING_STREAM_ID = "missing_stream_id"
STREAM_NOT_FOUND = "stream_not_found"
STREAM_ID_HEADER = "X-Stream-Id"
NOT_JSON = "The request body must be valid JSON."
NO_EVENTS = "The request body must have at least one event."
NEITHER = "The request body must be an event object, or an array of them."
BODY_BYTES_MAX = 1_048_576
# Of more bad events nobody learns more, and the answer would be larger than the request.
REJECTED_MAX = 1_000
# The family's own status for one of ours.
STATUSES: Mapping[int, int] = {PayloadTooLarge.status: Malformed.status}
_WRONG = frozenset({Code.INVALID_TYPE.value, Code.INVALID_TIMESTAMP.value})

Shown = dict[str, object]


# Events that are wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class BadEvent:
    """An event that is rejected, and the first thing that is wrong with it."""

    index: int
    problem: Problem


class BadEvents(Malformed):
    """No event of a request is good, so that nothing was taken. `alone`: it was not sent in a list."""

    code = INVALID_FORMAT

    def __init__(self, bad: Sequence[BadEvent], *, received: int, alone: bool) -> None:
        super().__init__(detail_of(bad[0].problem, alone=alone))
        self.bad = () if alone else bad
        self.received = received


def detail_of(problem: Problem, *, alone: bool = False) -> str:
    """Word what is wrong with an event.

    >>> detail_of(Problem(code="missing_field", field="source", message="source is missing."))
    "The 'source' field is required."
    """
    name, code = problem.field, problem.code
    if name is None:
        return _of_whole(problem, alone=alone)
    field = f"The '{name}' field"
    if code == Code.MISSING_FIELD:
        blank = problem.message.endswith("blank.")
        return f"{field} must be a non-empty string." if blank else f"{field} is required."
    if code in _WRONG:
        return f"{field} must be {_WANTED[STRICT.field(name).kind]}."
    if code == Code.DUPLICATE_KEY:
        return f"{field} must not have a key twice, nor be given twice."
    if code == Code.NOT_FINITE:
        return f"{field} must have only numbers that fit a double or a 64-bit integer."
    return f"{field}{problem.message.removeprefix(name)}"


_WANTED: Mapping[Kind, str] = {
    Kind.TIMESTAMP: "a valid ISO 8601 string",
    Kind.STRING: "a non-empty string",
    Kind.OBJECT: "an object",
}


def _of_whole(problem: Problem, *, alone: bool) -> str:
    if problem.code == Code.INVALID_JSON:
        return NOT_JSON if alone else "The event must be valid JSON."
    return "The event must be an object." if problem.code == Code.NOT_AN_OBJECT else problem.message


def rejected(bad: Sequence[BadEvent]) -> list[Shown]:
    """Tell of each bad event the first thing that is wrong with it (all of them are in the job's records)."""
    return [
        {"index": each.index, "error": INVALID_FORMAT, "detail": detail_of(each.problem)} for each in bad[:REJECTED_MAX]
    ]


# Errors


def error_body(refusal: Refusal, _request_id: str) -> Shown:
    """Word a refusal as `{"error": code, "detail": text}`; of a list without a good event, `rejected` has each."""
    shown: Shown = {"error": INVALID_FORMAT if refusal.code == Malformed.code else refusal.code}
    shown["detail"] = refusal.message
    if isinstance(refusal, BadEvents) and refusal.bad:
        _add_rejected(shown, refusal.bad, count=refusal.received)
    return shown


def _add_rejected(shown: Shown, bad: Sequence[BadEvent], *, count: int) -> None:
    shown["rejected"] = rejected(bad)
    if count > REJECTED_MAX:
        shown["rejected_truncated"] = True


REJECTED_SCHEMA: Mapping[str, object] = {
    "type": "array",
    "maxItems": REJECTED_MAX,
    "description": "Of each event that is not accepted, the first thing that is wrong; left out if there is none.",
    "items": {
        "type": "object",
        "properties": {
            "index": {"type": "integer", "minimum": 0},
            "error": {"type": "string"},
            "detail": {"type": "string"},
        },
        "required": ["index", "error", "detail"],
        "additionalProperties": False,
    },
}
TRUNCATED_SCHEMA: Mapping[str, object] = {"const": True, "description": "There are more than are listed."}
ERROR_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "description": (
        "Why nothing was taken. `error` is closed and for programs, `detail` is for people and names the field."
    ),
    "properties": {
        "error": {"type": "string"},
        "detail": {"type": "string"},
        "rejected": REJECTED_SCHEMA,
        "rejected_truncated": TRUNCATED_SCHEMA,
    },
    "required": ["error", "detail"],
    "additionalProperties": False,
}


def no_stream_id() -> Malformed:
    """Refuse a request that does not say of which stream its events are."""
    return Malformed(f"The {STREAM_ID_HEADER} header is required, once.", code=MISSING_STREAM_ID)


def no_stream() -> NotFound:
    """Refuse events of a stream that does not exist, or is another workspace's."""
    return NotFound("There is no stream with this id.", code=STREAM_NOT_FOUND)


# What was taken


def accepted(
    *,
    ingested_bytes: int,
    stream_id: str,
    ingest_id: str | None,
    accepted_items: int,
    bad: Sequence[BadEvent],
    count: int,
) -> Shown:
    """Tell what was taken; `count` is how many events were rejected, `ingest_id` is None where nothing is stored."""
    shown: Shown = {
        "status": "accepted",
        "ingested_bytes": ingested_bytes,
        "stream_id": stream_id,
        "ingest_id": ingest_id,
        "accepted_items": accepted_items,
    }
    if bad:
        _add_rejected(shown, bad, count=count)
    return shown


ACCEPTED_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "status": {"const": "accepted"},
        "ingested_bytes": {
            "type": "integer",
            "minimum": 0,
            "description": "The length of the body as it was received, before it was decompressed.",
        },
        "stream_id": {"type": "string"},
        "ingest_id": {
            "type": ["string", "null"],
            "description": "The id of the job (`GET /v1/jobs/{id}`); null in a dry run.",
        },
        "accepted_items": {"type": "integer", "minimum": 1},
        "rejected": REJECTED_SCHEMA,
        "rejected_truncated": TRUNCATED_SCHEMA,
        "dry_run": {"const": True, "description": "Only in a dry run."},
    },
    "required": ["status", "ingested_bytes", "stream_id", "ingest_id", "accepted_items"],
    "additionalProperties": False,
}

# An event, as follows from its contract

_BLANK = "".join(f"\\u{ord(each):04x}" for each in WHITE_SPACE)


def event_schema(contract: Contract = STRICT) -> Mapping[str, object]:
    """Describe an event."""
    return {
        "type": "object",
        "description": (
            "Other keys are kept. A stream with `envelope: auto` takes flat objects, too: they become `event`, their "
            "`source` or else their `service` the source."
        ),
        "properties": {field.name: _field_schema(field) for field in contract.fields},
        "required": [field.name for field in contract.fields if field.required],
        "additionalProperties": True,
    }


def _field_schema(field: Field) -> Shown:
    shown: Shown = {"type": "object" if field.kind is Kind.OBJECT else "string"}
    if field.kind is Kind.TIMESTAMP:
        shown["format"] = "date-time"
    if not field.blank_allowed:
        shown |= {"minLength": 1, "pattern": f"[^{_BLANK}]"}
    return {**shown, "description": field.description, "examples": [field.example]}


EXAMPLE: Mapping[str, object] = {field.name: field.example for field in STRICT.fields}
