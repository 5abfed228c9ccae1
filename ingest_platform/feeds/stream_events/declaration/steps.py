"""The steps that come before masks, read: parse and enrich. What a step does is in `processing/`."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from ingest_platform.feeds.stream_events.declaration.expressions import read_expression
from ingest_platform.feeds.stream_events.declaration.patterns import read_pattern
from ingest_platform.feeds.stream_events.declaration.pipeline import (
    DeriveStep,
    DropStep,
    EnrichStep,
    LookupStep,
    OnError,
    ParseKind,
    ParseStep,
    Path,
    RenameStep,
    SetStep,
)
from ingest_platform.feeds.stream_events.declaration.place import Place
from ingest_platform.feeds.stream_events.declaration.tables import read_table
from ingest_platform.feeds.stream_events.declaration.targets import changed, filled, read_text_of

STEPS_MAX = 100
COLUMNS_MAX = 1_000
_WITH_PATTERN = {ParseKind.REGEX, ParseKind.GROK}
Value = TypeVar("Value")


def read_parse(place: Place) -> ParseStep | None:
    """Read one step of `parse`."""
    found = place.fields(
        *("field", "as", "pattern", "into", "on_error", "columns", "separator"), required=("field", "as")
    )
    before = len(place.faults)
    field = read_text_of(found["field"]) if "field" in found else None
    kind = found["as"].word(ParseKind) if "as" in found else None
    into = filled(found["into"]) if "into" in found else None
    on_error = found["on_error"].word(OnError) if "on_error" in found else OnError.KEEP
    if kind is None:
        return None
    pattern = _pattern(place, found, kind)
    columns, separator = _table_form(place, found, kind)
    if field is None or on_error is None or len(place.faults) > before:
        return None
    return ParseStep(
        field=field, as_=kind, pattern=pattern, into=into, on_error=on_error, columns=columns, separator=separator
    )


def _pattern(place: Place, found: Mapping[str, Place], kind: ParseKind) -> str | None:
    given = found.get("pattern")
    if kind not in _WITH_PATTERN:
        if given is not None:
            given.wrong(f"belongs to regex and grok; {kind.value} needs none")
        return None
    if given is None:
        place.below("pattern", None).wrong(f"is missing; {kind.value} needs one")
        return None
    return read_pattern(given, kind)


def _table_form(place: Place, found: Mapping[str, Place], kind: ParseKind) -> tuple[tuple[str, ...], str]:
    """Read the columns and the separator of csv."""
    if kind is not ParseKind.CSV:
        for name in ("columns", "separator"):
            if name in found:
                found[name].wrong(f"belongs to csv; {kind.value} has none")
        return (), ","
    if "columns" not in found:
        place.below("columns", None).wrong("is missing; name the columns of a line, in order")
        return (), ","
    names = [name for each in found["columns"].entries(most=COLUMNS_MAX) if (name := each.text()) is not None]
    if len(set(names)) < len(names):
        found["columns"].wrong("must be different from each other")
    separator = found["separator"].value if "separator" in found else ","
    if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
        found["separator"].wrong("must be one character, neither a quote nor an end of line")
        separator = ","
    return tuple(names), separator


def read_enrich(place: Place) -> EnrichStep | None:
    """Read one step of `enrich`."""
    found = place.fields(*_STEPS)
    if not isinstance(place.value, Mapping):
        return None
    if len(found) != 1:
        place.wrong(f"must be exactly one of {', '.join(_STEPS)}; put others into steps of their own")
        return None
    before = len(place.faults)
    ((name, below),) = found.items()
    step = _STEPS[name](below)
    return step if len(place.faults) == before else None


def _by_target(place: Place, read: Callable[[Place], Value | None]) -> dict[Path, Value]:
    """Read a mapping whose keys are fields that are written to."""
    found: dict[Path, Value] = {}
    for text, member in place.members().items():
        path = changed(Place(value=text, path=member.path, faults=member.faults))
        value = read(member)
        if path is None or value is None:
            continue
        if path in found:
            member.wrong("is written twice in one step")
        found[path] = value
    if place.value == {}:
        place.wrong("is empty; name at least one field")
    return found


def _set(place: Place) -> SetStep:
    given = _by_target(place, lambda member: (member.value,))
    return SetStep(values={path: value for path, (value,) in given.items()})


def _lookup(place: Place) -> LookupStep | None:
    found = place.fields("table", "key", "column", "add", required=("table", "key", "add"))
    key = found["key"].way() if "key" in found else None
    add = _by_target(found["add"], Place.text) if "add" in found else {}
    table = read_table(found["table"]) if "table" in found else None
    if table is None or key is None:
        return None
    for path, column in add.items():
        if column not in table.columns:
            found["add"].wrong(
                f"{'.'.join(path)}: the table has no column {column!r}; there are {', '.join(table.columns)}"
            )
    column = found["column"].text() if "column" in found else _key_column(table.columns, key)
    if column is None:
        return None
    if column not in table.columns:
        found["column"].wrong(f"the table has no column {column!r}; there are {', '.join(table.columns)}")
        return None
    _check_keys([row[table.columns.index(column)] for row in table.rows], column, found["table"])
    return LookupStep(table=table, key=key, key_column=column, add=add)


def _key_column(columns: tuple[str, ...], key: Path) -> str:
    """Take the column that is called as the field is, or else the first."""
    return key[-1] if key[-1] in columns else columns[0]


def _check_keys(keys: list[str], column: str, place: Place) -> None:
    seen = set[str]()
    for row, key in enumerate(keys, start=2):
        if key in seen:
            place.wrong(f"line {row}: the key {key[:60]!r} of column {column!r} stands twice")
            return
        seen.add(key)


def _rename(place: Place) -> RenameStep:
    paths: dict[Path, Path] = {}
    for old, member in place.members().items():
        before = changed(Place(value=old, path=member.path, faults=member.faults))
        after = changed(member)
        if before is None or after is None:
            continue
        if before == after:
            member.wrong("is renamed to itself")
        elif after in paths.values():
            member.wrong(f"{'.'.join(after)} is written twice in one step")
        paths[before] = after
    if place.value == {}:
        place.wrong("is empty; name at least one field")
    return RenameStep(paths=paths)


def _derive(place: Place) -> DeriveStep:
    return DeriveStep(values=_by_target(place, read_expression))


def _drop(place: Place) -> DropStep:
    if place.value == []:
        place.wrong("is empty; name at least one field")
    return DropStep(paths=tuple(path for each in place.entries() if (path := changed(each)) is not None))


_STEPS: Mapping[str, Callable[[Place], EnrichStep | None]] = {
    "set": _set,
    "lookup": _lookup,
    "rename": _rename,
    "derive": _derive,
    "drop": _drop,
}
