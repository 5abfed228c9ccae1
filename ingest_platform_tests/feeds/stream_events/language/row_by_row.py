"""The rule language once more, in plain Python, one event at a time: what Polars' answers are compared with.

Nothing of the language itself is used here. An expression is a function of a document; its result is a value (None is
null) and whether that is a type fault.
"""

import math
import operator
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from ingest_platform.domain.timestamps import parse_instant

Document = dict[str, object]


class Result(NamedTuple):
    value: object
    fault: bool = False


Run = Callable[[Document], Result]

NULL = Result(value=None)
FAULT = Result(value=None, fault=True)


def kind_of(value: object) -> str:
    for kind, types in {
        "boolean": bool,
        "number": (int, float),
        "string": str,
        "instant": datetime,
        "list": list,
        "object": dict,
    }.items():
        if isinstance(value, types):
            return kind
    raise AssertionError(value)


def double(value: object) -> object:
    if kind_of(value) != "number":
        return value
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def literal(value: object) -> Run:
    return lambda _document: Result(value)


def field(path: Sequence[str]) -> Run:
    def run(document: Document) -> Result:
        value: object = document
        for member in path:
            value = value.get(member) if isinstance(value, dict) else None
        if path == ("timestamp",) and isinstance(value, str):
            value = parse_instant(value) or value
        return Result(None if value is None else double(value))

    return run


def exists(path: Sequence[str]) -> Run:
    return lambda document: Result(field(path)(document).value is not None)


def _truth(result: Result) -> Result:
    return result if result.value is None or isinstance(result.value, bool) else FAULT


def negation(operand: Run) -> Run:
    def run(document: Document) -> Result:
        value, fault = _truth(operand(document))
        return Result(None if value is None else not value, fault)

    return run


def _junction(operands: Sequence[Run], *, deciding: bool) -> Run:
    def run(document: Document) -> Result:
        results = [_truth(operand(document)) for operand in operands]
        values = [result.value for result in results]
        if deciding in values:
            return Result(deciding)
        if None in values:
            return Result(value=None, fault=any(result.fault for result in results))
        return Result(not deciding)

    return run


def every(operands: Sequence[Run]) -> Run:
    return _junction(operands, deciding=False)


def either(operands: Sequence[Run]) -> Run:
    return _junction(operands, deciding=True)


def _of(operands: Sequence[Run], takes: Callable[..., bool], make: Callable[..., object]) -> Run:
    """Null if one is null; a fault if one is faulty, or if all are there and of kinds that are not taken together."""

    def run(document: Document) -> Result:
        results = [operand(document) for operand in operands]
        values = [result.value for result in results]
        if any(result.fault for result in results):
            return FAULT
        if None in values:
            return NULL
        return Result(make(*values)) if takes(*map(kind_of, values)) else FAULT

    return run


COMPARED = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def comparison(word: str, left: Run, right: Run) -> Run:
    scalars = {"string", "number", "instant"} | ({"boolean"} if word in {"==", "!="} else set())
    return _of([left, right], lambda one, other: one == other and one in scalars, COMPARED[word])


def affix(word: str, left: Run, right: Run) -> Run:
    make = str.startswith if word == "starts_with" else str.endswith
    return _of([left, right], lambda one, other: one == other == "string", make)


def _in_list(value: object, elements: Sequence[object]) -> bool:
    of_its_kind = [each for each in elements if each is not None and kind_of(each) == kind_of(value)]
    return any(double(each) == value for each in of_its_kind)


def among(value: Run, choices: Sequence[object]) -> Run:
    kind = kind_of(choices[0])
    return _of([value], lambda one: one == kind, lambda one: one in choices)


_IN_LISTS = {"string", "number", "boolean"}


def contained(value: Run, whole: Run) -> Run:
    return _of([value, whole], lambda one, other: other == "list" and one in _IN_LISTS, _in_list)


def contains(whole: Run, part: Run) -> Run:
    def takes(one: str, other: str) -> bool:
        return one == other == "string" or (one == "list" and other in _IN_LISTS)

    def make(one: object, other: object) -> bool:
        if isinstance(one, str) and isinstance(other, str):
            return other in one
        assert isinstance(one, list)
        return _in_list(other, one)

    return _of([whole, part], takes, make)


def matches(text: Run, pattern: str) -> Run:
    return _of([text], lambda one: one == "string", lambda one: re.search(pattern, one) is not None)


def _calculated(word: str, one: float, other: float) -> float | None:
    try:
        value = {
            "+": lambda: one + other,
            "-": lambda: one - other,
            "*": lambda: one * other,
            "/": lambda: one / other,
            "%": lambda: one - other * math.floor(one / other),
        }[word]()
    except (ZeroDivisionError, OverflowError, ValueError):
        return None
    return value if math.isfinite(value) else None


def arithmetic(word: str, left: Run, right: Run) -> Run:
    return _of(
        [left, right], lambda one, other: one == other == "number", lambda one, other: _calculated(word, one, other)
    )


def negative(operand: Run) -> Run:
    return _of([operand], lambda one: one == "number", lambda one: -one if math.isfinite(one) else None)


def call(name: str, operand: Run) -> Run:
    if name == "length":
        return _of([operand], lambda one: one in {"string", "list"}, lambda one: float(len(one)))
    return _of([operand], lambda one: one == "string", str.lower if name == "lower" else str.upper)
