"""JSON in texts is read as strictly as JSON that is sent, and keeps its types."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.contract import Contract
from ingest_platform.feeds.stream_events.processing.parsing.json import lift
from ingest_platform.pipeline.records import DEPTH_MAX, reader_of

ANYTHING = Contract(name="anything", fields=(), extra_allowed=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-(2**66), max_value=2**66) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def read(text: str) -> object:
    (lifted,) = lift([text], within=0)
    return lifted


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ('{"a": 1, "b": [true, null, 1.5], "c": {"a": "x"}}', {"a": 1, "b": [True, None, 1.5], "c": {"a": "x"}}),
        (' {"a:b": ":", "c\\"d": "\\\\"}\n', {"a:b": ":", 'c"d': "\\"}),
        ('{"big": 9223372036854775807}', {"big": 2**63 - 1}),
        ('{"a": "😀 \\ud83d\\ude00"}', {"a": "😀 😀"}),
        ("{}", {}),
    ],
)
def test_objects_keep_their_types(text: str, members: object) -> None:
    assert read(text) == members


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain words",
        "[1]",
        '"text"',
        "null",
        '{"a": 1} x',
        '{"a": 1, "a": 1}',
        '{"x": [{"a": 1, "\\u0061": 2}]}',
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": 9223372036854775808}',
        '{"a": [-9223372036854775809]}',
        '{"a": "\\ud800"}',
        '{"a": "\\udc00x"}',
        '{"a":' * 100_000,
    ],
)
def test_what_the_platform_takes_from_nobody_is_not_lifted(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize("within", [0, 1, 5])
def test_nesting_is_counted_from_the_event(within: int) -> None:
    levels = DEPTH_MAX - within
    assert list(lift(['{"a":' * levels + "1" + "}" * levels], within=within)) != [None]
    assert list(lift(['{"a":' * levels + "[]" + "}" * levels], within=within)) == [None]


@given(st.text() | JSON.map(lambda value: msgspec.json.encode({"a": value}).decode()) | JSON.map(repr))
def test_a_text_is_lifted_if_and_only_if_it_would_be_a_good_record(text: str) -> None:
    lifted = read(text)
    assert (lifted is None) == bool(reader_of(ANYTHING).problems(text.encode()))
    if lifted is not None:
        assert lifted == msgspec.json.decode(text)
