"""What the ingest routes promise, as data: scopes, limits, schemas, descriptions. The handlers are elsewhere."""

from collections.abc import Mapping

from ingest_platform.api.replies import JSON
from ingest_platform.api.route import Access, Answer, ApiRoute, Content, Handler, Parameter, Schema, json_answer
from ingest_platform.domain.errors import NotFound
from ingest_platform.feeds.issues import FEED, wire
from ingest_platform.feeds.issues.door import EVENT_CONTRACT, SOURCED_CONTRACT
from ingest_platform.feeds.issues.sources import SOURCES, Source
from ingest_platform.pipeline.admit import RateRule

TAG = "Issues"
ROOT = "/v1/ingest"
WRITE = Access(scopes=(FEED.write_scope,))
# Whoever may send may see what became of it.
READ_STATUS = Access(scopes=(FEED.write_scope, "jobs:read"))
RATE = RateRule(name=FEED.name, per_minute=FEED.rate_per_minute)

_ISSUE_ID = "iss_9mb2nwn2gzssebqfbgn13qndh1"
_JOB_ID = "ing_job_01kqzcjrpyf27tge33jwvjhkff"
_DEDUPE = """\
**Which issue it is.** The workspace, the source as sent (trimmed and lower-cased) and the external id identify an
issue; `issue_id` is a function of the three, so it is known at once and the same for ever. Two unknown tools never
overwrite each other, although both are shown as `custom_api`.

**Merge.** A first record creates the issue. A later one updates it: fields that it gives replace, fields that it omits
(or gives as null) stay, `created_at` stays, `updated_at` and `occurrences` move. Two in one batch are one issue: both
are accepted, in their order. The order of *acceptance* decides, not the order of processing.

**Stale.** A record whose `source_updated_at` is older than the stored one overwrites nothing. It is counted as
accepted, with the outcome `stale`."""

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_NULLABLE_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}


def _object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


_REJECTION = _object(
    {
        "index": {"type": "integer", "minimum": 0, "description": "Of the record in the batch, from 0."},
        "code": {"const": wire.REJECTED},
        "message": _TEXT,
        "reason_code": {"type": "string", "description": "Closed and for programs, such as `missing_field`."},
        "field": {"type": ["string", "null"], "description": "Null if it concerns the record as a whole."},
    }
)
_DRY_RUN_MARK: Schema = {"const": True, "description": "Only in a dry run."}
_RECORD_REPLY = _object(
    {
        "accepted": {"const": 1},
        "rejected": {"type": "array", "maxItems": 0},
        "issue_id": {
            "type": ["string", "null"],
            "description": "Null only in a dry run without an external id, which is made when it is taken.",
        },
        "job_id": {"type": ["string", "null"], "description": "Null only in a dry run."},
        "dry_run": _DRY_RUN_MARK,
    },
    optional=("dry_run",),
)
_BATCH_REPLY = _object(
    {
        "accepted": _COUNT,
        "rejected": {"type": "array", "items": _REJECTION, "maxItems": wire.BATCH_RECORDS_MAX},
        "job_id": {"type": ["string", "null"], "description": "Null only in a dry run."},
        "issue_ids": {"type": "array", "items": _TEXT, "description": "In the order of the accepted records."},
        "dry_run": _DRY_RUN_MARK,
    },
    optional=("dry_run",),
)
_STATUS = _object(
    {
        "job_id": _TEXT,
        "status": {"enum": list(wire.STATUSES)},
        "progress": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "It never falls, and is 1.0 exactly when the job has ended.",
        },
        "result": {
            "oneOf": [
                {"type": "null"},
                _object({"accepted": _COUNT, "rejected_count": _COUNT, "total": _COUNT}),
            ],
            "description": "Null until the job has ended; then the counts of the reply to the POST.",
        },
        "created_at": _INSTANT,
        "finished_at": _NULLABLE_INSTANT,
        "error": _object({"code": _TEXT, "message": _TEXT}),
    },
    optional=("error",),
)
_EXAMPLE_RECORD_REPLY = {"accepted": 1, "rejected": [], "issue_id": _ISSUE_ID, "job_id": _JOB_ID}
_EXAMPLE_BATCH_REPLY = {
    "accepted": 1,
    "rejected": [
        {
            "index": 1,
            "code": wire.REJECTED,
            "message": "title is required",
            "reason_code": "missing_field",
            "field": "title",
        }
    ],
    "job_id": _JOB_ID,
    "issue_ids": [_ISSUE_ID],
}
_EXAMPLE_STATUS = {
    "job_id": _JOB_ID,
    "status": "succeeded",
    "progress": 1.0,
    "result": {"accepted": 2, "rejected_count": 0, "total": 2},
    "created_at": "2026-05-06T10:15:32.441Z",
    "finished_at": "2026-05-06T10:15:33.107Z",
}
DRY_RUN = Parameter(
    name="dry_run",
    schema={"type": "boolean", "default": False},
    description=(
        "Check everything and store nothing: answered with 200 and `dry_run: true`, without a job. An Idempotency-Key "
        "is not used up."
    ),
)
_STATUS_JOB_ID = Parameter(
    name="job_id", where="path", schema=_TEXT, description="The `job_id` of a reply.", required=True, example=_JOB_ID
)
_STATUS_HEADER = "Where the status of the job is shown."


