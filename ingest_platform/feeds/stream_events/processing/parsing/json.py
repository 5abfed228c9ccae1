"""JSON objects in texts, as strictly as the platform reads JSON anywhere (contract, section 0).

No key twice in any object, no number that neither a double nor an int64 holds, nesting of at most 64 levels counted
from the event, no lone surrogates. Values keep their types.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted
from ingest_platform.feeds.stream_events.processing.paths import Document
from ingest_platform.pipeline.records import DECODE_ERRORS, DEPTH_MAX, INT64_MAX, INT64_MIN

_decode = msgspec.json.Decoder(Document).decode
_ESCAPED = re.compile(r"\\.", re.DOTALL)


class _Unfit(Exception):
    """A value that the platform takes from nobody."""


def lift(texts: Sequence[str], *, within: int) -> Iterator[Lifted]:
    """Read texts as JSON objects that are to stand within so many others; None for what is none."""
    return (_read(text, DEPTH_MAX - within) for text in texts)


def _read(text: str, depth_max: int) -> Document | None:
    try:
        members = _decode(text)
        # What stands outside strings; a text has as many colons there as its objects have members, repeated ones too.
        skeleton = "".join((_ESCAPED.sub("", text) if "\\" in text else text).split('"')[::2])
        return members if _count(members, depth_max) == skeleton.count(":") else None
    except DECODE_ERRORS:
        return None
    except _Unfit:
        return None


def _count(value: object, depth_left: int) -> int:
    """Count the members of all objects in a value. Raises _Unfit if it is too deep, or has an integer too large."""
    if depth_left == 0:
        raise _Unfit
    count = 0
    if isinstance(value, dict):
        count, value = len(value), value.values()
    assert isinstance(value, Iterable)
    for inner in value:
        kind = type(inner)
        if kind is dict or kind is list:
            count += _count(inner, depth_left - 1)
        elif kind is int and not INT64_MIN <= inner <= INT64_MAX:
            raise _Unfit
    return count
