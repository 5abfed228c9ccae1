"""Enrich steps: fields set, looked up, renamed, derived and dropped, a frame of events at a time, as they are ordered.

What a step writes it writes over what stands there; a field on its way that is no object becomes one. What is missing
is neither renamed nor dropped, and a lookup that finds nothing adds nothing.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence

from ingest_platform.feeds.stream_events.declaration.paths import write_path
from ingest_platform.feeds.stream_events.declaration.pipeline import (
    DeriveStep,
    DropStep,
    EnrichStep,
    LookupStep,
    Path,
    RenameStep,
    SetStep,
)
from ingest_platform.feeds.stream_events.language import Type, columns_of
from ingest_platform.feeds.stream_events.processing.paths import MISSING, Document, fresh, gather, put, take
from ingest_platform.pipeline.rules import EXACT_INTEGER_MAX

# Of tables that were used last, what is found by key: a run knows a few streams, each of a few tables.
TABLES_MAX = 64


def enrich(documents: Sequence[Document], steps: Sequence[EnrichStep]) -> Mapping[str, int]:
    """Apply enrich steps to events, in place; count by field of how many events it could not be derived.

    The types of such an event do not fit the expression; it keeps what it had there.
    """
    faults = Counter[str]()
    for step in steps:
        match step:
            case SetStep():
                _set(documents, step)
            case LookupStep():
                _look_up(documents, step)
            case RenameStep():
                _rename(documents, step)
            case DeriveStep():
                faults.update(_derive(documents, step))
            case DropStep():
                for path in step.paths:
                    take(documents, path)
    return faults


def _set(documents: Sequence[Document], step: SetStep) -> None:
    for path, value in step.values.items():
        new = fresh(value)
        put(documents, path, [new() for _ in documents])


def _rename(documents: Sequence[Document], step: RenameStep) -> None:
    # All are taken before one is put, so that two fields can change places.
    taken = [(new, take(documents, old)) for old, new in step.paths.items()]
    for path, values in taken:
        put(documents, path, values)


class _Same:
    """A step as a key: the same object, as its table is too large to be hashed for every frame."""

    def __init__(self, step: LookupStep) -> None:
        self.step = step

    def __hash__(self) -> int:
        return id(self.step)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.step is self.step


@functools.lru_cache(maxsize=TABLES_MAX)
def _found_by_key(same: _Same, column: str) -> Mapping[str, str]:
    """Map the keys of a table to the cells of a column; an empty cell is missing, as it is in a file."""
    table = same.step.table
    key, found = table.columns.index(same.step.key_column), table.columns.index(column)
    return {row[key]: row[found] for row in table.rows if row[found]}


def _look_up(documents: Sequence[Document], step: LookupStep) -> None:
    keys = [key if isinstance(key, str) else _as_text(key) for key in gather(documents, step.key)]
    for path, column in step.add.items():
        cells = _found_by_key(_Same(step), column)
        put(documents, path, [cells.get(key, MISSING) if key is not None else MISSING for key in keys])


def _as_text(key: object) -> str | None:
    """Write a key as a table has it; what is no single value is none.

    >>> _as_text(True), _as_text(7), _as_text(7.0), _as_text(0.5), _as_text([7])
    ('true', '7', '7', '0.5', None)
    """
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return str(key)
    if isinstance(key, float):
        # JSON has one kind of numbers; who wrote 7.0 meant 7.
        return str(int(key)) if key.is_integer() else repr(key)
    return None


def _derive(documents: Sequence[Document], step: DeriveStep) -> Mapping[str, int]:
    """Evaluate all expressions before one value is put: each sees the event as it was before the step."""
    copied = {path: gather(documents, each.copies) for path, each in step.values.items() if each.copies is not None}
    rest = {path: each for path, each in step.values.items() if each.copies is None}
    columns = columns_of(documents, frozenset[Path]().union(*(each.paths for each in rest.values())))
    outcomes = [each.polars(columns) for each in rest.values()]
    found = columns.with_columns(
        *(outcome.value.alias(f"value {place}") for place, outcome in enumerate(outcomes)),
        *(outcome.fault.alias(f"fault {place}") for place, outcome in enumerate(outcomes)),
    )
    faults: dict[str, int] = {}
    for place, (path, expression) in enumerate(rest.items()):
        given = found[f"value {place}"].to_list()
        values = [_as_declared(value) for value in given] if expression.type is Type.NUMBER else given
        put(documents, path, [MISSING if value is None else value for value in values])
        faults[write_path(path)] = int(found[f"fault {place}"].sum())
    for path, values in copied.items():
        put(documents, path, [MISSING if value is None else fresh(value)() for value in values])
    return {name: count for name, count in faults.items() if count}


def _as_declared(value: object) -> object:
    """Write a number as people do: a whole one without a fraction. The language gives no number that is not finite."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT_INTEGER_MAX:
        return int(value)
    return value
