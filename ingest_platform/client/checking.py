"""A dataset's record judged before it is sent: the same problems in the same words and order as the server's.

The server's own check reads bytes (`pipeline/records.py`, worded in `feeds/datasets/wire.py`); this one looks at Python
values, and needs nothing but the standard library. A property test holds the two together.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from ingest_platform.domain.contract import Kind
from ingest_platform.domain.rejection import Code
from ingest_platform.domain.timestamps import parse_instant

TIMESTAMP, CONTEXT = "timestamp", "context"
DEPTH_MAX = 64
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Beyond it not every integer is a double.
EXACT_MAX = 2**53
EXTRA_PROBLEMS_MAX = 20
KEY_CHARACTERS_MAX = 200
Keys = dict[object, object]
_NUMBERS = "A number is not finite, or fits neither a double nor a 64-bit integer."
_NUMBERS_OF_CONTEXT = "A number in context is not finite, or fits neither a double nor a 64-bit integer."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A problem of a record: the field (None for the record as a whole), a closed code, the API's words."""

    field: str | None
    code: str
    error: str


_NOT_AN_OBJECT = Fault(field=None, code=Code.NOT_AN_OBJECT.value, error="Payload must be an object")
_INVALID_JSON = Fault(field=None, code=Code.INVALID_JSON.value, error="Invalid JSON body")
_TOO_DEEP = Fault(
    field=None, code=Code.TOO_DEEP.value, error=f"The record is nested more than {DEPTH_MAX} levels deep."
)
_NOT_FINITE = Fault(field=None, code=Code.NOT_FINITE.value, error=_NUMBERS)


def faults_of(record: object, fields: Mapping[str, str]) -> list[Fault]:
    """List everything that is wrong with a record; `fields` are the declared ones and their types.

    A `datetime` with a zone counts as a timestamp.

    >>> [fault.error for fault in faults_of({"timestamp": "today", "extra": 1}, {"amount": "number"})]
    ['Invalid or missing timestamp', 'context must be an object', 'Extra field: extra', 'Missing field: amount']
    """
    if _is_deep(record, DEPTH_MAX):
        return [_TOO_DEEP]
    if not _is_json(record):
        return [_INVALID_JSON]
    if not isinstance(record, dict):
        return [_NOT_AN_OBJECT]
    given = cast("dict[str, object]", record)
    return [*_of_usual(given, fields), *_of_declared(given, fields)]


def _of_usual(given: dict[str, object], fields: Mapping[str, str]) -> Iterator[Fault]:
    extras = [name for name in given if name not in fields and name not in {TIMESTAMP, CONTEXT}]
    if any(_has_unfit(given[name]) for name in extras):
        yield _NOT_FINITE
    if (code := _code_of(Kind.TIMESTAMP, given, TIMESTAMP)) is not None:
        yield Fault(field=TIMESTAMP, code=code, error="Invalid or missing timestamp")
    context = given.get(CONTEXT)
    if not isinstance(context, dict):
        code = (Code.INVALID_TYPE if CONTEXT in given else Code.MISSING_FIELD).value
        yield Fault(field=CONTEXT, code=code, error="context must be an object")
    elif _has_unfit(cast("object", context)):
        yield Fault(field=CONTEXT, code=Code.NOT_FINITE.value, error=_NUMBERS_OF_CONTEXT)
    for name in extras[:EXTRA_PROBLEMS_MAX]:
        shown = name[:KEY_CHARACTERS_MAX]
        yield Fault(field=shown, code=Code.EXTRA_FIELD.value, error=f"Extra field: {shown}")


def _of_declared(given: dict[str, object], fields: Mapping[str, str]) -> Iterator[Fault]:
    for name in fields:
        if name not in given:
            yield Fault(field=name, code=Code.MISSING_FIELD.value, error=f"Missing field: {name}")
    for name, kind in fields.items():
        if name in given and (code := _code_of(Kind(kind), given, name)) is not None:
            yield Fault(field=name, code=code, error=f"Invalid {kind} field: {name}")


def _code_of(kind: Kind, given: dict[str, object], name: str) -> str | None:
    """Tell what is wrong with a scalar, if anything is."""
    if name not in given:
        return Code.MISSING_FIELD.value
    value = given[name]
    match kind:
        case Kind.STRING:
            good = isinstance(value, str)
        case Kind.BOOLEAN:
            good = isinstance(value, bool)
        case Kind.TIMESTAMP:
            if isinstance(value, str) and parse_instant(value) is None:
                return Code.INVALID_TIMESTAMP.value
            good = isinstance(value, str | datetime)
        case _:
            if _is_number(value) and _has_unfit(value):
                return Code.NOT_FINITE.value
            good = _is_number(value) and not (isinstance(value, int) and abs(value) > EXACT_MAX)
    return None if good else Code.INVALID_TYPE.value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_unfit(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return not INT64_MIN <= value <= INT64_MAX
    if isinstance(value, float):
        return not math.isfinite(value)
    return any(_has_unfit(inner) for inner in _inner(value))


def _inner(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("Keys", value).values())
    return list(cast("list[object]", value)) if isinstance(value, list | tuple) else []


def _is_deep(value: object, levels: int) -> bool:
    """Tell whether objects and arrays are nested deeper than so many levels; it looks no deeper than that."""
    if not isinstance(value, dict | list | tuple):
        return False
    return levels == 0 or any(_is_deep(inner, levels - 1) for inner in _inner(cast("object", value)))


def _is_json(value: object) -> bool:
    """Tell whether JSON has such a value, which is known not to be too deep."""
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, str):
        # A lone surrogate is no character.
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, datetime):
        return _is_instant(value)
    if isinstance(value, dict) and not all(isinstance(key, str) and _is_json(key) for key in cast("Keys", value)):
        return False
    return isinstance(value, dict | list | tuple) and all(map(_is_json, _inner(cast("object", value))))


def _is_instant(value: datetime) -> bool:
    """Tell whether a time is an instant of the years 0001 to 9999."""
    if value.utcoffset() is None:
        return False
    try:
        value.astimezone(UTC)
    except OverflowError:
        return False
    return True
