"""Polars and plain Python agree on every expression, every event and every type fault."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.language import columns_of, compile_expression
from ingest_platform_tests.feeds.stream_events.language import row_by_row as rows
from ingest_platform_tests.feeds.stream_events.language.writing import Written, conditions, derived, documents

_frames = st.lists(documents, min_size=1, max_size=5)


def _evaluated(text: str, events: list[rows.Document], *, chunk_documents: int) -> list[tuple[object, bool]]:
    expression = compile_expression(text)
    columns = columns_of(events, expression.paths, chunk_documents=chunk_documents)
    return expression.evaluate(columns).rows()


@settings(max_examples=400)
@given(conditions.filter(lambda written: written.text != "null"), _frames, st.sampled_from([1, 2, 4096]))
def test_a_rule_is_for_a_frame_what_it_is_for_each_event(
    written: Written, events: list[rows.Document], chunk_documents: int
) -> None:
    # A field alone is taken as a condition.
    rule = rows.every([written.run])
    assert _evaluated(written.text, events, chunk_documents=chunk_documents) == [tuple(rule(each)) for each in events]


@settings(max_examples=200)
@given(derived, _frames, st.sampled_from([1, 2, 4096]))
def test_a_derived_value_is_for_a_frame_what_it_is_for_each_event(
    written: Written, events: list[rows.Document], chunk_documents: int
) -> None:
    expected = [tuple(written.run(each)) for each in events]
    assert _evaluated(written.text, events, chunk_documents=chunk_documents) == expected
