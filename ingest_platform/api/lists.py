"""The shape of every list: data and a page. How a list is read is its own module's."""

from collections.abc import Sequence

from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import Parameter, Schema


def list_reply(data: Sequence[object], *, next_cursor: str | None, total: int | None) -> Reply:
    """Answer with one page of a list."""
    page = {"next_cursor": next_cursor, "has_more": next_cursor is not None, "total": total}
    return json_reply(200, {"data": data, "page": page})


def list_schema(item: Schema) -> Schema:
    """Describe a page of such items."""
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": item},
            "page": {
                "type": "object",
                "properties": {
                    "next_cursor": {"type": ["string", "null"]},
                    "has_more": {"type": "boolean"},
                    "total": {
                        "type": ["integer", "null"],
                        "description": "Of the whole list, not of the page; null where it takes too long to count.",
                    },
                },
                "required": ["next_cursor", "has_more", "total"],
                "additionalProperties": False,
            },
        },
        "required": ["data", "page"],
        "additionalProperties": False,
    }


CURSOR = Parameter(
    name="cursor",
    schema={"type": "string", "maxLength": 1000},
    description="`next_cursor` of the page before; opaque, and stable while things are added.",
)


def limit_parameter(*, default: int, most: int) -> Parameter:
    """Declare how many items a page may have."""
    return Parameter(
        name="limit",
        schema={"type": "integer", "minimum": 1, "maximum": most, "default": default},
        description="Items in a page.",
    )
