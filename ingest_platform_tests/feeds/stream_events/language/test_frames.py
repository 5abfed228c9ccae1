"""Polars and plain Python agree on every expression, every event and every type fault."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.language import columns_of, compile_expression
from ingest_platform_tests.feeds.stream_events.language import row_by_row as rows
from ingest_platform_tests.feeds.stream_events.language.writing import (
    Written,
    about_lists,
    calculated,
    conditions,
    derived,
    documents,
)

# A first look by Polars takes its time on a machine that others use as well.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_frames = st.lists(documents, min_size=4, max_size=6)
_chunks = st.sampled_from([1, 2, 4096])


def _evaluated(text: str, events: list[rows.Document], *, chunk_documents: int) -> list[tuple[object, bool]]:
    expression = compile_expression(text)
    columns = columns_of(events, expression.paths, chunk_documents=chunk_documents)
    return expression.evaluate(columns).rows()


@settings(_patient, max_examples=400)
@given(conditions.filter(lambda written: written.text != "null"), _frames, _chunks)
def test_a_rule_is_for_a_frame_what_it_is_for_each_event(
    written: Written, events: list[rows.Document], chunk_documents: int
) -> None:
    # A field alone is taken as a condition.
    rule = rows.every([written.run])
    assert _evaluated(written.text, events, chunk_documents=chunk_documents) == [tuple(rule(each)) for each in events]


@settings(_patient, max_examples=200)
@given(about_lists, _frames, _chunks)
def test_a_list_contains_for_a_frame_what_it_contains_for_each_event(
    written: Written, events: list[rows.Document], chunk_documents: int
) -> None:
    expected = [tuple(written.run(each)) for each in events]
    assert _evaluated(written.text, events, chunk_documents=chunk_documents) == expected


@settings(_patient, max_examples=400)
@given(st.one_of(calculated, derived), _frames, _chunks)
def test_a_derived_value_is_for_a_frame_what_it_is_for_each_event(
    written: Written, events: list[rows.Document], chunk_documents: int
) -> None:
    expected = [tuple(written.run(each)) for each in events]
    assert _evaluated(written.text, events, chunk_documents=chunk_documents) == expected


@pytest.mark.parametrize("chunk_documents", [1, 2, 4096])
@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ('event.a contains "x"', [True, False, False, None, None, True, None, False]),
        ('"x" in event.a', [True, False, False, None, None, None, None, False]),
        ("event.a contains 1", [True, False, True, None, None, None, None, False]),
    ],
)
def test_a_list_contains_elements_of_the_same_type(text: str, answers: list[bool | None], chunk_documents: int) -> None:
    values = (["x", 1], [], [1, None, True], 5, None, "xy", {"x": 1}, [["x"]])
    events: list[rows.Document] = [{"event": {"a": each}} for each in values]
    missing = 4
    faults = [answer is None and place != missing for place, answer in enumerate(answers)]
    expected = list(zip(answers, faults, strict=True))
    assert _evaluated(text, events, chunk_documents=chunk_documents) == expected


@pytest.mark.parametrize(
    "text",
    [
        "event.a" + " + event.a" * 62 + " > 1",
        "1 / (" * 60 + "event.a" + ")" * 60 + " > 1",
        "not " * 62 + "event.a",
        "event.a and (event.b or (" * 31 + "event.a" + "))" * 31,
        "upper(" * 60 + "event.a" + ")" * 60 + ' == "x"',
        " or ".join(["event.a == event.b"] * 180),
        " and ".join(["event.a contains event.b"] * 140),
    ],
)
def test_what_is_nested_or_long_is_evaluated_in_little_time(text: str) -> None:
    """An expression that would stand twice in the next one, and so on, would never end."""
    events: list[rows.Document] = [{"event": {"a": a, "b": b}} for a in (1, "x", True, [1], None) for b in (2, "y", {})]
    began = time.process_time()
    _evaluated(text, events, chunk_documents=4096)
    assert time.process_time() - began < 5


def test_a_frame_without_events_has_no_answers() -> None:
    assert _evaluated('event.a == "x" and true', [], chunk_documents=4096) == []
