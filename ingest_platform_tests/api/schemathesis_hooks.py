"""What no schema can tell Schemathesis of our API: which ids exist, how a webhook is signed, what a text can't show.

Schemathesis loads it in its own process (SCHEMATHESIS_HOOKS). What is tried, and for how long: `test_truth.py`; what
there is before it begins: `known.py`.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import count, cycle
from pathlib import Path
from typing import Any

import msgspec
import requests
import schemathesis
from schemathesis.core import Body
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData
from schemathesis.transport.serialization import serialize_binary

from ingest_platform.api.jobs import WAIT_SECONDS_MAX as LONGEST_WAIT_SECONDS
from ingest_platform.pipeline.signature import HUB_SIGNATURE_HEADER, SIGNATURE_HEADER, sign
from ingest_platform_tests.api.known import DATASET_RECORD, FILE, Known
from ingest_platform_tests.feeds.issues.connectors import payloads

# A cursor is signed, `from` is not after `to`, a key is used for one body, a declaration is YAML: none of it is a
# property of a text. A CSV, which is no JSON value and so has no schema, is not empty.
BEYOND_A_SCHEMA = frozenset({"invalid_cursor", "invalid_range", "idempotency_key_reused", "empty", "wrongly_declared"})
# The same in the words of issues, which name the field in `details`.
FIELDS_BEYOND_A_SCHEMA = frozenset({"cursor"})
# Nor is that a data point is registered, and that its factor leaves a value finite.
ITEMS_BEYOND_A_SCHEMA = frozenset({"not_found", "not_finite"})
# A long poll is answered when the job ends, which under load is as late as the poll allows; nothing is learnt by that.
WAIT_SECONDS_MAX = 1
# Of an issue: that a number fits a double or a 64-bit integer, wherever in it the number is.
MESSAGE_BEYOND_A_SCHEMA = "A number"
INBOUND = "POST /v1/webhooks/inbound/{connector_id}"
# Of datasets, which have no codes: that names differ in more than case and are not reserved, that the ids in path and
# header agree, and what is said above.
TEXTS_BEYOND_A_SCHEMA = ("Invalid field name", "Invalid dataset ID", "The cursor", "This Idempotency-Key")
# Of streams: what is said above, and that a filter is a rule, such as this one.
STREAM_ERRORS_BEYOND_A_SCHEMA = BEYOND_A_SCHEMA | {"invalid_filter"}
STREAM_DETAILS_BEYOND_A_SCHEMA = ("A number", "only numbers that fit", "from must be before to")
FILTER = 'event.level == "ERROR"'
QUERY = "POST /api/datasets/{project}/{id}/query"
FILES = ("application/x-ndjson", "text/csv", "application/vnd.apache.parquet")

KEY_CHARACTERS_MAX = 255

_tried: set[str] = set()
_numbers = count()


@schemathesis.serializer(*FILES)
def as_it_is(_: schemathesis.SerializationContext, value: Body) -> bytes:
    """Send text and bytes as a file's content."""
    return serialize_binary(value)


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]) -> None:
    """Shorten a wait that is allowed, speak of what there is, and sign as a tool does."""
    wait = str((case.query or {}).get("wait", ""))
    # One that is not allowed is sent as it is.
    if wait.isascii() and wait.isdigit() and WAIT_SECONDS_MAX < int(wait) <= LONGEST_WAIT_SECONDS:
        case.query["wait"] = WAIT_SECONDS_MAX
    _put_known(case)
    _be_first(case)
    if case.operation.label == INBOUND and not {SIGNATURE_HEADER, HUB_SIGNATURE_HEADER} & set(case.headers or {}):
        # What it makes up as a signature is refused, which is to be tried, too.
        kwargs["auth"] = _signed
        if isinstance(case.body, dict) and not _is_wrong(case, ParameterLocation.BODY):
            case.body = {**payloads.JIRA, **case.body}


def _signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    body = request.body or b""
    request.headers[SIGNATURE_HEADER] = sign(_known().secret, body.encode() if isinstance(body, str) else body)
    return request


