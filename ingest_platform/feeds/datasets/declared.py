"""What the control plane of datasets promises, as data: paths, scopes, schemas. The handlers: `control.py`."""

from collections.abc import Mapping

from ingest_platform.api.lists import CURSOR, limit_parameter, list_schema
from ingest_platform.api.replies import JSON
from ingest_platform.api.route import PAT, Access, Answer, ApiRoute, Content, Parameter, Schema, json_answer
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Conflict, NotFound
from ingest_platform.feeds.datasets.control import ROOT, ControlRoutes
from ingest_platform.feeds.datasets.registry import (
    DESCRIPTION_CHARACTERS_MAX,
    ID_PATTERN,
    NAME_CHARACTERS_MAX,
    NAME_PATTERN,
    TEXT_PATTERN,
)
from ingest_platform.feeds.datasets.schema import FIELDS, FIELDS_MAX, THE_VERSION, TYPES
from ingest_platform.feeds.datasets.schema import NAME_PATTERN as FIELD_PATTERN
from ingest_platform.feeds.datasets.standing import StandingDatasets

TAG = "Datasets"
ADMIN = Access(scopes=("datasets:admin",), kinds=PAT)
PAGE, PAGE_MAX = 50, 100
# A schema of as many fields as there may be, with names as long as they may be, has 40 kB.
BODY_BYTES_MAX = 64 * 1024

_DATASET_PATH = f"{ROOT}/{{project}}/{{id}}"
_TEXT: Schema = {"type": "string"}
PROJECT = Parameter(
    name="project",
    where="path",
    schema=_TEXT,
    description="A project of the workspace.",
    required=True,
    example="local",
)
DATASET_ID = Parameter(
    name="id",
    where="path",
    schema={"type": "string", "pattern": ID_PATTERN},
    description="The dataset's id, a positive integer.",
    required=True,
    example="13",
)
EXAMPLE_FIELDS = {
    "country": "string",
    "plan": "string",
    "amount": "number",
    "active": "boolean",
    "signup_at": "timestamp",
}
_EXAMPLE_ASKED = {"name": "Orders", "description": "Paid orders"}
_EXAMPLE = {"id": 13, "slug": "orders", **_EXAMPLE_ASKED, "schema": None, "status": "pending_schema"}
_EXAMPLE_SCHEMA = {"version": THE_VERSION, FIELDS: EXAMPLE_FIELDS}
_EXAMPLE_ACTIVE = {**_EXAMPLE, "schema": _EXAMPLE_SCHEMA, "status": "active"}


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_FIELDS: Schema = {
    "type": "object",
    "description": "Names and types, in the order declared; no two names differ only in upper and lower case.",
    "minProperties": 1,
    "maxProperties": FIELDS_MAX,
    "propertyNames": {"pattern": FIELD_PATTERN},
    "additionalProperties": {"enum": list(TYPES)},
}
_SCHEMA = _object({"version": {"const": THE_VERSION}, FIELDS: _FIELDS})
_DATASET = _object(
    {
        "id": {"type": "integer", "minimum": 1},
        "name": _TEXT,
        "slug": {"type": "string", "description": "Made of the name when the dataset was made; it never changes."},
        "description": _TEXT,
        "schema": {"anyOf": [_SCHEMA, {"type": "null"}]},
        "status": {"enum": ["pending_schema", "active"], "description": "Active once its schema is registered."},
    }
)
_ABOUT = _object({"dataset": _DATASET})
_ABOUT_SCHEMA = _object({"dataset": _DATASET, "schema": _SCHEMA})
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS_MAX, "pattern": NAME_PATTERN}
_DESCRIPTION: Schema = {
    "type": ["string", "null"],
    "maxLength": DESCRIPTION_CHARACTERS_MAX,
    "pattern": TEXT_PATTERN,
}


def _asked(*required: str) -> Mapping[str, Content]:
    schema: Schema = {
        "type": "object",
        "properties": {"name": _NAME, "description": _DESCRIPTION},
        "required": list(required),
        "additionalProperties": False,
    }
    return {JSON: Content(schema=schema, example=_EXAMPLE_ASKED, bytes_max=BODY_BYTES_MAX)}


def routes(services: Services, standing: StandingDatasets) -> list[ApiRoute]:
    """Declare the routes. Those with a word where others have an id come first."""
    handlers = ControlRoutes(services, standing)
    return [
        *_schema_routes(handlers, path=f"{ROOT}/{{project}}/schema", suffix="default_dataset"),
        *_schema_routes(handlers, path=f"{ROOT}/{{project}}/{{id}}/schema", suffix="dataset"),
        *_project_routes(handlers),
        *_dataset_routes(handlers),
    ]


