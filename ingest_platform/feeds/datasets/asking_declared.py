"""What the route that answers questions promises, as data: scope, schemas, examples. The handler is elsewhere."""

from collections.abc import Mapping

from ingest_platform.api.rejected import CSV
from ingest_platform.api.replies import JSON
from ingest_platform.api.route import Answer, ApiRoute, Content, Handler, Schema
from ingest_platform.domain.errors import NotFound
from ingest_platform.feeds.datasets.answers import ARROW
from ingest_platform.feeds.datasets.control import ROOT
from ingest_platform.feeds.datasets.declared import ADMIN, DATASET_ID, PROJECT, TAG
from ingest_platform.feeds.datasets.query import (
    AGGREGATES,
    COMPARISONS,
    LIMIT,
    LIMIT_MAX,
    RANGE_DAYS,
    SELECT_MAX,
    SIGNS,
    VALUES_MAX,
    WHERE_MAX,
)
from ingest_platform.feeds.datasets.schema import NAME_PATTERN, TYPES

# A thousand values to compare with, of 200 characters each.
BODY_BYTES_MAX = 256 * 1024

_FIELD: Schema = {"type": "string", "description": "A declared field, or `timestamp`."}
_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}


def _object(properties: Mapping[str, Schema], *, required: tuple[str, ...] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(items: Schema, *, most: int, description: str) -> Schema:
    return {"type": ["array", "null"], "items": items, "maxItems": most, "description": description}


_QUERY = _object(
    {
        "range": {
            "type": ["object", "null"],
            "properties": {"from": _INSTANT, "to": _INSTANT},
            "additionalProperties": False,
            "description": (
                f"Of `timestamp`: `from` is in it, `to` is not. Without `to` until now, without `from` the "
                f"{RANGE_DAYS} days before `to`."
            ),
        },
        "select": _list(
            _object(
                {
                    "field": {"type": ["string", "null"], "description": _FIELD["description"]},
                    "aggregate": {"enum": [*AGGREGATES, None]},
                    "as": {"type": ["string", "null"], "pattern": NAME_PATTERN},
                }
            ),
            most=SELECT_MAX,
            description=(
                "Columns of the answer: fields as they are, and aggregates (`count` also without a field). Without "
                "any, what is grouped by, and `count`. A column without `as` is called by its field, `count`, or "
                "`<aggregate>_<field>`. A field as it is must be in `groupBy` if there are groups or aggregates."
            ),
        ),
        "where": _list(
            _object(
                {
                    "field": _FIELD,
                    "op": {"enum": [*COMPARISONS, *SIGNS]},
                    "value": {"description": f"Of the field's type; for `in` and `not_in`, 1 to {VALUES_MAX} of them."},
                },
                required=("field", "op", "value"),
            ),
            most=WHERE_MAX,
            description="Conditions, all of which must hold. `contains` and its like tell upper from lower case.",
        ),
        "groupBy": _list(_FIELD, most=SELECT_MAX, description="One row for each group."),
        "orderBy": _list(
            _object(
                {
                    "field": {"type": "string", "description": "A column of the answer, or a field."},
                    # In whatever case.
                    "direction": {"type": "string", "pattern": "^([Aa][Ss][Cc]|[Dd][Ee][Ss][Cc])$", "default": "asc"},
                },
                required=("field",),
            ),
            most=SELECT_MAX,
            description="What it leaves open is in the order of the groups; of records, the latest comes first.",
        ),
        "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT},
    }
)
_VALUE: Schema = {
    "type": ["string", "number", "boolean", "null"],
    "description": "Timestamps to the millisecond. Null: an aggregate of no records, or beyond all numbers.",
}
_ANSWER = _object(
    {
        "data": {"type": "array", "maxItems": LIMIT_MAX, "items": {"type": "object", "additionalProperties": _VALUE}},
        "columns": {
            "type": "array",
            "items": _object({"name": {"type": "string"}, "type": {"enum": list(TYPES)}}, required=("name", "type")),
        },
        "range": _object(
            {"from": {"type": "string", "format": "date-time"}, "to": {"type": "string", "format": "date-time"}},
            required=("from", "to"),
        ),
    },
    required=("data", "columns", "range"),
)
_EXAMPLE = {
    "range": {"from": "2026-05-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"},
    "select": [{"field": "country"}, {"aggregate": "sum", "field": "amount", "as": "total"}],
    "where": [{"field": "active", "op": "eq", "value": True}],
    "groupBy": ["country"],
    "orderBy": [{"field": "total", "direction": "desc"}],
    "limit": 100,
}
_EXAMPLE_ANSWER = {
    "data": [{"country": "RO", "total": 42.5}],
    "columns": [{"name": "country", "type": "string"}, {"name": "total", "type": "number"}],
    "range": {"from": "2026-05-01T00:00:00.000Z", "to": "2026-06-01T00:00:00.000Z"},
}


def declare_asking(*, ask: Handler, seconds_max: float, answer_bytes_max: int) -> list[ApiRoute]:
    """Declare the route."""
    return [
        ApiRoute(
            method="POST",
            path=f"{ROOT}/{{project}}/{{id}}/query",
            handler=ask,
            operation_id="query_dataset",
            tag=TAG,
            summary="Ask about the records of a dataset",
            description=(
                "All parts are optional; `{}` counts the records of the last days. Records are seen once their job has "
                "ended. By `Accept` the answer is JSON, CSV (with a header; a text that a spreadsheet would take for a "
                "formula gets an apostrophe before it) or an Arrow stream (timestamps to the microsecond); whatever "
                f"else is accepted gets JSON. 400: the query is wrong, which names the place; or it takes longer than "
                f"{seconds_max:.0f} s, more memory than there is for it, or its answer has more than "
                f"{answer_bytes_max:,} bytes."
            ),
            access=ADMIN,
            parameters=(PROJECT, DATASET_ID),
            bodies={JSON: Content(schema=_QUERY, example=_EXAMPLE, bytes_max=BODY_BYTES_MAX)},
            answers={
                200: Answer(
                    description="The answer.",
                    content={
                        JSON: Content(schema=_ANSWER, example=_EXAMPLE_ANSWER),
                        CSV: Content(schema={"type": "string"}),
                        ARROW: Content(schema={"type": "string", "format": "binary"}),
                    },
                )
            },
            refusals=(NotFound,),
        )
    ]
