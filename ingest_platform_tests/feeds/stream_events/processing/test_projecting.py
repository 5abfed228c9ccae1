"""What is decoded of an event is what it has at the paths that are asked for."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import Path
from ingest_platform.feeds.stream_events.processing.projecting import projection, standing_at
from ingest_platform_tests.feeds.stream_events.processing.events import EVENTS, PATHS, at


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, max_size=4), st.frozensets(PATHS, min_size=1, max_size=4))
def test_a_projection_has_the_same_values(events: list[dict[str, object]], paths: frozenset[Path]) -> None:
    projected = projection(paths)([json.dumps(event) for event in events])
    for path in paths:
        assert [at(event, path) for event in projected] == [at(event, path) for event in events]
        stands, within_lists = standing_at(projected, path)
        assert (stands.tolist(), within_lists.tolist()) == tuple(found.tolist() for found in standing_at(events, path))


def test_what_stands_at_a_path_is_told_from_what_a_list_may_have() -> None:
    events: list[dict[str, object]] = [{"a": {"b": None}}, {"a": [{"b": 1}]}, {"a": 1}, {}, {"a": {"c": 1}}]
    stands, within_lists = standing_at(events, ("a", "b"))
    assert stands.tolist() == [True, False, False, False, False]
    assert within_lists.tolist() == [False, True, False, False, False]
