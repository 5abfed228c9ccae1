"""What the routes that read issues promise, as data: scopes, parameters, schemas. The handlers are elsewhere."""

from collections.abc import Mapping

from ingest_platform.api.lists import CURSOR, limit_parameter, list_schema
from ingest_platform.api.replies import JSON
from ingest_platform.api.route import Access, ApiRoute, Content, Handler, Parameter, Schema, json_answer
from ingest_platform.domain.contract import Contract
from ingest_platform.domain.errors import NotFound
from ingest_platform.domain.outcome import Outcome
from ingest_platform.feeds.issues import FEED, wire
from ingest_platform.feeds.issues.contract import (
    SEVERITIES,
    SOURCE_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX,
    WORD_CHARACTERS_MAX,
)
from ingest_platform.feeds.issues.listing import SORTS
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.references import SOURCES
from ingest_platform.feeds.issues.statuses import Status

TAG = "Issues"
ROOT = "/v1/issues"
READ = Access(scopes=("issues:read",))
WRITE = Access(scopes=(FEED.write_scope,))
PAGE, PAGE_MAX = 25, 100
CHANGE_BYTES_MAX = 64 * 1024

_TEXT: Schema = {"type": "string"}
_NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_NULLABLE_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}
_STATUS: Schema = {"enum": [status.value for status in Status]}


def _object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


ISSUE = _object(
    {
        "id": _TEXT,
        "title": _TEXT,
        "body": _NULLABLE_TEXT,
        "status": {**_STATUS, "description": "Where people say that the work on it stands; `open` at first."},
        "severity": {"enum": list(SEVERITIES)},
        "severity_name": {"enum": list(SEVERITIES.values())},
        "source": {"enum": list(SOURCES)},
        "source_raw": {"type": "string", "description": "The source as it was sent."},
        "external_id": _TEXT,
        "external_url": _NULLABLE_TEXT,
        "team": _NULLABLE_TEXT,
        "metadata": {"type": ["object", "null"], "description": "As it was sent."},
        "connector_id": _NULLABLE_TEXT,
        "pattern_id": {"type": ["string", "null"], "description": "Null while it is pending and has no pattern yet."},
        "occurrences": {"type": "integer", "minimum": 1, "description": "Records that were accepted and not stale."},
        "source_created_at": _NULLABLE_INSTANT,
        "source_updated_at": _NULLABLE_INSTANT,
        "created_at": _INSTANT,
        "updated_at": {**_INSTANT, "description": "When a record or a change of the status last changed it."},
        "first_seen_at": {**_INSTANT, "description": "When the first of its records was accepted."},
        "last_seen_at": {**_INSTANT, "description": "When the last of its records that was not stale was accepted."},
        "pending": {"type": "boolean", "description": "Something that was sent of it has not been stored yet."},
    }
)
_GIVEN = _object(
    {
        "source": _TEXT,
        "external_id": _TEXT,
        "title": _TEXT,
        "body": _TEXT,
        "severity": {"enum": list(SEVERITIES)},
        "team": _TEXT,
        "external_url": _TEXT,
        "source_created_at": _INSTANT,
        "source_updated_at": _INSTANT,
        "connector_id": _TEXT,
        "metadata": {"type": "object"},
    },
    optional=TABLE.given,
)
_RECORD_ENTRY = _object(
    {
        "kind": {"const": "record"},
        "at": {**_INSTANT, "description": "When it was accepted."},
        "job_id": _TEXT,
        "record_index": {"type": "integer", "minimum": 0},
        "record_id": _TEXT,
        "outcome": {
            "enum": [*(outcome.word for outcome in Outcome), None],
            "description": "What became of it; null for a moment before its job has ended.",
        },
        "given": {**_GIVEN, "description": "The fields that it gave."},
    }
)
_STATUS_ENTRY = _object(
    {
        "kind": {"const": "status"},
        "at": _INSTANT,
        "from": _STATUS,
        "to": _STATUS,
        "by": {"type": "string", "description": "The id of the key that was shown."},
    }
)
_EXAMPLE_ID = "iss_9mb2nwn2gzssebqfbgn13qndh1"
_EXAMPLE: Mapping[str, object] = {
    "id": _EXAMPLE_ID,
    "title": "Checkout times out after 30 s",
    "body": "POST /checkout answered 504 in 12 of 40 attempts.",
    "status": "open",
    "severity": "p2",
    "severity_name": "high",
    "source": "jira",
    "source_raw": "Jira",
    "external_id": "CHECKOUT-123",
    "external_url": "https://jira.example.com/browse/CHECKOUT-123",
    "team": "payments",
    "metadata": {"labels": ["checkout"], "attempts": 40},
    "connector_id": None,
    "pattern_id": None,
    "occurrences": 1,
    "source_created_at": "2026-05-06T10:15:00.000Z",
    "source_updated_at": "2026-05-06T10:20:00.000Z",
    "created_at": "2026-05-06T10:20:01.441Z",
    "updated_at": "2026-05-06T10:20:01.441Z",
    "first_seen_at": "2026-05-06T10:20:01.441Z",
    "last_seen_at": "2026-05-06T10:20:01.441Z",
    "pending": True,
}
# No pattern: whatever is no issue's id is answered as one that is nobody's.
_ISSUE_ID = Parameter(
    name="issue_id", where="path", schema=_TEXT, description="The issue's id.", required=True, example=_EXAMPLE_ID
)


