"""The words of the issues API: its errors, its replies, a job's status. How anything is decided is not known here."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ingest_platform.api.problems import DETAILS_MAX
from ingest_platform.domain.contract import WHITE_SPACE, Contract, Field, Kind
from ingest_platform.domain.errors import Detail, Malformed, Refusal, Unreadable
from ingest_platform.domain.job import Job, JobState
from ingest_platform.domain.rejection import Problem
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.issues.contract import CONTRACT, NO_NUL_PATTERN, URL_PATTERN
from ingest_platform.pipeline.documents import BOM, split_document
from ingest_platform.pipeline.records import BLANKS

RECORDS = "records"
BATCH_RECORDS_MAX = 500
BODY_BYTES_MAX = 5 * 1024 * 1024
VALIDATION_ERROR = "validation_error"
REJECTED = "processing_error"
# The family's words for what went wrong; a refusal of another status keeps its own code.
_CODES = {
    400: VALIDATION_ERROR,
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    413: "payload_too_large",
    429: "rate_limited",
    500: "internal_error",
}
_RATE_LIMITED = 429
# How far a job is by what has been done for it. It is 1.0 only at its end, and it never falls: what is done for a job
# stays done, whoever works on it next.
_PROGRESS_BEGUN, _PROGRESS_CHECKED, _PROGRESS_ENDED = 0.1, 0.5, 1.0
_is_json = msgspec.json.Decoder(msgspec.Raw).decode
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Shown = dict[str, object]


# Errors


def error_body(refusal: Refusal, request_id: str) -> Shown:
    """Word a refusal as `{"error": {"code", "message", "trace_id", "details"?}}`; a 429 has no trace id."""
    error: Shown = {"code": _CODES.get(refusal.status, refusal.code), "message": refusal.message}
    if refusal.status != _RATE_LIMITED:
        error["trace_id"] = request_id
    details = {each.param: each.message for each in refusal.details[:DETAILS_MAX] if each.param is not None}
    if not details and refusal.param is not None:
        details = {refusal.param: refusal.message}
    if details:
        error["details"] = details
    return {"error": error}


ERROR_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "description": (
        "Why nothing was taken. `code` is closed and for programs, `message` is for people, `trace_id` is the id of "
        "the request (a 429 has none), and `details` has a message for each field that is wrong."
    ),
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "trace_id": {"type": "string"},
                "details": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["code", "message"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}


def message_of(problem: Problem) -> str:
    """Word one problem of a record.

    >>> message_of(Problem(code="missing_field", field="title", message="title is missing."))
    'title is required'
    """
    nothing = {f"{problem.field} is missing.", f"{problem.field} must not be blank."}
    return f"{problem.field} is required" if problem.message in nothing else problem.message


def bad_record(problems: Sequence[Problem]) -> Malformed:
    """Refuse a record that is sent alone, for all that is wrong with it; each field is told its first problem."""
    first: dict[str, Detail] = {}
    for problem in problems:
        if problem.field is not None and problem.field not in first:
            message = message_of(problem)
            first[problem.field] = Detail(code=problem.code, message=message, param=problem.field)
    message = message_of(problems[0])
    if len(problems) > 1:
        message = f"The record has {len(problems)} problems; the first: {message}"
    return Malformed(message, details=list(first.values()))


# Bodies


def split_records(body: bytes) -> list[bytes]:
    """Cut the body of a batch into its records' bytes. Raises Malformed unless there are 1 to 500 of them."""
    if not body.removeprefix(BOM).lstrip(BLANKS).startswith(b"{"):
        raise _wrong_shape(_what_is_wrong(body))
    try:
        records = split_document(body, RECORDS)
    except Unreadable as unreadable:
        raise _wrong_shape(str(unreadable) if unreadable.code != "invalid_json" else _what_is_wrong(body)) from None
    if not 1 <= len(records) <= BATCH_RECORDS_MAX:
        message = f"{RECORDS} must have 1 to {BATCH_RECORDS_MAX} records, but has {len(records)}."
        raise Malformed(message, param=RECORDS)
    return records


def _what_is_wrong(body: bytes) -> str:
    try:
        _is_json(body)
    except _DECODE_ERRORS:
        return "The body is not valid JSON in UTF-8."
    return f"The body must be an object with a list of records under {RECORDS}."


def _wrong_shape(message: str) -> Malformed:
    return Malformed(message, param=RECORDS)


# Replies


