"""Values of flat fields, held against the JSON schema that a feed has for each."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import cast

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


def check_value(value: object, schema: Mapping[str, object]) -> str | None:
    """Hold one value against the schema of its field; what is allowed, if it does not fit.

    >>> check_value("1.0", {"type": "number"})
    "must be a number, not the text '1.0'"
    >>> check_value(1, {"type": "number"})
    """
    kind = str(schema["type"])
    fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not fits:
        said = f"the text {value!r}" if isinstance(value, str) else repr(value)
        return f"must be a {kind}, not {said}"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, str):
        return _check_text(value, schema)
    if isinstance(value, (int, float)):
        return _check_bounds(value, schema)
    return None


def _check_text(value: str, schema: Mapping[str, object]) -> str | None:
    least, most = cast("int", schema.get("minLength", 0)), cast("int | None", schema.get("maxLength"))
    if len(value) < least or (most is not None and len(value) > most):
        return f"has {len(value)} characters; {least} to {most if most is not None else '…'} are allowed"
    pattern = cast("str | None", schema.get("pattern"))
    if pattern is not None and re.search(pattern, value) is None:
        return f"must match {pattern}"
    allowed = cast("Sequence[str] | None", schema.get("enum"))
    if allowed is not None and value not in allowed:
        return f"must be one of {', '.join(allowed)}"
    return None


def _check_bounds(value: float, schema: Mapping[str, object]) -> str | None:
    least, most = cast("float | None", schema.get("minimum")), cast("float | None", schema.get("maximum"))
    if (least is not None and value < least) or (most is not None and value > most):
        return f"must be from {'…' if least is None else least} to {'…' if most is None else most}"
    return None
