"""What the ways in for records promise, as data: paths, limits, schemas, descriptions. The handlers: `ingesting.py`."""

from collections.abc import Mapping

from ingest_platform.api.replies import JSON
from ingest_platform.api.route import Access, Answer, ApiRoute, Content, Handler, Parameter, Schema, json_answer
from ingest_platform.domain.errors import Malformed, NotFound, QuotaExceeded
from ingest_platform.feeds.datasets import FEED, wire
from ingest_platform.feeds.datasets.registry import ID_PATTERN
from ingest_platform.pipeline.admit import RateRule

TAG = "Datasets"
ROOT = "/datasets"
WRITE = Access(scopes=(FEED.write_scope,))
RATE = RateRule(name=FEED.name, per_minute=FEED.rate_per_minute)
ABORT, CONTINUE = "abort", "continue"
DATASET_ID_HEADER = "X-Loguro-Dataset-Id"

_ID: Schema = {
    "type": "string",
    # Said in this way, it is no reason to refuse before the key was asked for its project.
    "allOf": [{"pattern": ID_PATTERN}],
}
_DATASET_ID = Parameter(
    name="dataset_id",
    where="path",
    schema=_ID,
    description=(
        "The dataset's id, a positive integer; a dataset of the key's project. An `X-Loguro-Dataset-Id` that is sent "
        "beside it must agree."
    ),
    required=True,
    example="13",
)
_HEADER = Parameter(
    name=DATASET_ID_HEADER,
    where="header",
    schema=_ID,
    description="The dataset's id, a positive integer; a dataset of the key's project.",
    example="13",
)
_DRY_RUN = Parameter(
    name="dry_run",
    schema={"type": "boolean", "default": False},
    description=(
        "Check everything and store nothing: answered with 200, what would be answered and `dry_run: true`. It takes "
        "nothing of the quota, and an Idempotency-Key is not used up."
    ),
)
_ON_ERROR = Parameter(
    name="on_error",
    schema={"type": "string", "enum": [ABORT, CONTINUE], "default": ABORT},
    description=(
        f"`{ABORT}`: one bad record and nothing is taken. `{CONTINUE}`: the good ones are taken, and each of the "
        "others is told in `rejected` with the first thing that is wrong with it."
    ),
)
_EXAMPLE = {field.name: field.example for field in FEED.contract.fields}
_RECORD: Schema = {
    "type": "object",
    "description": "Besides these, every field that the dataset's schema declares, and no other. Nothing is coerced.",
    "properties": {
        "timestamp": {"type": "string", "format": "date-time", "description": "RFC 3339 with seconds and a zone."},
        "context": {"type": "object", "description": "Whatever else belongs to it; stored as it is."},
    },
    "required": ["timestamp", "context"],
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_DESCRIPTION = """\
The record is held to the dataset's schema before it is taken: `timestamp` and `context`, every declared field and no
other, each of its type. Nothing is coerced: `"12.5"` is no number, `1` no boolean, a date alone no timestamp, `null` is
always the wrong type, and so is an integer beyond ±2^53 in a number field. `error` is the first failure, `errors` has
all of them.

The `X-Request-Id` of the request is stored with each record as `__traceId`. Records count against the workspace's quota
of the month, by UTC; rejected ones do not. What became of them is shown at the `Location`."""
_DEFAULT = "\n\nThe dataset is the one in `X-Loguro-Dataset-Id`, or the default dataset of the key's project."
_BATCH = "\n\nA batch is taken as a whole or not at all, unless `on_error` says otherwise."
_SUCCESS: Mapping[str, Schema] = {
    "success": {"const": True},
    "status": {"const": "queued"},
    "dry_run": {"const": True, "description": "Only in a dry run."},
}
_COUNT: Schema = {"type": "integer", "minimum": 0, "description": "How many records are accepted."}
_LOCATION = "Where the job is shown."


def _reply(more: Mapping[str, Schema], *, required: tuple[str, ...]) -> Schema:
    return {
        "type": "object",
        "properties": {**_SUCCESS, **more},
        "required": ["success", *required, "status"],
        "additionalProperties": False,
    }


_RECORD_REPLY = _reply({}, required=())
_BATCH_REPLY = _reply(
    {
        "count": _COUNT,
        "rejected": {
            "type": "array",
            "maxItems": wire.ERRORS_MAX,
            "items": wire.ERROR_ITEM_SCHEMA,
            "description": f"Only with `on_error={CONTINUE}`: of each bad record the first failure.",
        },
        "rejected_truncated": {"const": True, "description": "There are more bad records than are listed."},
    },
    required=("count",),
)


def _answers(schema: Schema, example: object) -> Mapping[int, Answer]:
    return {
        200: json_answer("A dry run: what would be answered.", schema),
        202: json_answer("Taken durably.", schema, example=example, Location=_LOCATION),
    }


def declare_ingest(*, send_record: Handler, send_batch: Handler, body_bytes_max: int) -> list[ApiRoute]:
    """Declare the routes, with their limit; those without an id in the path speak of the default dataset."""
    path, by_id, by_default = f"{ROOT}/{{dataset_id}}", (_DATASET_ID,), (_HEADER,)
    return [
        _single(send_record, body_bytes_max, ROOT, by_default, suffix="_to_default", more=_DEFAULT),
        _batch(send_batch, body_bytes_max, f"{ROOT}/batch", by_default, suffix="_to_default", more=_DEFAULT),
        _single(send_record, body_bytes_max, path, by_id),
        _batch(send_batch, body_bytes_max, f"{path}/batch", by_id),
    ]


def _single(
    handler: Handler, bytes_max: int, path: str, which: tuple[Parameter, ...], *, suffix: str = "", more: str = ""
) -> ApiRoute:
    return ApiRoute(
        method="POST",
        path=path,
        handler=handler,
        operation_id=f"send_record{suffix}",
        tag=TAG,
        summary="Send one record",
        description=_DESCRIPTION + more,
        access=WRITE,
        rate=RATE,
        parameters=(*which, _DRY_RUN),
        bodies={JSON: Content(schema=_RECORD, example=_EXAMPLE, bytes_max=bytes_max)},
        answers=_answers(_RECORD_REPLY, {"success": True, "status": "queued"}),
        refusals=(Malformed, NotFound, QuotaExceeded),
    )


def _batch(
    handler: Handler, bytes_max: int, path: str, which: tuple[Parameter, ...], *, suffix: str = "", more: str = ""
) -> ApiRoute:
    schema: Schema = {"type": "array", "minItems": 1, "items": _RECORD}
    return ApiRoute(
        method="POST",
        path=path,
        handler=handler,
        operation_id=f"send_records{suffix}",
        tag=TAG,
        summary="Send a batch of records",
        description=_DESCRIPTION + _BATCH + more,
        access=WRITE,
        rate=RATE,
        parameters=(*which, _ON_ERROR, _DRY_RUN),
        bodies={JSON: Content(schema=schema, example=[_EXAMPLE, _EXAMPLE], bytes_max=bytes_max)},
        answers=_answers(_BATCH_REPLY, {"success": True, "count": 2, "status": "queued"}),
        refusals=(Malformed, NotFound, QuotaExceeded),
    )