def declare_reading(
    *, get_issue: Handler, change_issue: Handler, list_issues: Handler, list_history: Handler, change: Contract
) -> list[ApiRoute]:
    """Declare the routes; `change` says what may be changed of an issue."""
    return [_list(list_issues), _get(get_issue), _change(change_issue, change), _history(list_history)]


def _word(name: str, description: str, *, length_max: int) -> Parameter:
    return Parameter(
        name=name, schema={"type": "string", "minLength": 1, "maxLength": length_max}, description=description
    )


def _choice(name: str, choices: list[str], description: str) -> Parameter:
    return Parameter(name=name, schema={"type": "string", "enum": choices}, description=description)


_FILTERS = (
    _choice("status", [status.value for status in Status], "Only issues of this status."),
    _choice("severity", [*SEVERITIES, *SEVERITIES.values()], "Only issues of this severity, in either spelling."),
    _word(
        "source",
        f"Only issues of this source: one that is known ({', '.join(SOURCES)}; the last one for all others together), "
        "or one as it was sent, whatever its case.",
        length_max=SOURCE_CHARACTERS_MAX,
    ),
    _word("team", "Only issues of this team, as it was sent.", length_max=WORD_CHARACTERS_MAX),
    _word("pattern_id", "Only issues of this pattern.", length_max=WORD_CHARACTERS_MAX),
    _word("q", "Only issues with this text in title or body, whatever its case.", length_max=TITLE_CHARACTERS_MAX),
    Parameter(
        name="sort",
        schema={"type": "string", "enum": list(SORTS), "default": "-created_at"},
        description="The order; `-` begins with the greatest, the latest, or the least severe (p4).",
    ),
    limit_parameter(default=PAGE, most=PAGE_MAX),
    CURSOR,
)


def _list(handler: Handler) -> ApiRoute:
    return ApiRoute(
        method="GET",
        path=ROOT,
        handler=handler,
        operation_id="list_issues",
        tag=TAG,
        summary="List issues",
        description=(
            "Issues that are stored; one that was accepted just now is listed as soon as its job has ended, and can be "
            "read by its id at once. Pages are stable while issues are added: none is shown twice, none is left out."
        ),
        access=READ,
        parameters=_FILTERS,
        answers={200: json_answer("A page of issues.", list_schema(ISSUE))},
    )


def _get(handler: Handler) -> ApiRoute:
    return ApiRoute(
        method="GET",
        path=f"{ROOT}/{{issue_id}}",
        handler=handler,
        operation_id="get_issue",
        tag=TAG,
        summary="Show an issue",
        description=(
            "At once after it was accepted: what was sent and is not stored yet is shown as it will be, with `pending: "
            "true`. (Records of dropped files are shown once they are stored.)"
        ),
        access=READ,
        parameters=(_ISSUE_ID,),
        answers={200: json_answer("The issue.", ISSUE, example=_EXAMPLE)},
        refusals=(NotFound,),
    )


def _change(handler: Handler, change: Contract) -> ApiRoute:
    schema = wire.record_schema(change)
    return ApiRoute(
        method="PATCH",
        path=f"{ROOT}/{{issue_id}}",
        handler=handler,
        operation_id="change_issue",
        tag=TAG,
        summary="Set an issue's status",
        description=(
            "It is durable, and seen at once by whoever reads the issue or lists by status. Every change is kept in "
            "the issue's history; setting the status that it has already changes nothing. A new record of the issue "
            "leaves its status as it is."
        ),
        access=WRITE,
        parameters=(_ISSUE_ID,),
        bodies={JSON: Content(schema=schema, example={"status": "in_progress"}, bytes_max=CHANGE_BYTES_MAX)},
        answers={200: json_answer("The issue as it is now.", ISSUE, example={**_EXAMPLE, "status": "in_progress"})},
        refusals=(NotFound,),
    )


def _history(handler: Handler) -> ApiRoute:
    return ApiRoute(
        method="GET",
        path=f"{ROOT}/{{issue_id}}/history",
        handler=handler,
        operation_id="list_issue_history",
        tag=TAG,
        summary="List what was said of an issue and done about it, the latest first",
        description="Each accepted record, with the fields that it gave, once it is stored; each change of the status.",
        access=READ,
        parameters=(_ISSUE_ID, limit_parameter(default=PAGE, most=PAGE_MAX), CURSOR),
        answers={200: json_answer("A page.", list_schema({"oneOf": [_RECORD_ENTRY, _STATUS_ENTRY]}))},
        refusals=(NotFound,),
    )
