"""The OpenAPI 3.1 document, made from the declared routes. Nothing is described here that a route does not declare."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from ingest_platform.api.parameters import full_schema
from ingest_platform.api.problems import COMMON, Family, InternalError
from ingest_platform.api.route import ANY_KEY, PAT, Answer, ApiRoute, Content, Parameter
from ingest_platform.domain.errors import (
    Conflict,
    Forbidden,
    Malformed,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    Refusal,
    TooSlow,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    UnsupportedFormat,
)

OPENAPI = "3.1.0"
TITLE = "Ingest platform"
_DESCRIPTION = """\
Send batches of records; follow each record to its outcome.

A 2xx to a POST means that the submission is durable: it survives kill -9 and power loss. Every POST takes an
`Idempotency-Key`; every response carries `X-Request-Id`. Bodies may be sent with `Content-Encoding: gzip` or `zstd`.
"""
_REASONS: Mapping[type[Refusal], str] = {
    Malformed: "Malformed: the body, a parameter or a header is not what it claims to be.",
    Unauthenticated: "No token, or one that is unknown, expired, revoked or of the wrong kind.",
    Forbidden: "The token lacks the scope.",
    NotFound: "It does not exist, or belongs to another workspace.",
    TooSlow: "The body came too slowly.",
    Conflict: "The first request with this Idempotency-Key has not been answered yet.",
    PayloadTooLarge: "The body is larger than the limit, as sent or once decompressed.",
    UnsupportedFormat: "A content type or content encoding that is not read here.",
    Unprocessable: "Well-formed with the wrong content, or an Idempotency-Key that was used with another body.",
    RateLimited: "Too many requests.",
    Unavailable: (
        "Durability can't be promised at the moment; nothing was taken, unless `code` is `unconfirmed`: then the store "
        "fell silent while it was being taken, and sending it again is safe under the same Idempotency-Key."
    ),
    InternalError: "Something failed on our side; it is logged under the request id.",
}
_REPLAYED = "`true` when this is the first answer again."
_WAITABLE = (Unavailable, RateLimited, Conflict)
_TEXT = {"schema": {"type": "string"}}
_WHOLE = {"schema": {"type": "integer", "minimum": 0}}

Json = dict[str, object]


def document(
    routes: Sequence[ApiRoute], *, version: str, families: Sequence[Family], schemas: Mapping[str, object]
) -> Json:
    """Describe the routes. `schemas` are the named ones that they refer to."""
    paths: dict[str, Json] = {}
    for route in routes:
        for place, path in enumerate(route.paths):
            operation = _operation(route, family=_family(path, families), alias=place)
            paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": OPENAPI,
        "info": {"title": TITLE, "version": version, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": {**{family.name: family.schema for family in (*families, COMMON)}, **schemas},
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "API key: `ing_live_…`"},
                "personalAccessToken": {"type": "http", "scheme": "bearer", "description": "`pat_…`"},
            },
        },
    }


def _family(path: str, families: Sequence[Family]) -> Family:
    return next((family for family in families if family.covers(path)), COMMON)


def _operation(route: ApiRoute, *, family: Family, alias: int) -> Json:
    operation: Json = {
        "operationId": route.operation_id + (f"_alias{alias}" if alias else ""),
        "tags": [route.tag],
        "summary": route.summary,
        "description": _description(route, alias=alias),
        "parameters": _parameters(route),
        "responses": _responses(route, family),
        "security": _security(route),
    }
    if alias:
        operation["deprecated"] = False
    if route.bodies:
        operation["requestBody"] = {
            "required": True,
            "content": {name: _content(content) for name, content in route.bodies.items()},
        }
    return operation


def _description(route: ApiRoute, *, alias: int) -> str:
    parts = [f"The same as `{route.path}`."] if alias else []
    if route.description:
        parts.append(route.description)
    if route.access is not None:
        parts.append("Scope: " + " or ".join(f"`{scope}`" for scope in route.access.scopes) + ".")
    limits = {name: content.bytes_max for name, content in route.bodies.items()}
    if limits:
        parts.append("Limits: " + ", ".join(f"`{name}` {size:,} bytes" for name, size in limits.items()) + ".")
    return "\n\n".join(parts)


def _security(route: ApiRoute) -> list[dict[str, list[str]]]:
    if route.access is None:
        return []
    api, pat = {"apiKey": []}, {"personalAccessToken": []}
    if route.access.kinds == ANY_KEY:
        return [api, pat]
    return [pat] if route.access.kinds == PAT else [api]


def _parameters(route: ApiRoute) -> list[Json]:
    declared = [_parameter(parameter) for parameter in route.parameters]
    if route.idempotent:
        declared.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key and body get the first answer again, for 24 hours.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
            }
        )
    return declared


def _parameter(parameter: Parameter) -> Json:
    shown: Json = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.description,
        "schema": full_schema(parameter),
    }
    if parameter.example is not None:
        shown["example"] = parameter.example
    return shown


def _content(content: Content) -> Json:
    shown: Json = {"schema": dict(content.schema)} if content.schema else {}
    if content.example is not None:
        shown["example"] = content.example
    if content.part_types:
        shown["encoding"] = {name: {"contentType": types} for name, types in content.part_types.items()}
    return shown


def _responses(route: ApiRoute, family: Family) -> Json:
    responses = {str(status): _answer(route, answer, family) for status, answer in route.answers.items()}
    for refusal in refusals_of(route):
        responses.setdefault(str(family.status_of(refusal)), _refusal(route, refusal, family))
    return dict(sorted(responses.items()))


def refusals_of(route: ApiRoute) -> list[type[Refusal]]:
    """List every refusal that a route may answer with, as follows from its declaration."""
    found: list[type[Refusal]] = [*route.refusals, InternalError]
    if route.access is not None:
        found += [Unauthenticated, Forbidden, Unavailable]
    if route.rate is not None:
        found.append(RateLimited)
    if route.bodies:
        found += [Malformed, TooSlow, PayloadTooLarge, UnsupportedFormat, Unprocessable]
    if route.idempotent:
        found += [Malformed, Conflict, Unprocessable]
    if route.parameters:
        found.append(Malformed)
    return list(dict.fromkeys(found))


def _refusal(route: ApiRoute, refusal: type[Refusal], family: Family) -> Json:
    headers = _headers(route, family)
    if issubclass(refusal, _WAITABLE):
        headers["Retry-After"] = _header("Seconds after which to try again.", _WHOLE)
    if refusal is Unauthenticated:
        headers["WWW-Authenticate"] = _header("Bearer", _TEXT)
    if refusal is UnsupportedFormat:
        headers["Accept-Post"] = _header("The content types that are read here.", _TEXT)
        headers["Accept-Encoding"] = _header("The content encodings that are read here.", _TEXT)
    if refusal in {Malformed, Unprocessable} and route.idempotent:
        headers["Idempotency-Replayed"] = _header(_REPLAYED, _TEXT)
    return {
        "description": _REASONS.get(refusal, (refusal.__doc__ or refusal.code).strip()),
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{family.name}"}}},
    }


def _answer(route: ApiRoute, answer: Answer, family: Family) -> Json:
    headers = _headers(route, family)
    for name, text in answer.headers.items():
        headers[name] = _header(text, _TEXT)
    if route.idempotent:
        headers["Idempotency-Replayed"] = _header(_REPLAYED, _TEXT)
    shown: Json = {"description": answer.description, "headers": headers}
    if answer.content:
        shown["content"] = {name: _content(content) for name, content in answer.content.items()}
    return shown


def _headers(route: ApiRoute, family: Family) -> Json:
    headers: Json = {name: _header("The request's id.", _TEXT) for name in family.id_headers}
    if route.rate is not None:
        headers["X-RateLimit-Limit"] = _header("Requests a minute.", _WHOLE)
        headers["X-RateLimit-Remaining"] = _header("Requests that are left at once.", _WHOLE)
    return headers


def _header(text: str, kind: Mapping[str, object]) -> Json:
    return {"description": text, **kind}


def operations(shown: Mapping[str, object]) -> Iterable[tuple[str, str, Json]]:
    """Walk the operations of a document: path, method and what is said of it."""
    for path, methods in cast("Mapping[str, Mapping[str, Json]]", shown["paths"]).items():
        for method, operation in methods.items():
            yield path, method.upper(), operation