def _put_known(case: schemathesis.Case) -> None:
    """Replace ids that are made up by some that exist, where an id of that form is allowed."""
    operation = case.operation.definition.raw.get("operationId", "")
    for name in _known().in_header.get(operation, {}):
        if name in (case.headers or {}) and not _is_wrong(case, ParameterLocation.HEADER):
            case.headers[name] = _next("in_header", operation, name)
    if "filter" in (case.query or {}) and not _is_wrong(case, ParameterLocation.QUERY):
        case.query["filter"] = FILTER
    for name in _known().in_path.get(operation, {}):
        if name in case.path_parameters and not _is_wrong(case, ParameterLocation.PATH):
            case.path_parameters[name] = _next("in_path", operation, name)
    if operation.startswith("send_record") and not _is_wrong(case, ParameterLocation.BODY):
        case.body = _records(case.body)
    body = case.body
    if not isinstance(body, dict) or _is_wrong(case, ParameterLocation.BODY):
        return
    for name in _known().in_body.get(operation, {}):
        given = body.get(name)
        if given:
            # As many as were given: what may be done once with each is not used up by one list.
            fresh = _next("in_body", operation, name)
            case.body = {**body, name: [fresh] * len(given) if isinstance(given, list) else fresh}


def _be_first(case: schemathesis.Case) -> None:
    """Ask for the first page, and with a key that no other body was sent with: those that it makes up are few."""
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    if case.meta.phase.name is TestPhase.COVERAGE and "cursor" in (case.query or {}):
        del case.query["cursor"]
    if "Idempotency-Key" in (case.headers or {}):
        ending = str(next(_numbers))
        case.headers["Idempotency-Key"] = case.headers["Idempotency-Key"][: KEY_CHARACTERS_MAX - len(ending)] + ending


def _records(body: Any) -> Any:  # noqa: ANN401
    """Give records the fields that their dataset declares, and no other."""
    if isinstance(body, list):
        return [_records(each) for each in body]
    return {name: body[name] for name in ("timestamp", "context")} | DATASET_RECORD if isinstance(body, dict) else body


def _is_wrong(case: schemathesis.Case, where: ParameterLocation) -> bool:
    return case.meta is not None and case.meta.is_negative_at(where)


@cache
def _known() -> Known:
    return msgspec.json.decode(Path(FILE).read_bytes(), type=Known)


@cache
def _turns(where: str, operation: str, name: str) -> Iterator[str | int]:
    return cycle(getattr(_known(), where)[operation][name])


def _next(where: str, operation: str, name: str) -> str | int:
    return next(_turns(where, operation, name))


@schemathesis.hook
def after_call(_: schemathesis.HookContext, case: schemathesis.Case, response: Response) -> None:
    """Remember the jobs of dry runs, which are shown and never made."""
    if response.status_code == 200 and case.method == "POST" and "job_id" in response.json():
        _tried.add(response.json()["job_id"])


@schemathesis.hook
def filter_failure(_: schemathesis.HookContext, failure: Failure, case: schemathesis.Case, response: Response) -> bool:
    """Keep every failure but those that say no more than that a schema is not all there is to know."""
    if isinstance(failure, EnsureResourceAvailability):
        return case.path_parameters.get("job_id") not in _tried
    if isinstance(failure, AcceptedNegativeData):
        # It follows a link of its own with a body that it made to fit, and forgets that it did.
        return "positive test case" not in failure.message
    if not isinstance(failure, RejectedPositiveData) or response.status_code not in {400, 422}:
        return True
    # A payload is the tool's, of which there is no schema; nor is there one of which fields a dataset has.
    if case.operation.label in {INBOUND, QUERY}:
        return False
    answer = response.json()
    if "detail" in answer:
        # A text of lines is not known to be of JSON.
        words = any(each in answer["detail"] for each in STREAM_DETAILS_BEYOND_A_SCHEMA)
        return not words and answer["error"] not in STREAM_ERRORS_BEYOND_A_SCHEMA and case.media_type != FILES[0]
    return not _is_beyond_a_schema(answer["error"])


def _is_beyond_a_schema(error: str | Mapping[str, Any]) -> bool:
    if isinstance(error, str):
        return error.startswith(TEXTS_BEYOND_A_SCHEMA)
    if error["code"] == "invalid_items":
        return ITEMS_BEYOND_A_SCHEMA.issuperset(detail["code"] for detail in error["details"])
    fields = error.get("details")
    if isinstance(fields, dict) and fields and FIELDS_BEYOND_A_SCHEMA.issuperset(fields):
        return True
    return error["code"] in BEYOND_A_SCHEMA or error["message"].startswith(MESSAGE_BEYOND_A_SCHEMA)