def _project_routes(handlers: ControlRoutes) -> list[ApiRoute]:
    return [
        ApiRoute(
            method="GET",
            path=f"{ROOT}/{{project}}",
            handler=handlers.list_datasets,
            operation_id="list_datasets",
            tag=TAG,
            summary="List the datasets of a project",
            access=ADMIN,
            parameters=(PROJECT, limit_parameter(default=PAGE, most=PAGE_MAX), CURSOR),
            answers={200: json_answer("A page of datasets, the oldest first.", list_schema(_DATASET))},
            refusals=(NotFound,),
        ),
        ApiRoute(
            method="POST",
            path=f"{ROOT}/{{project}}",
            handler=handlers.create,
            operation_id="create_dataset",
            tag=TAG,
            summary="Make a dataset",
            description=(
                "It takes records once its schema is registered. The first dataset of a project is its default: the "
                "one that the routes without an id speak of. 409: a dataset of the project has this name."
            ),
            access=ADMIN,
            parameters=(PROJECT,),
            bodies=_asked("name"),
            answers={201: json_answer("It is made.", _ABOUT, example={"dataset": _EXAMPLE})},
            refusals=(NotFound, Conflict),
        ),
    ]


def _dataset_routes(handlers: ControlRoutes) -> list[ApiRoute]:
    shown = json_answer("The dataset.", _ABOUT, example={"dataset": _EXAMPLE_ACTIVE})
    return [
        ApiRoute(
            method="GET",
            path=_DATASET_PATH,
            handler=handlers.get,
            operation_id="get_dataset",
            tag=TAG,
            summary="Show a dataset",
            access=ADMIN,
            parameters=(PROJECT, DATASET_ID),
            answers={200: shown},
            refusals=(NotFound,),
        ),
        ApiRoute(
            method="PATCH",
            path=_DATASET_PATH,
            handler=handlers.change,
            operation_id="change_dataset",
            tag=TAG,
            summary="Change a dataset's name or description",
            description="What is left out stays, and so do the id, the slug and the schema.",
            access=ADMIN,
            parameters=(PROJECT, DATASET_ID),
            bodies=_asked(),
            answers={200: shown},
            refusals=(NotFound, Conflict),
        ),
        _delete(handlers),
    ]


def _delete(handlers: ControlRoutes) -> ApiRoute:
    return ApiRoute(
        method="DELETE",
        path=_DATASET_PATH,
        handler=handlers.delete,
        operation_id="delete_dataset",
        tag=TAG,
        summary="Delete a dataset",
        description=(
            "It is not found any more, and what lies in it can't be read; what was accepted and not yet worked ends as "
            "a failed job. Its name may be used again, its id never is."
        ),
        access=ADMIN,
        parameters=(PROJECT, DATASET_ID),
        answers={200: json_answer("It is deleted.", _object({"success": {"const": True}}))},
        refusals=(NotFound,),
    )


def _schema_routes(handlers: ControlRoutes, *, path: str, suffix: str) -> list[ApiRoute]:
    by_id = "{id}" in path
    whose = "a dataset" if by_id else "the project's default dataset"
    example = {"dataset": _EXAMPLE_ACTIVE, "schema": _EXAMPLE_SCHEMA}
    body: Schema = {"anyOf": [{**_object({FIELDS: _FIELDS}), "required": [FIELDS]}, _FIELDS]}
    answer: Answer = json_answer("The dataset and its schema.", _ABOUT_SCHEMA, example=example)
    made = "" if by_id else " A project without a default dataset gets one, called `default`."
    return [
        ApiRoute(
            method="GET",
            path=path,
            handler=handlers.get_schema,
            operation_id=f"get_schema_of_{suffix}",
            tag=TAG,
            summary=f"Show the schema of {whose}",
            access=ADMIN,
            parameters=(PROJECT, DATASET_ID) if by_id else (PROJECT,),
            answers={200: answer},
            refusals=(NotFound,),
        ),
        ApiRoute(
            method="POST",
            path=path,
            handler=handlers.register_schema,
            operation_id=f"register_schema_of_{suffix}",
            tag=TAG,
            summary=f"Register the schema of {whose}",
            description=(
                "Once: a schema never changes. 200: these very fields were registered before, in whatever order. 409: "
                f"others were. Every record must have all fields, besides `timestamp` and `context`.{made}"
            ),
            access=ADMIN,
            parameters=(PROJECT, DATASET_ID) if by_id else (PROJECT,),
            bodies={JSON: Content(schema=body, example={FIELDS: EXAMPLE_FIELDS}, bytes_max=BODY_BYTES_MAX)},
            answers={200: answer, 201: json_answer("It is registered.", _ABOUT_SCHEMA, example=example)},
            refusals=(NotFound, Conflict),
        ),
    ]
