"""Parameters of paths and queries, read by the schema that documents them."""

import re
from collections.abc import Mapping
from typing import cast

from starlette.datastructures import QueryParams

from ingest_platform.api.route import ApiRoute, Parameter
from ingest_platform.domain.errors import Malformed
from ingest_platform.domain.timestamps import parse_instant

# Python's int() reads digits of other scripts, underscores and blanks; a parameter is none of that.
_INTEGER = re.compile(r"-?[0-9]{1,18}\Z").match
TEXT_LENGTH_MAX = 1_000


def read_parameters(route: ApiRoute, path: Mapping[str, str], query: QueryParams) -> dict[str, object]:
    """Read the declared parameters that were given; raise Malformed for one that does not fit its schema."""
    values: dict[str, object] = {}
    for parameter in route.parameters:
        if parameter.where == "header":
            continue
        text = path.get(parameter.name) if parameter.where == "path" else _single(parameter.name, query)
        if text is not None:
            values[parameter.name] = read_parameter(parameter, text)
        elif parameter.required:
            raise _invalid(parameter, "is required")
        elif "default" in parameter.schema:
            values[parameter.name] = parameter.schema["default"]
    return values


def _single(name: str, query: QueryParams) -> str | None:
    given = query.getlist(name)
    if len(given) > 1:
        message = f"The parameter {name} is given more than once."
        raise Malformed(message, code="invalid_parameter", param=name)
    return given[0] if given else None


def read_parameter(parameter: Parameter, text: str) -> object:
    """Read one value.

    >>> read_parameter(Parameter(name="limit", schema={"type": "integer", "maximum": 9}, description=""), "7")
    7
    """
    schema = parameter.schema
    if "enum" in schema and text not in cast("list[str]", schema["enum"]):
        raise _invalid(parameter, f"must be one of {', '.join(cast('list[str]', schema['enum']))}")
    match schema["type"]:
        case "integer":
            return _integer(parameter, text)
        case "boolean":
            if text not in {"true", "false"}:
                raise _invalid(parameter, "must be true or false")
            return text == "true"
        case _:
            return _text(parameter, text)


def _integer(parameter: Parameter, text: str) -> int:
    least = cast("int | None", parameter.schema.get("minimum"))
    most = cast("int | None", parameter.schema.get("maximum"))
    if not _INTEGER(text):
        raise _invalid(parameter, "must be an integer")
    number = int(text)
    if (least is not None and number < least) or (most is not None and number > most):
        raise _invalid(parameter, f"must be from {least} to {most}")
    return number


def _text(parameter: Parameter, text: str) -> object:
    schema = parameter.schema
    if schema.get("format") == "date-time":
        instant = parse_instant(text)
        if instant is None:
            raise _invalid(parameter, "must be an RFC 3339 date-time with a zone (write + as %2B)")
        return instant
    pattern = cast("str | None", schema.get("pattern"))
    if pattern is not None and not re.search(pattern.replace("$", r"\Z"), text):
        raise _invalid(parameter, f"must match {pattern}")
    if len(text) > cast("int", schema.get("maxLength", TEXT_LENGTH_MAX)):
        raise _invalid(parameter, "is too long")
    if len(text) < cast("int", schema.get("minLength", 0)):
        raise _invalid(parameter, "is too short")
    if "\x00" in text:
        raise _invalid(parameter, "must not have a NUL character")
    return text


def full_schema(parameter: Parameter) -> dict[str, object]:
    r"""Add to a parameter's schema what is asked of every text.

    >>> full_schema(Parameter(name="site", schema={"type": "string", "maxLength": 9}, description=""))
    {'maxLength': 9, 'pattern': '^[^\\u0000]*$', 'type': 'string'}
    """
    schema = parameter.schema
    if schema.get("type") != "string" or not {"enum", "format"}.isdisjoint(schema):
        return dict(schema)
    return {"maxLength": TEXT_LENGTH_MAX, "pattern": "^[^\\u0000]*$", **schema}


def _invalid(parameter: Parameter, what: str) -> Malformed:
    message = f"The parameter {parameter.name} {what}."
    return Malformed(message, code="invalid_parameter", param=parameter.name)
