"""The words of the machine-data API: import jobs, items, points. How anything is decided is not known here."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from ingest_platform.domain.errors import Detail, Malformed, Refusal, Unprocessable, Unreadable
from ingest_platform.domain.job import Job, JobState
from ingest_platform.domain.rejection import Code, Problem, Rejection
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.machine_data.contract import CONTRACT
from ingest_platform.pipeline.documents import BOM, split_document
from ingest_platform.pipeline.verdict import Verdict

ITEMS = "items"
BATCH_ITEMS_MAX = 200
ERRORS_MAX = 1_000
# The codes of an item are seven. An item that can't be read at all (a line that is no JSON, a row with too many cells,
# text that is no UTF-8, too many levels) is no object to this API's clients; the message says what it is.
ITEM_CODES = (
    *(Code.MISSING_FIELD, Code.INVALID_TYPE, Code.INVALID_TIMESTAMP, Code.NOT_FINITE),
    *(Code.NOT_FOUND, Code.NOT_AN_OBJECT, Code.DUPLICATE_KEY),
)
# What a client sent in an identifying field is shown back to it, but not a megabyte of it.
_ECHO_LENGTH_MAX = 200
_BLANKS = b" \t\r\n"
_is_json = msgspec.json.Decoder(msgspec.Raw).decode
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_SCALARS = msgspec.json.Decoder(dict[str, msgspec.Raw])

Shown = dict[str, object]


def accepted_job(*, job_id: str, received: int | None, accepted_at: datetime) -> Shown:
    """Show an import job that was accepted just now."""
    return _shown(job_id=job_id, status=JobState.ACCEPTED.value, received=received, created_at=accepted_at)


def import_job(job: Job, errors: Sequence[Rejection] = ()) -> Shown:
    """Show an import job with its errors. Beyond the first thousand they are cut, and that is said."""
    shown = _shown(job_id=job.id, status=job.state.value, received=job.received, created_at=job.accepted_at)
    if job.state.terminal:
        shown["items_accepted"] = job.accepted
        shown["items_rejected"] = job.rejected
        shown["finished_at"] = None if job.finished_at is None else format_instant(job.finished_at)
    if job.state is JobState.FAILED:
        shown["errors"] = [failure(code=job.error_code or "failed", message=job.error_message or "The job failed.")]
    else:
        _show_errors(shown, errors)
    return shown


def tried_job(
    *, job_id: str, received: int, rejections: Sequence[Rejection], unreadable: Unreadable | None, at: datetime
) -> Shown:
    """Show how an import job would end."""
    if unreadable is not None:
        shown = _shown(job_id=job_id, status=JobState.FAILED.value, received=None, created_at=at)
        shown["errors"] = [failure(code=unreadable.code, message=str(unreadable))]
    else:
        shown = _shown(job_id=job_id, status=JobState.FINISHED.value, received=received, created_at=at)
        shown["items_accepted"] = received - len(rejections)
        shown["items_rejected"] = len(rejections)
        _show_errors(shown, rejections)
    shown["finished_at"] = shown["created_at"]
    return shown


def batch_answer(count: int) -> Shown:
    """Answer a batch that was taken."""
    return {"items_received": count, "items_accepted": count, "items_rejected": 0}


def _show_errors(shown: Shown, errors: Sequence[Rejection]) -> None:
    if errors:
        shown["errors"] = [item_error(each) for each in errors[:ERRORS_MAX]]
        if len(errors) > ERRORS_MAX:
            shown["errors_truncated"] = True


def _shown(*, job_id: str, status: str, received: int | None, created_at: datetime) -> Shown:
    return {
        "job_id": job_id,
        "status": status,
        "items_received": received,
        "items_accepted": None,
        "items_rejected": None,
        "errors": None,
        "created_at": format_instant(created_at),
        "finished_at": None,
    }


def failure(*, code: str, message: str) -> Shown:
    """Show why a whole job could not be carried through."""
    return {
        "index": None,
        "code": code,
        "param": None,
        "message": message,
        "machine_data_point_config_id": None,
        "timestamp": None,
    }


def item_error(rejection: Rejection) -> Shown:
    """Show why one item was rejected: its first problem (all of them are in the job's records)."""
    problem = rejection.problems[0]
    index = rejection.record_index
    sent = identifying(rejection.raw)
    return {
        "index": index,
        "code": code_of(problem),
        "param": param_of(index, problem),
        "message": problem.message,
        "machine_data_point_config_id": sent.get("machine_data_point_config_id"),
        "timestamp": sent.get("timestamp"),
    }


def code_of(problem: Problem) -> str:
    """Tell a problem in the codes of items.

    >>> code_of(Problem(code="too_deep", field=None, message=""))
    'not_an_object'
    """
    return problem.code if problem.code in ITEM_CODES else Code.NOT_AN_OBJECT.value


def param_of(index: int, problem: Problem) -> str:
    """Name the place of a problem.

    >>> param_of(17, Problem(code="invalid_type", field="value", message=""))
    'items[17].value'
    """
    return f"{ITEMS}[{index}]" if problem.field is None else f"{ITEMS}[{index}].{problem.field}"


def identifying(raw: bytes) -> dict[str, str]:
    """Read from a rejected item whatever of its identity can be read."""
    try:
        members = _SCALARS.decode(raw)
    except _DECODE_ERRORS:
        return {}
    found: dict[str, str] = {}
    for name in ("machine_data_point_config_id", "timestamp"):
        try:
            found[name] = msgspec.json.decode(members[name], type=str)[:_ECHO_LENGTH_MAX]
        except (KeyError, *_DECODE_ERRORS):
            continue
    return found


def split_items(body: bytes) -> list[bytes]:
    """Cut a JSON body into its items' bytes.

    Raises Malformed if it is no JSON, Unprocessable if it is JSON of another shape or without items.
    """
    try:
        items = split_document(body, ITEMS)
    except Unreadable as unreadable:
        raise _refusal_of(body, unreadable) from None
    if not body.removeprefix(BOM).lstrip(_BLANKS).startswith(b"{"):
        raise wrong_shape("The body must be an object with items, not an array.", code="invalid_type")
    if not items:
        raise wrong_shape("items must have at least one item.", code="empty")
    return items


def wrong_shape(message: str, *, code: str) -> Unprocessable:
    """Word the refusal of a body whose items can't even be counted."""
    return Unprocessable(message, code=code, param=ITEMS)


def _refusal_of(body: bytes, unreadable: Unreadable) -> Refusal:
    if unreadable.code == "too_deep":
        # Whether it is JSON at all was not found out.
        return Malformed(str(unreadable), code=unreadable.code)
    if unreadable.code != "invalid_json":
        return Unprocessable(str(unreadable), code=unreadable.code)
    body = body.removeprefix(BOM)
    try:
        whole = _is_json(body)
    except _DECODE_ERRORS:
        return Malformed(str(unreadable), code="invalid_json")
    if not bytes(whole).lstrip(_BLANKS).startswith(b"{"):
        return wrong_shape("The body must be an object with items.", code="invalid_type")
    if ITEMS in _SCALARS.decode(body):
        return wrong_shape("items must be a list.", code="invalid_type")
    return wrong_shape("items is missing.", code="missing_field")


def require_good(verdict: Verdict) -> None:
    """Raise Unprocessable, with one detail for each bad item, unless all items of a batch are good."""
    if verdict.unreadable is not None:
        raise Unprocessable(str(verdict.unreadable), code=verdict.unreadable.code)
    if not verdict.rejections:
        return
    details = [
        Detail(
            code=code_of(each.problems[0]),
            message=each.problems[0].message,
            param=param_of(each.record_index, each.problems[0]),
        )
        for each in verdict.rejections
    ]
    count = len(details)
    message = f"{count} {'item is' if count == 1 else 'items are'} invalid; nothing was stored."
    raise Unprocessable(message, code="invalid_items", param=details[0].param, details=details)


def item_schema() -> Mapping[str, object]:
    """Describe an item, as follows from the contract."""
    kinds = {"timestamp": {"type": "string", "format": "date-time"}}
    properties = {
        field.name: {
            **kinds.get(field.kind.value, {"type": field.kind.value}),
            "description": field.description,
            "examples": [field.example],
        }
        for field in CONTRACT.fields
    }
    return {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in CONTRACT.fields if field.required],
        "additionalProperties": CONTRACT.extra_allowed,
    }


EXAMPLE_ITEM = {field.name: field.example for field in CONTRACT.fields}
