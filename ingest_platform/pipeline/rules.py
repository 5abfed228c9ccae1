"""The rules that a value of the right JSON type must keep, each for one value and for a whole column, side by side.

Which JSON types a field takes is `records.py`'s business. Messages never quote a value: they are few, so that a million
rejections share them.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from ingest_platform.domain.contract import WHITE_SPACE, Field, Kind
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.domain.timestamps import MICROSECOND_DIGITS, PATTERN, parse_instant

# Microseconds since 1970 of 0001-01-01T00:00:00Z and of 9999-12-31T23:59:59.999999Z.
INSTANT_MIN = -62_135_596_800_000_000
INSTANT_MAX = 253_402_300_799_999_999
# Up to here every integer is a double.
EXACT_INTEGER_MAX = 2**53
# Numbers at least this large may have been integers that an int64 can't hold; their text decides.
_INTEGER_DOUBT = 2.0**63
_SECONDS = len("2026-01-01T00:00:00")
INSTANT_TYPE = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule on a field's value. `keeps` judges one value, `column` makes the expression that judges them all.

    The expression reads the column of the field's name as it was sent, that of a timestamp as it was read.
    """

    problem: Problem
    keeps: Callable[[str], bool]
    column: Callable[[pl.Expr], pl.Expr]


# Contracts are few, and so are the words about them; the bound is for datasets that come and go.
@functools.lru_cache(maxsize=8192)
def problem(code: str, field: str | None, message: str) -> Problem:
    """Make a problem, the same object for the same words."""
    return Problem(code=Code(code).value, field=field, message=message)


def rules_of(field: Field) -> tuple[Rule, ...]:
    """List a field's rules in the order in which faults are reported."""
    rules: list[Rule] = []
    if field.kind is Kind.TIMESTAMP:
        rules.append(_timestamp_rule(field))
    if not field.blank_allowed:
        rules.append(_blank_rule(field))
    if field.length_max is not None:
        rules.append(_length_rule(field, field.length_max))
    if field.pattern is not None:
        rules.append(_pattern_rule(field, field.pattern))
    if field.choices:
        rules.append(_choices_rule(field))
    return tuple(rules)


def integer_doubt(field: Field) -> float:
    """Tell from which size on a number of a field may have been an integer that the field does not take.

    That of the text decides then: as a double, 2^53 + 1 is 2^53.
    """
    return float(EXACT_INTEGER_MAX) if field.exact_integers else _INTEGER_DOUBT


def instants(sent: pl.Series) -> pl.Series:
    """Read sent timestamps as instants; null where `parse_instant` gives None.

    The pattern keeps out what `%+` takes besides (blanks, second 60, dates without zeros); `%+` knows the calendar, and
    truncates to microseconds. It takes an upper-case T and Z as well as lower-case ones.

    No expression: Python that Polars calls back from its threads waits for the interpreter's lock, which another thread
    may hold that waits for those threads. Two feeds that are worked in one process stood still for that.
    """
    column = pl.col(sent.name)
    # The year 0000 has an instant in 0001 when its zone is west enough, but is no year of the grammar.
    shaped = pl.when(column.str.contains(PATTERN) & ~column.str.starts_with("0000")).then(column).alias(sent.name)
    return _read(sent.to_frame().select(shaped).to_series())


def _read(shaped: pl.Series) -> pl.Series:
    """Read texts of the grammar: the usual form in a quarter of the time, whatever it leaves by the general reader."""
    read = _read_usual(shaped)
    left = shaped if read is None else shaped.zip_with(read.is_null(), pl.Series([None], dtype=pl.String))
    if read is None or left.null_count() < len(left):
        read_left = left.str.to_datetime("%+", strict=False, time_unit="us", time_zone="UTC", cache=False)
        read = read_left if read is None else read.zip_with(read.is_not_null(), read_left)
    within = read.to_physical().is_between(INSTANT_MIN, INSTANT_MAX)
    return read if within.all() else read.zip_with(within.fill_null(value=False), pl.Series([None], dtype=read.dtype))


def _read_usual(shaped: pl.Series) -> pl.Series | None:
    """Read a column of one length that ends in Z throughout, as programs write it; None if it is none."""
    length = shaped.str.len_bytes()
    least = length.min()
    if not isinstance(least, int) or least != length.max() or not shaped.str.ends_with("Z").all():
        return None
    read = shaped.str.head(_SECONDS).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S", strict=False, time_unit="us", time_zone="UTC", cache=False
    )
    digits = min(least - _SECONDS - len(".Z"), MICROSECOND_DIGITS)
    if digits <= 0:
        return read
    fraction = shaped.str.slice(_SECONDS + 1, digits).cast(pl.Int64) * 10 ** (MICROSECOND_DIGITS - digits)
    return (read.to_physical() + fraction).cast(read.dtype)


def _timestamp_rule(field: Field) -> Rule:
    message = (
        f"{field.name} must be an RFC 3339 date-time with seconds and a zone, in the years 0001 to 9999, "
        "such as 2026-05-06T10:15:00Z."
    )
    return Rule(
        problem=problem(Code.INVALID_TIMESTAMP, field.name, message),
        keeps=lambda text: parse_instant(text) is not None,
        # Of the instants: the frame check has read them.
        column=lambda column: column.is_not_null(),
    )


def _blank_rule(field: Field) -> Rule:
    return Rule(
        problem=problem(Code.MISSING_FIELD, field.name, f"{field.name} must not be blank."),
        keeps=lambda text: text.strip(WHITE_SPACE) != "",
        column=lambda column: column.str.strip_chars(WHITE_SPACE) != "",
    )


def _length_rule(field: Field, length_max: int) -> Rule:
    return Rule(
        problem=problem(Code.TOO_LONG, field.name, f"{field.name} may have at most {length_max} characters."),
        keeps=lambda text: len(text) <= length_max,
        column=lambda column: column.str.len_chars() <= length_max,
    )


def _pattern_rule(field: Field, pattern: str) -> Rule:
    matches = re.compile(pattern).fullmatch
    return Rule(
        problem=problem(Code(field.pattern_code), field.name, f"{field.name} must match {pattern}."),
        keeps=lambda text: matches(text) is not None,
        column=lambda column: column.str.contains(f"^(?:{pattern})$"),
    )


def _choices_rule(field: Field) -> Rule:
    choices = frozenset(field.choices)
    return Rule(
        problem=problem(Code.INVALID_CHOICE, field.name, f"{field.name} must be one of {', '.join(field.choices)}."),
        keeps=lambda text: text in choices,
        column=lambda column: column.is_in(list(field.choices)),
    )
