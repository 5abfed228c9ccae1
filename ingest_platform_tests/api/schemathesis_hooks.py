"""What no schema can tell Schemathesis of our API: how bodies that are no JSON are written, and what a text can't show.

Schemathesis loads it in its own process (SCHEMATHESIS_HOOKS). What is tried, and for how long: `test_truth.py`.
"""

from collections.abc import Mapping
from typing import Any

import schemathesis
from schemathesis.core import Body
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData
from schemathesis.transport.serialization import serialize_binary

from ingest_platform.api.jobs import WAIT_SECONDS_MAX as LONGEST_WAIT_SECONDS

# A cursor is signed, `from` is not after `to`, a key is used for one body: none of it is a property of a text. A CSV,
# which is no JSON value and so has no schema, is not empty.
BEYOND_A_SCHEMA = frozenset({"invalid_cursor", "invalid_range", "idempotency_key_reused", "empty"})
# The same in the words of issues, which name the field in `details`.
FIELDS_BEYOND_A_SCHEMA = frozenset({"cursor"})
# Nor is that a data point is registered, and that its factor leaves a value finite.
ITEMS_BEYOND_A_SCHEMA = frozenset({"not_found", "not_finite"})
# A long poll is answered when the job ends, which under load is as late as the poll allows; nothing is learnt by that.
WAIT_SECONDS_MAX = 1
# Of an issue: that a number fits a double or a 64-bit integer, wherever in it the number is.
MESSAGE_BEYOND_A_SCHEMA = "A number"
# Of a dataset's schema: that names differ in more than case and are not reserved; and what is said above, in its words.
TEXTS_BEYOND_A_SCHEMA = ("Invalid field name", "The cursor", "This Idempotency-Key")
FILES = ("application/x-ndjson", "text/csv", "application/vnd.apache.parquet")

_tried: set[str] = set()


@schemathesis.serializer(*FILES)
def as_it_is(_: schemathesis.SerializationContext, value: Body) -> bytes:
    """Send text and bytes as a file's content."""
    return serialize_binary(value)


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]) -> None:  # noqa: ARG001
    """Shorten a wait that is allowed; one that is not is sent as it is."""
    wait = str((case.query or {}).get("wait", ""))
    if wait.isascii() and wait.isdigit() and WAIT_SECONDS_MAX < int(wait) <= LONGEST_WAIT_SECONDS:
        case.query["wait"] = WAIT_SECONDS_MAX


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
    return _is_of_a_schema(response.json()["error"])


def _is_of_a_schema(error: str | Mapping[str, Any]) -> bool:
    """Tell whether a schema could have said that what was sent is wrong."""
    if isinstance(error, str):
        return not error.startswith(TEXTS_BEYOND_A_SCHEMA)
    if error["code"] == "invalid_items":
        return not ITEMS_BEYOND_A_SCHEMA.issuperset(detail["code"] for detail in error["details"])
    fields = error.get("details")
    if isinstance(fields, dict) and FIELDS_BEYOND_A_SCHEMA.issuperset(fields):
        return False
    return error["code"] not in BEYOND_A_SCHEMA and not error["message"].startswith(MESSAGE_BEYOND_A_SCHEMA)
