"""Fields of many events as typed columns, made for the rules that read them. What rules do with them: `frames.py`.

A JSON field has a type of its own in each event, so a path becomes one column for each type that occurs: all of its
texts, all of its numbers (as doubles), and so on, each null where the event has something else. Mostly that is one.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum, unique
from operator import itemgetter

import polars as pl

from ingest_platform.feeds.stream_events.language.syntax import TIMESTAMP, Path
from ingest_platform.pipeline.rules import instants

# So many documents at a time stay in the processor's cache from the first path to the last: of 100,000 documents at
# once, each look at a value had to fetch it from memory, and took twice as long.
CHUNK_DOCUMENTS = 4096


@unique
class Kind(StrEnum):
    """What a value is in one event."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    # Only of the path `timestamp`.
    TIMESTAMP = "timestamp"
    # The number of elements.
    LIST = "list"
    # True for each object.
    OBJECT = "object"


INSTANT = pl.Datetime("us", "UTC")
# A list's elements of one kind are a column too, e.g. `event.tags:list.string`; those of other kinds are left out.
ELEMENT_KINDS = (Kind.STRING, Kind.NUMBER, Kind.BOOLEAN)
# Of a path that is missing or null in every document.
_NOTHING = "null"

_DTYPES: Mapping[str, pl.DataType] = {
    Kind.STRING: pl.String(),
    Kind.NUMBER: pl.Float64(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.TIMESTAMP: INSTANT,
    Kind.LIST: pl.Float64(),
    Kind.OBJECT: pl.Boolean(),
    f"{Kind.LIST}.{Kind.STRING}": pl.List(pl.String()),
    f"{Kind.LIST}.{Kind.NUMBER}": pl.List(pl.Float64()),
    f"{Kind.LIST}.{Kind.BOOLEAN}": pl.List(pl.Boolean()),
    _NOTHING: pl.Null(),
}
_EMPTY: dict[str, object] = {}


def column_name(path: Path, kind: str) -> str:
    """Name the column of a path's values of one kind.

    >>> column_name(("event", "odd.name"), Kind.STRING)
    'event."odd.name":string'
    """
    members = (member if member.isidentifier() else '"' + member.replace('"', '""') + '"' for member in path)
    return ".".join(members) + f":{kind}"


def columns_of(documents: Sequence[dict[str, object]], paths: Iterable[Path]) -> pl.DataFrame:
    """Make the columns of these paths, a row for each document; what is below no object is missing.

    Documents are as JSON is decoded: of str, int, float, bool, None, list and dict. For most speed, ask for all paths
    of all rules at once.
    """
    wanted = sorted(set(paths))
    made: dict[Path, list[dict[str, pl.Series]]] = {path: [] for path in wanted}
    sizes = list[int]()
    for start in range(0, len(documents), CHUNK_DOCUMENTS):
        part = documents[start : start + CHUNK_DOCUMENTS]
        sizes.append(len(part))
        objects: dict[Path, Sequence[dict[str, object]]] = {(): part}
        for path in wanted:
            values = _members(_objects(objects, path[:-1]), path[-1])
            typed = _typed(values)
            made[path].append(_with_instants(typed) if path == TIMESTAMP else typed)
    series = [each for path in wanted for each in _joined(path, made[path], sizes)]
    return pl.DataFrame(series) if series else pl.DataFrame(height=len(documents))


def _objects(known: dict[Path, Sequence[dict[str, object]]], path: Path) -> Sequence[dict[str, object]]:
    """Look up the objects at a path, once for all paths below it; an empty one where there is none."""
    if path not in known:
        values = _members(_objects(known, path[:-1]), path[-1])
        known[path] = [value if type(value) is dict else _EMPTY for value in values]
    return known[path]


def _members(objects: Sequence[dict[str, object]], name: str) -> list[object]:
    try:
        return list(map(itemgetter(name), objects))
    except KeyError:
        return [each.get(name) for each in objects]


def _typed(values: list[object]) -> dict[str, pl.Series]:
    """Make a column for each kind of value that occurs. Mostly the first that is not null speaks for all."""
    kind = type(next((value for value in values if value is not None), None))
    try:
        # Polars refuses whatever is no text, and whatever is no boolean. As a number it would take a boolean.
        if kind is str:
            return {Kind.STRING: pl.Series(values, dtype=pl.String, strict=True)}
        if kind is bool:
            return {Kind.BOOLEAN: pl.Series(values, dtype=pl.Boolean, strict=True)}
        if kind in {int, float} and set(map(type, values)) <= {int, float, type(None)}:
            return {Kind.NUMBER: pl.Series(values, dtype=pl.Float64, strict=True)}
    except (TypeError, ValueError, OverflowError):
        pass
    return _mixed(values)


def _mixed(values: list[object]) -> dict[str, pl.Series]:
    """Part values by their types, exactly."""
    found = {_KINDS.get(kind, Kind.OBJECT) for kind in set(map(type, values)) - {type(None)}}
    typed = {str(kind): _of_kind(values, kind) for kind in sorted(found)}
    if Kind.LIST in found:
        typed |= _elements([value if type(value) is list else None for value in values])
    return typed


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _text(value: object) -> str:
    """Leave out the halves of characters that no UTF-8 has; JSON that is decoded strictly has none."""
    assert isinstance(value, str)
    return value.encode("utf-8", "replace").decode("utf-8")


def _length(value: object) -> float:
    assert isinstance(value, list)
    return float(len(value))


def _itself(value: object) -> object:
    return value


def _is_object(_value: object) -> bool:
    return True


_KINDS: Mapping[type, Kind] = {
    str: Kind.STRING,
    int: Kind.NUMBER,
    float: Kind.NUMBER,
    bool: Kind.BOOLEAN,
    list: Kind.LIST,
    dict: Kind.OBJECT,
}
_TAKEN: Mapping[Kind, Callable[[object], object]] = {
    Kind.STRING: _text,
    Kind.NUMBER: _number,
    Kind.BOOLEAN: _itself,
    Kind.LIST: _length,
    Kind.OBJECT: _is_object,
}


def _of_kind(values: Sequence[object], kind: Kind) -> pl.Series:
    take = _TAKEN[kind]
    taken = [
        take(value) if value is not None and _KINDS.get(type(value), Kind.OBJECT) is kind else None for value in values
    ]
    return pl.Series(taken, dtype=_DTYPES[kind], strict=True)


def _elements(lists: Sequence[list[object] | None]) -> dict[str, pl.Series]:
    """Make a column of lists for each kind of element that occurs in any of them."""
    made: dict[str, pl.Series] = {}
    found = {_KINDS.get(type(element)) for each in lists if each is not None for element in each}
    for kind in ELEMENT_KINDS:
        if kind in found:
            take = _TAKEN[kind]
            name = f"{Kind.LIST}.{kind}"
            taken = [
                None if each is None else [take(element) for element in each if _KINDS.get(type(element)) is kind]
                for each in lists
            ]
            made[name] = pl.Series(taken, dtype=_DTYPES[name], strict=True)
    return made


def _with_instants(typed: dict[str, pl.Series]) -> dict[str, pl.Series]:
    """Read the texts of `timestamp` as instants; those that are none stay texts."""
    texts = typed.pop(Kind.STRING, None)
    if texts is None:
        return typed
    read = instants(texts.alias("timestamp"))
    typed[Kind.TIMESTAMP] = read
    left = texts.filter(read.is_null())
    if left.null_count() < len(left):
        typed[Kind.STRING] = pl.select(pl.when(read.is_null()).then(texts)).to_series()
    return typed


def _joined(path: Path, made: Sequence[dict[str, pl.Series]], sizes: Sequence[int]) -> list[pl.Series]:
    """Put the chunks of a path's columns together; where a chunk has no such values, it has nulls."""
    names = sorted({name for typed in made for name in typed}) or [_NOTHING]
    joined = list[pl.Series]()
    for name in names:
        dtype = _DTYPES[name]
        chunks = [
            typed[name] if name in typed else pl.repeat(None, size, dtype=dtype, eager=True)
            for typed, size in zip(made, sizes, strict=True)
        ]
        whole = pl.concat(chunks, rechunk=True) if chunks else pl.Series([], dtype=dtype)
        joined.append(whole.alias(column_name(path, name)))
    return joined
