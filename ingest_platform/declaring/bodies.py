"""Bodies that are more than flat fields, as the catalog keeps them: JSON."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import cast

from ingest_platform.domain.feed import Flaw

# Lookup tables come from files of their own; by hand nobody writes so many values. Aliases of YAML multiply.
VALUES_MAX = 100_000
DEPTH_MAX = 30
INTEGER_MAX = 2**63 - 1
# JSON has them, PostgreSQL's jsonb does not.
_ODD = re.compile("[\x00\ud800-\udfff]")


def why_no_json(body: Mapping[str, object]) -> Flaw | None:
    """Find what of a body, as YAML's reader gives it, is no JSON; the first such place.

    >>> why_no_json({"a": [1, {"b": float("nan")}]}).path
    'a[1].b'
    """
    waiting: list[tuple[str, int, object]] = [("", 0, body)]
    seen = 0
    while waiting:
        path, depth, value = waiting.pop()
        seen += 1
        if depth > DEPTH_MAX:
            return Flaw(path=path, message=f"is deeper than {DEPTH_MAX}")
        if seen > VALUES_MAX:
            return Flaw(path="", message=f"has more than {VALUES_MAX:,} values")
        why = _why_wrong(value)
        if why is not None:
            return Flaw(path=path, message=why)
        waiting += ((below, depth + 1, each) for below, each in _below(path, value))
    return None


def _below(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, each in cast("Mapping[str, object]", value).items():
            yield f"{path}.{name}" if path else str(name), each
    elif isinstance(value, list):
        for index, each in enumerate(cast("list[object]", value)):
            yield f"{path}[{index}]", each


def _why_wrong(value: object) -> str | None:
    match value:
        case dict():
            names = cast("Mapping[object, object]", value)
            return next((why for name in names if (why := _why_no_name(name)) is not None), None)
        case str():
            return "has a character that can't be stored (NUL, half of a pair)" if _ODD.search(value) else None
        case int() if not -INTEGER_MAX <= value <= INTEGER_MAX:
            return f"must be a whole number of at most {INTEGER_MAX} either way"
        case float() if not math.isfinite(value):
            return "must be a finite number"
        case None | int() | float() | list():
            return None
        case _:
            return f"must be what JSON has, not {value!r}; put a date in quotes"


def _why_no_name(name: object) -> str | None:
    return _why_wrong(name) if isinstance(name, str) else f"{name!r} must be a text; put it in quotes"
