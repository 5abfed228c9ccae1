"""JSON objects in texts, as strictly as the platform reads JSON anywhere (contract, section 0).

No key twice in any object, no number that neither a double nor an int64 holds, nesting of at most 64 levels counted
from the event, no lone surrogates. Values keep their types.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted
from ingest_platform.feeds.stream_events.processing.paths import Document
from ingest_platform.pipeline.records import DECODE_ERRORS, DEPTH_MAX, INT64_MAX, INT64_MIN

_decode = msgspec.json.Decoder(Document).decode
_ESCAPED = re.compile(r"\\.", re.DOTALL)
# An integer long enough to be doubted; looked for outside strings only.
_DOUBTED_INTEGER = re.compile(r"[0-9]{19}").search


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
        if _count(members, depth_max) != skeleton.count(":"):
            return None
        if _DOUBTED_INTEGER(skeleton) is not None:
            _check_integers(members)
    except DECODE_ERRORS:
        return None
    except _Unfit:
        return None
    return members


def _count(value: object, depth_left: int) -> int:
    """Count the members of all objects in an object or a list. Raises _Unfit if it is too deep."""
    if depth_left == 0:
        raise _Unfit
    if isinstance(value, dict):
        members, count = value.values(), len(value)
    else:
        assert isinstance(value, list)
        members, count = value, 0
    for inner in members:
        if isinstance(inner, dict | list):
            count += _count(inner, depth_left - 1)
    return count


def _check_integers(value: object) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            _check_integers(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_integers(inner)
    elif isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        raise _Unfit