def declare_ingest(
    *,
    send_event: Handler,
    send_batch: Handler,
    senders: Mapping[str, Handler],
    show_status: Handler,
    body_bytes_max: int,
) -> list[ApiRoute]:
    """Declare the routes, with their limits; `senders` are the handlers of the sources' own routes by source."""
    return [
        _event(send_event, body_bytes_max),
        _batch(send_batch, body_bytes_max),
        *(_sourced(SOURCES[name], sender, body_bytes_max) for name, sender in senders.items()),
        _status(show_status),
    ]


def _event(handler: Handler, body_bytes_max: int) -> ApiRoute:
    # The contract lets them be blank here, and with that goes its pattern.
    text = {"pattern": wire.WITHOUT_NUL_PATTERN}
    record = wire.record_schema(EVENT_CONTRACT, source={**text, "default": "custom_api"}, external_id=text)
    said = {"type": "string", "pattern": wire.NOT_BLANK_PATTERN}
    named = [{"properties": {name: said}, "required": [name]} for name in ("title", "external_id")]
    schema = {**record, "anyOf": named}
    example = {"source": "custom_api", "external_id": "db-3-disk", "title": "Disk of db-3 is 95 % full"}
    description = (
        "At least one of `title` and `external_id` is needed. A title that is left out is the external id; an external "
        "id that is left out is made up (`evt-…`), so each such event is an issue of its own. A record that fails is "
        "answered with 400, a message for each field in `details`, and nothing is stored.\n\n" + _DEDUPE
    )
    return ApiRoute(
        method="POST",
        path=f"{ROOT}/events",
        handler=handler,
        operation_id="send_event",
        tag=TAG,
        summary="Send one raw signal",
        description=description,
        access=WRITE,
        rate=RATE,
        parameters=(DRY_RUN,),
        bodies={JSON: Content(schema=schema, example=example, bytes_max=body_bytes_max)},
        answers=_record_answers(),
    )


def _record_answers() -> Mapping[int, Answer]:
    reply = _RECORD_REPLY
    return {
        200: json_answer("A dry run: what would be answered.", reply),
        202: json_answer("Taken durably.", reply, example=_EXAMPLE_RECORD_REPLY, Location=_STATUS_HEADER),
    }