def rejected(index: int, problem: Problem) -> Shown:
    """Show why a record of a batch was rejected: its first problem (all of them are in the job's records)."""
    return {
        "index": index,
        "code": REJECTED,
        "message": message_of(problem),
        "reason_code": problem.code,
        "field": problem.field,
    }


def batch_reply(*, rejections: Iterable[tuple[int, Problem]], issue_ids: Sequence[str], job_id: str | None) -> Shown:
    """Answer a batch; `job_id` is None where nothing is stored."""
    return {
        "accepted": len(issue_ids),
        "rejected": [rejected(index, problem) for index, problem in rejections],
        "job_id": job_id,
        "issue_ids": list(issue_ids),
    }


def record_reply(*, issue_id: str | None, job_id: str | None) -> Shown:
    """Answer a record that was sent alone and is good."""
    return {"accepted": 1, "rejected": [], "issue_id": issue_id, "job_id": job_id}


def status(job: Job) -> Shown:
    """Show how far a job is, and its result once it has ended."""
    shown: Shown = {
        "job_id": job.id,
        "status": _status_word(job),
        "progress": _progress(job),
        "result": _result(job) if job.state.terminal else None,
        "created_at": format_instant(job.accepted_at),
        "finished_at": None if job.finished_at is None else format_instant(job.finished_at),
    }
    if job.state is JobState.FAILED:
        shown["error"] = {"code": job.error_code or "failed", "message": job.error_message or "The job failed."}
    return shown


STATUSES = ("pending", "running", "succeeded", "partial", "failed")


def _status_word(job: Job) -> str:
    match job.state:
        case JobState.ACCEPTED:
            return "pending"
        case JobState.PROCESSING:
            return "running"
        case JobState.FINISHED:
            return job.verdict or "succeeded"
        case JobState.FAILED:
            return "failed"


def _progress(job: Job) -> float:
    if job.state.terminal:
        return _PROGRESS_ENDED
    if job.state is JobState.ACCEPTED:
        return 0.0
    return _PROGRESS_BEGUN if job.validated_at is None else _PROGRESS_CHECKED


def _result(job: Job) -> Shown:
    if job.state is JobState.FAILED:
        # It could not be carried through: nothing of it is stored, whatever its records were like.
        received = job.received or 0
        return {"accepted": 0, "rejected_count": received, "total": received}
    return {"accepted": job.accepted, "rejected_count": job.rejected, "total": job.received}


# Schemas

# The contract's rules, written such that all readers of a schema read them alike.
_BLANK = "".join(f"\\u{ord(each):04x}" for each in WHITE_SPACE)
NOT_BLANK_PATTERN = f"[^{_BLANK}]"
WITHOUT_NUL_PATTERN = r"^[^\u0000]*$"
_NOT_BLANK_WITHOUT_NUL_PATTERN = rf"^[^\u0000]*[^\u0000{_BLANK}][^\u0000]*$"
_URL_PATTERN = r'^https?://[^\u0000-\u0020\u007f-\u00a0"<>\\]+$'


def record_schema(contract: Contract = CONTRACT, **changes: Mapping[str, object]) -> Mapping[str, object]:
    """Describe a record, as follows from its contract; `changes` are added to the schemas of single fields."""
    properties = {field.name: {**_field_schema(field), **changes.get(field.name, {})} for field in contract.fields}
    return {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in contract.fields if field.required],
        "additionalProperties": contract.extra_allowed,
    }


def _field_schema(field: Field) -> Shown:
    schema: Shown = {"type": [_json_type(field.kind), "null"] if field.nullable else _json_type(field.kind)}
    if field.kind is Kind.TIMESTAMP:
        schema["format"] = "date-time"
    if field.length_max is not None:
        schema["maxLength"] = field.length_max
    if not field.blank_allowed:
        schema["minLength"] = 1
        free_of_nul = field.pattern == NO_NUL_PATTERN
        schema["pattern"] = _NOT_BLANK_WITHOUT_NUL_PATTERN if free_of_nul else NOT_BLANK_PATTERN
    if field.pattern == URL_PATTERN:
        schema["pattern"] = _URL_PATTERN
    if field.choices:
        schema["enum"] = [*field.choices, None] if field.nullable else list(field.choices)
    return {**schema, "description": field.description, "examples": [field.example]}


def _json_type(kind: Kind) -> str:
    return "string" if kind is Kind.TIMESTAMP else kind.value


EXAMPLE_RECORD: Mapping[str, object] = {field.name: field.example for field in CONTRACT.fields}
