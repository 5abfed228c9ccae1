"""Variables of the environment in a declaration, `${NAME}`: their values are secrets, and kept apart from it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ingest_platform.domain.feed import Flaw

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,100}")
# Stands for the value of a variable that is left open.
OPEN = "open"
_DEPTH_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The texts of a body in which variables stand, by their place, with the values put in; and what is wrong.

    `open` are the places whose variables are not set, and about which nothing can be said.
    """

    given: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    open: frozenset[str] = frozenset()
    flaws: Sequence[Flaw] = ()


def fill_variables(body: Mapping[str, object], read_variable: Callable[[str], str | None] | None) -> Filled:
    """Put values into the texts of a body in which variables stand: its fields, and members of mappings in it.

    A variable that is not set is a flaw; without `read_variable` all are left open.
    """
    given: dict[str, str] = {}
    left, flaws = set[str](), list(_misplaced(body))
    for path, text in _texts_of(body):
        values: dict[str, str] = {}
        for name in dict.fromkeys(_VARIABLE.findall(text)):
            value = OPEN if read_variable is None else _value_of(name, read_variable, path, flaws)
            if value is not None:
                values[name] = value
            if value is None or read_variable is None:
                left.add(path)
        given[path] = _VARIABLE.sub(lambda found, values=values: values.get(found[1], OPEN), text)
    return Filled(given=given, open=frozenset(left), flaws=flaws)


def _texts_of(body: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Find the texts in which variables may stand."""
    for name, value in body.items():
        members = cast("Mapping[str, object]", value).items() if isinstance(value, dict) else ()
        for path, each in ((name, value), *((f"{name}.{member}", inner) for member, inner in members)):
            if isinstance(each, str) and _VARIABLE.search(each) is not None:
                yield path, each


def _value_of(name: str, read_variable: Callable[[str], str | None], path: str, flaws: list[Flaw]) -> str | None:
    if _NAME.fullmatch(name) is None:
        flaws.append(Flaw(path=path, message=f"${{{name}}} names no variable; a name is letters, digits and _"))
        return None
    value = read_variable(name)
    if value is None:
        flaws.append(Flaw(path=path, message=f"the variable {name} is not set"))
    return value


def _misplaced(value: object, path: str = "", depth: int = 0) -> Iterator[Flaw]:
    """Find variables deeper down, or in lists: such a place has no path by which a value could be kept."""
    if isinstance(value, str) and _VARIABLE.search(value) is not None and not 1 <= depth <= _DEPTH_MAX:
        yield Flaw(path=path, message="has a variable; one may stand in a text, or in a mapping of texts")
    elif isinstance(value, dict):
        for name, each in cast("Mapping[str, object]", value).items():
            yield from _misplaced(each, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(value, list):
        for index, each in enumerate(cast("list[object]", value)):
            yield from _misplaced(each, f"{path}[{index}]", _DEPTH_MAX + 1)