def _batch(handler: Handler, body_bytes_max: int) -> ApiRoute:
    # None that is wrong makes the request wrong, so anything fits.
    other: Schema = {"description": "Anything else is taken too, and rejected by itself."}
    records: Schema = {
        "type": "array",
        "minItems": 1,
        "maxItems": wire.BATCH_RECORDS_MAX,
        "items": {"anyOf": [wire.record_schema(), other]},
    }
    schema = {"type": "object", "properties": {wire.RECORDS: records}, "required": [wire.RECORDS]}
    description = (
        f"1 to {wire.BATCH_RECORDS_MAX} records, each on its own: one that is wrong is listed in `rejected` with its "
        "first problem (all of them are under `/v1/jobs/{job_id}/records`) and touches no neighbour. A batch of which "
        "none is accepted is taken too; its job ends `failed`.\n\n" + _DEDUPE
    )
    return ApiRoute(
        method="POST",
        path=f"{ROOT}/batch",
        handler=handler,
        operation_id="send_issues",
        tag=TAG,
        summary=f"Send up to {wire.BATCH_RECORDS_MAX} issues",
        description=description,
        access=WRITE,
        rate=RATE,
        parameters=(DRY_RUN,),
        bodies={
            JSON: Content(schema=schema, example={wire.RECORDS: [wire.EXAMPLE_RECORD]}, bytes_max=body_bytes_max),
        },
        answers={
            200: json_answer("A dry run: what would be answered.", _BATCH_REPLY),
            202: json_answer("Taken durably.", _BATCH_REPLY, example=_EXAMPLE_BATCH_REPLY, Location=_STATUS_HEADER),
        },
    )


def _sourced_schema(source: Source) -> Schema:
    form: Schema = {"description": source.requirement, "examples": [source.example["external_id"]]}
    if source.schema_pattern is not None:
        form = {**form, "pattern": source.schema_pattern}
    said: Schema = {
        "enum": [source.name, None],
        "description": f"`{source.name}` or nothing: the path says it.",
        "examples": [source.name],
    }
    schema = wire.record_schema(SOURCED_CONTRACT, external_id=form, source=said)
    if source.url_id_pattern is None:
        return schema
    alone: Schema = {"properties": {"external_id": {"pattern": f"^(?:{source.id_pattern})$"}}}
    with_url: Schema = {"properties": {"external_url": {"type": "string"}}, "required": ["external_url"]}
    return {**schema, "anyOf": [alone, with_url]}


def _sourced(source: Source, handler: Handler, body_bytes_max: int) -> ApiRoute:
    description = (
        f"One record whose source is `{source.name}`; another one in the body is refused. {source.requirement}\n\n"
        "A record that fails is answered with 400, a message for each field in `details`, and nothing is stored.\n\n"
        + _DEDUPE
    )
    return ApiRoute(
        method="POST",
        path=f"{ROOT}/{source.name}/issues",
        handler=handler,
        operation_id=f"send_{source.name}_issue",
        tag=TAG,
        summary=f"Send an issue of {source.title}",
        description=description,
        access=WRITE,
        rate=RATE,
        parameters=(DRY_RUN,),
        bodies={JSON: Content(schema=_sourced_schema(source), example=source.example, bytes_max=body_bytes_max)},
        answers=_record_answers(),
    )


def _status(handler: Handler) -> ApiRoute:
    return ApiRoute(
        method="GET",
        path=f"{ROOT}/status/{{job_id}}",
        handler=handler,
        operation_id="get_ingest_status",
        tag=TAG,
        summary="Show how far a submission is",
        description=(
            "`pending`, `running`, then `succeeded` (nothing rejected), `partial`, or `failed` (nothing accepted). A "
            "job that could not be carried through is `failed` too, with an `error`. What became of each record is "
            "under `/v1/jobs/{job_id}/records`."
        ),
        access=READ_STATUS,
        parameters=(_STATUS_JOB_ID,),
        answers={200: json_answer("The status.", _STATUS, example=_EXAMPLE_STATUS)},
        refusals=(NotFound,),
    )
