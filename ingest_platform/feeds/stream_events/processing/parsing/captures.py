r"""Patterns on whole columns of texts: the groups that they capture, as members. How grok is written: `grok.py`.

The expressions are those of Rust's `regex`, without looking round and without back references, so that the time is
linear in the text whatever the text is: texts come from clients.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique

import polars as pl

from ingest_platform.feeds.stream_events.language.fault import RuleFault
from ingest_platform.feeds.stream_events.language.regexes import check_regex
from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted
from ingest_platform.feeds.stream_events.processing.paths import Document, objects_at

# The time is the product of the text's length and the pattern's; of longer texts a pattern is no fitting form.
TEXT_BYTES_MAX = 65_536
PATTERN_CHARACTERS_MAX = 10_000
CAPTURES_MAX = 200
FIELD_CHARACTERS_MAX = 200


class WrongPattern(Exception):
    """A pattern that can't be used; the message says why."""


@unique
class Conversion(StrEnum):
    """What a captured text becomes, if not a text."""

    INT = "int"
    FLOAT = "float"


_TYPES: Mapping[Conversion, type[pl.DataType]] = {Conversion.INT: pl.Int64, Conversion.FLOAT: pl.Float64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A group of an expression and the field that its text is for; `a.b` is the member b of an object a."""

    group: str
    field: str
    conversion: Conversion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Captures:
    """An expression and what it captures. Of several groups for one field the first that took part counts."""

    expression: str
    captures: tuple[Capture, ...]


def groups_of(expression: str) -> list[str]:
    """List the names of an expression's named groups. Raises WrongPattern if it can't be compiled, or would be slow."""
    try:
        check_regex(expression, 1)
    except RuleFault as fault:
        # What is refused is said by whoever names the pattern's place.
        raise WrongPattern(fault.message.removeprefix("the regular expression is refused: ")) from None
    found = pl.Series([""], dtype=pl.String).str.extract_groups(expression).struct.fields
    # Groups without a name are named by their number.
    return [name for name in found if not name.isdigit()]


def checked(captures: Captures) -> Captures:
    """Make sure of names and numbers. Raises WrongPattern."""
    if not captures.captures:
        raise WrongPattern("captures nothing: it needs a named group, (?<name>…), or in grok %{PATTERN:name}")
    if len(captures.captures) > CAPTURES_MAX:
        raise WrongPattern(f"captures {len(captures.captures)} groups; at most {CAPTURES_MAX} are allowed")
    fields = {each.field for each in captures.captures}
    for field in sorted(fields):
        if len(field) > FIELD_CHARACTERS_MAX or not all(field.split(".")):
            raise WrongPattern(f"{field[:FIELD_CHARACTERS_MAX]} is no name of a field: name, or outer.inner")
        if any(other.startswith(f"{field}.") for other in fields):
            raise WrongPattern(f"{field} can't be a text and an object with members at once")
    return captures


def extract(texts: Sequence[str], captures: Captures) -> Iterator[Lifted]:
    """Capture groups of texts; None for a text that does not match, or whose number is none."""
    column = pl.Series("text", texts, dtype=pl.String)
    long = column.str.len_bytes() > TEXT_BYTES_MAX
    if long.any():
        column = column.set(long, None)
    groups = column.str.extract_groups(captures.expression).struct.unnest()
    good = _matches(column, groups, captures)
    fields = groups.select(_texts_of(captures))
    values = fields.with_columns(_conversions(captures))
    if values.null_count().row(0) != fields.null_count().row(0):
        good &= (
            (values.select(pl.all().is_null()) == fields.select(pl.all().is_null()))
            .select(pl.all_horizontal(pl.all()))
            .to_series()
        )
    return _rows(values, good, nested=any("." in each.field for each in captures.captures))


def _texts_of(captures: Captures) -> Iterator[pl.Expr]:
    for field in dict.fromkeys(each.field for each in captures.captures):
        groups = [each.group for each in captures.captures if each.field == field]
        yield pl.coalesce(groups).alias(field)


def _conversions(captures: Captures) -> Iterator[pl.Expr]:
    """Convert; what is no such number (or too large for one) becomes null."""
    for field, conversion in {each.field: each.conversion for each in captures.captures}.items():
        if conversion is not None:
            number = pl.col(field).cast(_TYPES[conversion], strict=False)
            yield pl.when(number.is_finite()).then(number) if conversion is Conversion.FLOAT else number


def _matches(column: pl.Series, groups: pl.DataFrame, captures: Captures) -> pl.Series:
    """Tell which texts match: those of which a group took part; it may be that none had to."""
    if any(groups[each.group].null_count() == 0 for each in captures.captures):
        return pl.repeat(value=True, n=column.len(), eager=True)
    taken = groups.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    if taken.all():
        return taken
    return taken | column.str.contains(captures.expression).fill_null(value=False)


def _rows(values: pl.DataFrame, good: pl.Series, *, nested: bool) -> Iterator[Lifted]:
    names = values.columns
    rows = zip(*(values[name].to_list() for name in names), strict=True)
    lifted: Iterator[Lifted]
    if nested:
        lifted = (_nested(_given(names, row)) for row in rows)
    elif sum(values.null_count().row(0)):
        lifted = (_given(names, row) for row in rows)
    else:
        lifted = (zip(names, row, strict=True) for row in rows)
    return lifted if good.all() else (each if fits else None for each, fits in zip(lifted, good.to_list(), strict=True))


def _given(names: Sequence[str], row: Sequence[object]) -> dict[str, object]:
    """Leave out the groups that took no part."""
    return {name: value for name, value in zip(names, row, strict=True) if value is not None}


def _nested(given: Mapping[str, object]) -> Document:
    members: Document = {}
    for field, value in given.items():
        *parents, name = field.split(".")
        objects_at([members], parents)[0][name] = value
    return members
