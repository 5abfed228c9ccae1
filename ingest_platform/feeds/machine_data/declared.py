"""What the machine-data routes promise, as data: scopes, limits, parameters, schemas. The handlers are elsewhere."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from ingest_platform.api.lists import CURSOR, limit_parameter, list_schema
from ingest_platform.api.replies import JSON
from ingest_platform.api.route import Access, ApiRoute, Content, Parameter, Schema, json_answer
from ingest_platform.api.services import Limits
from ingest_platform.domain.errors import NotFound
from ingest_platform.feeds.machine_data import FEED, wire
from ingest_platform.feeds.machine_data.contract import CONFIG_ID_PATTERN
from ingest_platform.feeds.machine_data.reading import PAGE_MAX, POINTS_PAGE, POINTS_PAGE_MAX, ReadRoutes
from ingest_platform.pipeline.admit import RateRule

if TYPE_CHECKING:
    from ingest_platform.feeds.machine_data.routes import ImportRoutes

TAG = "Machine data"
ROOT = "/v1/machine-data"
ALIASES = ("/tracking/v1/machine-data", "/tracking/v1/v1/machine-data")
WRITE = Access(scopes=(FEED.write_scope,))
READ = Access(scopes=("machine-data:read",))
# Whoever may send may see what became of it.
READ_JOB = Access(scopes=(FEED.write_scope, "machine-data:read", "jobs:read"))
RATE = RateRule(name=FEED.name, per_minute=FEED.rate_per_minute)

_TEXT: Schema = {"type": "string"}
_NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_BINARY: Schema = {"type": "string", "format": "binary", "minLength": 1}
# A body that is no JSON value has no schema of one.
_NO_SCHEMA: Schema = {}
DRY_RUN = Parameter(
    name="dry_run",
    schema={"type": "boolean", "default": False},
    description=(
        "Check everything and store nothing. The reply has `dry_run: true`; an import job is answered with 200 and as "
        "it would end. An Idempotency-Key is not used up."
    ),
)
JOB_ID = Parameter(
    name="job_id",
    where="path",
    schema=_TEXT,
    description="The job's id.",
    required=True,
)


def _object(properties: Mapping[str, Schema], *, required: tuple[str, ...] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


_ERROR = _object(
    {
        "index": {"type": ["integer", "null"], "description": "Of the item, from 0; null for the job as a whole."},
        "code": {
            "type": "string",
            "description": f"Of an item: {', '.join(wire.ITEM_CODES)}. Of a job that failed: why it could not be read.",
        },
        "param": _NULLABLE_TEXT,
        "message": _TEXT,
        "machine_data_point_config_id": _NULLABLE_TEXT,
        "timestamp": _NULLABLE_TEXT,
    }
)
_JOB_PROPERTIES: dict[str, Schema] = {
    "job_id": _TEXT,
    "status": {"enum": ["accepted", "processing", "finished", "failed"]},
    "items_received": _COUNT,
    "items_accepted": _COUNT,
    "items_rejected": _COUNT,
    "errors": {"type": ["array", "null"], "items": _ERROR, "maxItems": wire.ERRORS_MAX},
    "created_at": _INSTANT,
    "finished_at": {"type": ["string", "null"], "format": "date-time"},
}
_EIGHT = tuple(_JOB_PROPERTIES)
JOB = _object(
    {
        **_JOB_PROPERTIES,
        "errors_truncated": {"type": "boolean", "description": "There are more; see `/v1/jobs/{job_id}/records`."},
    },
    required=_EIGHT,
)
TRIED_JOB = _object(
    {**_JOB_PROPERTIES, "errors_truncated": {"type": "boolean"}, "dry_run": {"const": True}},
    required=(*_EIGHT, "dry_run"),
)
BATCH = _object(
    {
        "items_received": {"type": "integer"},
        "items_accepted": {"type": "integer"},
        "items_rejected": {"type": "integer"},
        "dry_run": {"const": True},
    },
    required=("items_received", "items_accepted", "items_rejected"),
)
_EXAMPLE_JOB = {
    "job_id": "job_01kqzcjrpyf27tge33jwvjhkff",
    "status": "accepted",
    "items_received": 1,
    "items_accepted": None,
    "items_rejected": None,
    "errors": None,
    "created_at": "2026-05-06T10:15:32.441Z",
    "finished_at": None,
}
_FILE_TYPES = "application/json, application/x-ndjson, text/csv, application/vnd.apache.parquet"
_NDJSON_EXAMPLE = msgspec.json.encode(wire.EXAMPLE_ITEM).decode() + "\n"
_CSV_EXAMPLE = "\n".join(
    (",".join(wire.EXAMPLE_ITEM), ",".join(str(value) for value in wire.EXAMPLE_ITEM.values()), "")
)
_WORD: Schema = {"type": "string", "maxLength": 200, "minLength": 1}


def declare(imports: "ImportRoutes", reads: ReadRoutes, limits: Limits) -> list[ApiRoute]:
    """Declare the routes, with their limits."""
    return [
        _create_import_job(imports, limits),
        _get_import_job(imports),
        _send_batch(imports, limits),
        _points(reads),
        _configs(reads),
        *_words(reads),
    ]


def _aliases(path: str) -> tuple[str, ...]:
    return tuple(alias + path for alias in ALIASES)


def _items(limits: Limits, items: Schema) -> Content:
    schema = {"type": "object", "properties": {wire.ITEMS: items}, "required": [wire.ITEMS]}
    example = {wire.ITEMS: [wire.EXAMPLE_ITEM]}
    return Content(schema=schema, example=example, bytes_max=limits.body_bytes_max)


def _any_items() -> Schema:
    """Describe items of which each has a verdict of its own: none that is wrong makes the request wrong."""
    other: Schema = {"description": "Anything else is taken too, and rejected by itself: the job tells why."}
    return {"type": "array", "minItems": 1, "items": {"anyOf": [wire.item_schema(), other]}}


def _good_items() -> Schema:
    return {"type": "array", "minItems": 1, "maxItems": wire.BATCH_ITEMS_MAX, "items": wire.item_schema()}


def _create_import_job(imports: "ImportRoutes", limits: Limits) -> ApiRoute:
    upload = limits.upload_bytes_max
    form: Schema = {"type": "object", "properties": {"file": _BINARY}, "required": ["file"]}
    return ApiRoute(
        method="POST",
        path=f"{ROOT}/import-jobs",
        aliases=_aliases("/import-jobs"),
        handler=imports.create_import_job,
        operation_id="create_import_job",
        tag=TAG,
        summary="Send items to be imported",
        description=(
            "Answers as soon as the submission is durable; the job tells what became of each item. An item that is "
            "wrong is rejected with all its reasons and never fails its neighbours. Bodies other than JSON are "
            "streamed, so `items_received` is null until they have been counted. A file's format is told by its name."
        ),
        access=WRITE,
        rate=RATE,
        parameters=(DRY_RUN,),
        bodies={
            JSON: _items(limits, _any_items()),
            "multipart/form-data": Content(schema=form, bytes_max=upload, part_types={"file": _FILE_TYPES}),
            "application/x-ndjson": Content(schema=_BINARY, example=_NDJSON_EXAMPLE, bytes_max=upload),
            "text/csv": Content(schema=_NO_SCHEMA, example=_CSV_EXAMPLE, bytes_max=upload),
            "application/vnd.apache.parquet": Content(schema=_BINARY, bytes_max=upload),
        },
        answers={
            200: json_answer("A dry run: the job as it would end.", TRIED_JOB),
            202: json_answer("Taken durably.", JOB, example=_EXAMPLE_JOB, Location="Where the job is shown."),
        },
    )


def _get_import_job(imports: "ImportRoutes") -> ApiRoute:
    return ApiRoute(
        method="GET",
        path=f"{ROOT}/import-jobs/{{job_id}}",
        aliases=_aliases("/import-jobs/{job_id}"),
        handler=imports.get_import_job,
        operation_id="get_import_job",
        tag=TAG,
        summary="Show an import job",
        description=f"At most {wire.ERRORS_MAX:,} errors are shown; all are under `/v1/jobs/{{job_id}}/records`.",
        access=READ_JOB,
        parameters=(JOB_ID,),
        answers={200: json_answer("The job.", JOB, example=_EXAMPLE_JOB)},
        refusals=(NotFound,),
    )


def _send_batch(imports: "ImportRoutes", limits: Limits) -> ApiRoute:
    return ApiRoute(
        method="POST",
        path=f"{ROOT}/batch",
        aliases=_aliases("/batch"),
        handler=imports.send_batch,
        operation_id="send_batch",
        tag=TAG,
        summary=f"Send up to {wire.BATCH_ITEMS_MAX} items, all or none",
        description=(
            "All items are checked before the answer. 200: all are durable, and readable within seconds. 422: at least "
            "one is bad, `details` has one entry for each, and nothing was stored."
        ),
        access=WRITE,
        rate=RATE,
        parameters=(DRY_RUN,),
        bodies={JSON: _items(limits, _good_items())},
        answers={
            200: json_answer(
                "All items were taken durably.",
                BATCH,
                example={"items_received": 1, "items_accepted": 1, "items_rejected": 0},
            )
        },
    )


def _points(reads: ReadRoutes) -> ApiRoute:
    number: Schema = {"type": "number"}
    point = _object(
        {
            "timestamp": _INSTANT,
            "machine_data_point_config_id": _TEXT,
            "value": number,
            "raw_value": number,
            "config_version": {"type": "integer"},
            "job_id": _TEXT,
        }
    )
    return ApiRoute(
        method="GET",
        path=f"{ROOT}/points",
        aliases=_aliases("/points"),
        handler=reads.list_points,
        operation_id="list_points",
        tag=TAG,
        summary="Read points, by instant",
        description="`value` is the raw value times the factor of the configuration that stood at acceptance.",
        access=READ,
        parameters=(
            Parameter(
                name="config_id",
                schema={"type": "string", "pattern": CONFIG_ID_PATTERN},
                description="Only points of this data point.",
                example=wire.EXAMPLE_ITEM["machine_data_point_config_id"],
            ),
            Parameter(name="from", schema=_INSTANT, description="The earliest instant (inclusive)."),
            Parameter(name="to", schema=_INSTANT, description="The instant before which points are shown."),
            limit_parameter(default=POINTS_PAGE, most=POINTS_PAGE_MAX),
            CURSOR,
        ),
        answers={200: json_answer("A page of points.", list_schema(point))},
    )


def _configs(reads: ReadRoutes) -> ApiRoute:
    config = _object(
        {
            "id": _TEXT,
            "version": {"type": "integer"},
            "site": _TEXT,
            "machine": _TEXT,
            "measurement": _TEXT,
            "unit": _TEXT,
            "factor": {"type": "number"},
        }
    )
    words = tuple(
        Parameter(name=name, description=f"Only data points of this {name}.", schema=_WORD)
        for name in ("site", "machine", "measurement")
    )
    return ApiRoute(
        method="GET",
        path="/v1/machine-data-point-configs",
        handler=reads.list_configs,
        operation_id="list_machine_data_point_configs",
        tag=TAG,
        summary="List the configured data points",
        access=READ,
        parameters=(*words, limit_parameter(default=PAGE_MAX, most=PAGE_MAX), CURSOR),
        answers={200: json_answer("A page of configurations.", list_schema(config))},
    )


def _words(reads: ReadRoutes) -> list[ApiRoute]:
    texts: Schema = {"type": "array", "items": _TEXT}
    whole: Schema = {"type": "integer"}
    machine = _object({"machine": _TEXT, "sites": texts, "measurements": texts, "data_points": whole})
    measurement = _object({"measurement": _TEXT, "sites": texts, "machines": texts, "data_points": whole})
    lists = (
        ("machines", reads.list_machines, "List the machines", machine),
        ("measurements", reads.list_measurements, "List what is measured", measurement),
        ("sites", reads.list_sites, "List the sites", _object({"site": _TEXT})),
    )
    return [
        ApiRoute(
            method="GET",
            path=f"/v1/{name}",
            handler=handler,
            operation_id=f"list_{name}",
            tag=TAG,
            summary=summary,
            description="Only of the sites that the key may see.",
            access=READ,
            parameters=(limit_parameter(default=PAGE_MAX, most=PAGE_MAX), CURSOR),
            answers={200: json_answer("A page.", list_schema(item))},
        )
        for name, handler, summary, item in lists
    ]
