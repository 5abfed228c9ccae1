"""What goes back to a client, as a value. Nothing is sent here."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import msgspec

JSON = "application/json"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response: a body, or a stream of pieces of one that is not held in memory."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stream: AsyncIterator[bytes] | None = None


def json_reply(status: int, content: object, *, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with a value as JSON."""
    return Reply(status=status, body=_encode(content), headers=headers or {})
