"""Fields of many events as typed columns, made for the rules that read them. What rules do with them: `frames.py`.

A JSON field has a type of its own in each event, so a path becomes one column for each type that occurs: all of its
texts, all of its numbers (as doubles), and so on, each null where the event has something else. Mostly that is one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum, unique
from itertools import accumulate, chain
from operator import itemgetter
from typing import cast

import polars as pl
import pyarrow as pa

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
# A list's elements of one kind are a column too, e.g. `event.tags:list.string`; those of other kinds are left out. It
# has an empty list or null where a list has none of that kind.
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


def columns_of(
    documents: Sequence[dict[str, object]], paths: Iterable[Path], *, chunk_documents: int = CHUNK_DOCUMENTS
) -> pl.DataFrame:
    """Make the columns of these paths, a row for each document; what is below no object is missing.

    Documents are as JSON is decoded: of str, int, float, bool, None, list and dict. For most speed, ask for all paths
    of all rules at once.
    """
    wanted = sorted(set(paths))
    made: dict[Path, list[dict[str, pl.Series]]] = {path: [] for path in wanted}
    sizes = list[int]()
    for start in range(0, len(documents), chunk_documents):
        part = documents[start : start + chunk_documents]
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


_KINDS: Mapping[type, Kind] = {
    str: Kind.STRING,
    int: Kind.NUMBER,
    float: Kind.NUMBER,
    bool: Kind.BOOLEAN,
    list: Kind.LIST,
    dict: Kind.OBJECT,
}


def _mixed(values: list[object]) -> dict[str, pl.Series]:
    """Part values by their types, exactly."""
    types = list(map(type, values))
    typed: dict[str, pl.Series] = {}
    for kind in sorted({_KINDS[each] for each in set(types) - {type(None)}}):
        of_kind = {each for each, its_kind in _KINDS.items() if its_kind is kind}
        alone = [value if each in of_kind else None for value, each in zip(values, types, strict=True)]
        match kind:
            case Kind.LIST:
                lists = cast("list[list[object] | None]", alone)
                lengths = [None if each is None else float(len(each)) for each in lists]
                typed |= {kind: pl.Series(lengths, dtype=pl.Float64), **_elements(lists)}
            case Kind.OBJECT:
                typed[kind] = pl.Series([None if value is None else True for value in alone], dtype=pl.Boolean)
            case _:
                typed[kind] = _series(alone, kind)
    return typed


def _series(values: Sequence[object], kind: Kind) -> pl.Series:
    """Make a column of values of one kind."""
    try:
        return pl.Series(values, dtype=_DTYPES[kind], strict=True)
    except (OverflowError, UnicodeEncodeError):
        return pl.Series([_bounded(value) for value in values], dtype=_DTYPES[kind], strict=True)


def _bounded(value: object) -> object:
    """Make an integer beyond the doubles infinite, and leave out halves of characters, which no UTF-8 has."""
    match value:
        case int():
            try:
                return float(value)
            except OverflowError:
                return math.inf if value > 0 else -math.inf
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case _:
            return value


def _elements(lists: Sequence[list[object] | None]) -> dict[str, pl.Series]:
    """Make a column of lists for each kind of element that occurs in any of them.

    By way of Arrow: Polars took forty times as long to make a column of Python's lists.
    """
    flat = list(chain.from_iterable(each for each in lists if each is not None))
    types = set(map(type, flat))
    made: dict[str, pl.Series] = {}
    for kind in ELEMENT_KINDS:
        of_kind = {each for each, its_kind in _KINDS.items() if its_kind is kind}
        if not of_kind.isdisjoint(types):
            mine = lists if types <= of_kind else [_taken(each, of_kind) for each in lists]
            taken = _series(list(chain.from_iterable(each for each in mine if each is not None)), kind)
            offsets = pa.array([0, *accumulate(0 if each is None else len(each) for each in mine)], pa.int64())
            missing = pa.array([each is None for each in lists], pa.bool_())
            made[f"{Kind.LIST}.{kind}"] = pl.Series(
                pa.LargeListArray.from_arrays(offsets, taken.to_arrow(), mask=missing), dtype=pl.List(_DTYPES[kind])
            )
    return made


def _taken(elements: list[object] | None, types: AbstractSet[type]) -> list[object] | None:
    return None if elements is None else [each for each in elements if type(each) in types]


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
