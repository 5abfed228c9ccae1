"""A rule judges a value and a column alike."""

import sys
from calendar import isleap
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_platform.domain.contract import WHITE_SPACE, Field, Kind
from ingest_platform.domain.timestamps import parse_instant
from ingest_platform.pipeline.rules import instants, rules_of

# Near the borders of the grammar: each part from a few texts, good and bad.
YEARS = st.sampled_from(
    ["0000", "0001", "0002", "1582", "1900", "1969", "2000", "2024", "2026", "9998", "9999", "20261"]
)
MONTHS = st.sampled_from(["00", "01", "02", "06", "12", "13", "1"])
DAYS = st.sampled_from(["00", "01", "28", "29", "30", "31", "32", "1"])
LETTERS = st.sampled_from(["T", "t", " ", "", "T ", "_"])
CLOCKS = st.sampled_from(
    [
        "00:00:00",
        "23:59:59",
        "23:59:60",
        "24:00:00",
        "12:60:00",
        "01:02",
        "1:02:03",
        "12:00:00",
        "00:00:01",
        "１２:00:00",
    ]
)
FRACTIONS = st.one_of(
    st.sampled_from(["", ".", ".0", ".999999999", ".9999999999", ".1234567", ".000000999", ",5"]),
    st.text("0123456789", min_size=1, max_size=9).map(".{}".format),
)
ZONES = st.sampled_from(
    [
        "Z",
        "z",
        "",
        "+00:00",
        "-00:00",
        "+23:59",
        "-23:59",
        "+24:00",
        "+02:60",
        "+0200",
        "+02",
        " Z",
        "Z\n",
        " UTC",
        "+2:00",
    ]
)
NEAR_TIMESTAMPS = st.builds(
    lambda year, month, day, letter, clock, fraction, zone: f"{year}-{month}-{day}{letter}{clock}{fraction}{zone}",
    YEARS, MONTHS, DAYS, LETTERS, CLOCKS, FRACTIONS, ZONES,
)  # fmt: skip
WRITTEN = st.datetimes(timezones=st.just(UTC)).map(lambda instant: instant.isoformat().replace("+00:00", "Z"))


def as_column(texts: list[str]) -> list[datetime | None]:
    return instants(pl.Series("t", texts, dtype=pl.String)).to_list()


@given(st.lists(st.one_of(NEAR_TIMESTAMPS, WRITTEN, st.text()), max_size=20))
@example(["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59.9999999-00:01", "0000-12-31T23:59:59-23:59"])
@example(["1969-12-31T23:59:59.9999999Z", "0001-01-01T00:00:00.0000009z", "0000-02-29T00:00:00Z"])
def test_a_column_of_timestamps_is_read_like_each_of_them(texts: list[str]) -> None:
    assert as_column(texts) == [parse_instant(text) for text in texts]


@given(
    st.integers(0, 9),
    st.lists(st.one_of(NEAR_TIMESTAMPS, st.datetimes().map(lambda at: at.isoformat(timespec="seconds"))), min_size=1),
)
@example(9, ["0001-01-01T00:00:00", "9999-12-31T23:59:59", "0000-12-31T23:59:59", "2026-02-30T00:00:00"])
@example(0, ["2026-05-06t10:15:00", "2026-05-06T10:15:00"])
def test_a_column_of_one_form_is_read_like_each_of_them(digits: int, texts: list[str]) -> None:
    """What machines write has one length and ends in Z, and is read in a way of its own."""
    fraction = "." + "9876543210"[:digits] if digits else ""
    column = [f"{text[:19]}{fraction}Z" for text in texts]
    assert as_column(column) == [parse_instant(text) for text in column]


def test_the_usual_form_knows_the_calendar_of_every_year() -> None:
    texts = [
        f"{year:04}-{month:02}-{day:02}T23:59:59Z"
        for year in range(1, 10_000)
        for month in (2, 4, 12)
        for day in (28, 29, 30, 31)
    ]
    usual = instants(pl.Series("t", texts))
    # A last one of another length is enough for the general reader to read them all.
    general = instants(pl.Series("t", [*texts, "2026-01-01T00:00:00.5Z"]))[:-1]
    assert usual.equals(general, null_equal=True)
    leap_years = sum(isleap(year) for year in range(1, 10_000))
    assert usual.null_count() == 4 * 9_999 - leap_years


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (Field(name="a", kind=Kind.STRING, length_max=3), ["", "abc", "äöü", "😀😀😀"], ["abcd", "😀😀😀😀"]),
        (Field(name="a", kind=Kind.STRING, pattern="^a|b$"), ["a", "b"], ["", "ab", "a\n", "b\n", "xa"]),
        (
            Field(name="a", kind=Kind.STRING, blank_allowed=False),
            ["a", " a ", "\u200b", "\x00"],
            ["", " ", "\t\n\r", WHITE_SPACE, *WHITE_SPACE],
        ),
        (Field(name="a", kind=Kind.STRING, choices=("p1", "p2")), ["p1", "p2"], ["", "P1", "p1 "]),
    ],
)
def test_a_rule_judges_a_value_and_a_column_alike(field: Field, good: list[str], bad: list[str]) -> None:
    (rule,) = rules_of(field)
    assert [rule.keeps(text) for text in good + bad] == [True] * len(good) + [False] * len(bad)
    column = pl.DataFrame({"a": good + bad}).select(rule.column(pl.col("a")))
    assert column["a"].to_list() == [True] * len(good) + [False] * len(bad)


def test_white_space_is_what_python_strips() -> None:
    assert [each for each in map(chr, range(sys.maxunicode + 1)) if each.isspace()] == sorted(WHITE_SPACE)


def test_rules_come_in_the_order_in_which_faults_are_reported() -> None:
    field = Field(name="a", kind=Kind.STRING, length_max=1, pattern="^[a-z]+$", choices=("a",))
    assert [rule.problem.code for rule in rules_of(field)] == ["too_long", "invalid_format", "invalid_choice"]
