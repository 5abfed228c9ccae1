"""Flat text says the same as the JSON that it was made of."""

import json

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing import walking
from ingest_platform.feeds.stream_events.processing.flat import decode, encode, flatten

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Control characters, quotes and backslashes more often than by chance.
    | st.text()
    | st.text(alphabet='"\\\n\t\r\b\f\x00\x01\x02\x1fnu0ü€@'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


@given(st.lists(DOCUMENTS, max_size=5), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_events_come_back_from_flat_text(documents: list[dict[str, object]], ascii_only: bool, indent: str) -> None:  # noqa: FBT001
    sent = [json.dumps(document, ensure_ascii=ascii_only, indent=indent) for document in documents]
    flat = flatten(pl.Series(sent, dtype=pl.String))
    assert [json.loads(text) for text in flat.json()] == documents
    assert decode(flat.json().to_list()) == documents


@given(st.lists(DOCUMENTS, min_size=1, max_size=5))
def test_a_quote_in_flat_text_is_one_of_jsons_own(documents: list[dict[str, object]]) -> None:
    flat = flatten(encode(documents))
    for text, odd, document in zip(flat.texts, flat.odd, documents, strict=True):
        walking._collect(document, texts := set[str](), numbers=False)
        assert odd == any(taken in each for each in texts for taken in "\0\1\2")
        if not odd:
            assert "\\" not in text


@given(DOCUMENTS, DOCUMENTS)
def test_an_event_can_be_put_in_the_place_of_another(one: dict[str, object], other: dict[str, object]) -> None:
    flat = flatten(encode([one, one]))
    flat.replace(np.array([1]), [other])
    assert decode(flat.json().to_list()) == [one, other]
    assert flat.documents(np.array([1])) == [other]


def test_numbers_are_written_in_one_way_only() -> None:
    sent = pl.Series(['{"a":4.111111111111111e15}', '{"a":[1E2]}', '{"a":"1e5"}', '{"a": "f00e5", "b":1.50}'])
    assert flatten(sent).json().to_list() == ['{"a":4111111111111111.0}', '{"a":[100.0]}', sent[2], sent[3]]
