"""Fields of documents as typed columns: one for each type that occurs, exact whatever stands beside each other."""

import math

import polars as pl
import pytest

from ingest_platform.feeds.stream_events.language import columns_of
from ingest_platform.feeds.stream_events.language.columns import Kind, column_name


def _columns(values: list[object], *, chunk_documents: int = 4096) -> dict[str, list[object]]:
    """Make the columns of a field, by kind; Ellipsis is a missing one."""
    documents: list[dict[str, object]] = [{"event": {} if value is ... else {"x": value}} for value in values]
    frame = columns_of(documents, [("event", "x")], chunk_documents=chunk_documents)
    return {name.removeprefix("event.x:"): frame[name].to_list() for name in frame.columns}


def _without_empty_lists(columns: dict[str, list[object]]) -> dict[str, list[object]]:
    return {kind: [None if value == [] else value for value in column] for kind, column in columns.items()}


@pytest.mark.parametrize("chunk_documents", [1, 2, 4096])
@pytest.mark.parametrize(
    ("values", "columns"),
    [
        (["a", None, ..., "b"], {"string": ["a", None, None, "b"]}),
        ([1, 2.5, None], {"number": [1.0, 2.5, None]}),
        ([True, ..., False], {"boolean": [True, None, False]}),
        ([1, True, "1"], {"boolean": [None, True, None], "number": [1, None, None], "string": [None, None, "1"]}),
        ([{}, {"x": 1}], {"object": [True, True]}),
        ([[], ["a", None]], {"list": [0, 2], "list.string": [[], ["a"]]}),
        (
            [False, 0, "", ...],
            {"boolean": [False, None, None, None], "number": [None, 0, None, None], "string": [None, None, "", None]},
        ),
        (
            [["a", 1, True, None, []], None, [2]],
            {
                "list": [5, None, 1],
                "list.string": [["a"], None, []],
                "list.number": [[1], None, [2]],
                "list.boolean": [[True], None, []],
            },
        ),
        ([..., None], {"null": [None, None]}),
        ([10**400, -(10**400), 0.5], {"number": [math.inf, -math.inf, 0.5]}),
        ([2**53 + 1, 2**64 + 2**11 + 1], {"number": [float(2**53 + 1), float(2**64 + 2**11 + 1)]}),
        (["a\ud800", "b"], {"string": ["a?", "b"]}),
    ],
)
def test_a_field_is_a_column_for_each_type_that_occurs(
    values: list[object], columns: dict[str, list[object]], chunk_documents: int
) -> None:
    made = _columns(values, chunk_documents=chunk_documents)
    # Where a list has no elements of a kind, it may be null there as well.
    assert _without_empty_lists(made) == _without_empty_lists(columns)


@pytest.mark.parametrize("event", [None, "text", 5, [{"x": 1}]])
def test_what_is_below_no_object_is_missing(event: object) -> None:
    frame = columns_of([{"event": event}, {}], [("event", "x"), ("event", "x", "y")])
    assert [column.dtype for column in frame] == [pl.Null, pl.Null]


def test_texts_of_timestamp_are_instants_where_they_are_some() -> None:
    documents: list[dict[str, object]] = [{"timestamp": text} for text in ["2026-05-06T12:15:32+02:00", "noon", 5]]
    frame = columns_of(documents, [("timestamp",)])
    assert frame["timestamp:timestamp"].dt.to_string("iso").to_list() == [
        "2026-05-06 10:15:32.000000+00:00",
        None,
        None,
    ]
    assert frame["timestamp:string"].to_list() == [None, "noon", None]
    assert frame["timestamp:number"].to_list() == [None, None, 5]


def test_a_frame_is_as_high_as_there_are_documents() -> None:
    assert columns_of([{}, {}], []).height == 2
    assert columns_of([], [("event", "x")]).height == 0


def test_odd_members_have_columns_of_their_own() -> None:
    paths = [("a", "b"), ("a.b",), ('a"."b',), ("a", 'b":string')]
    assert len({column_name(path, kind) for path in paths for kind in Kind}) == len(paths) * len(Kind)
