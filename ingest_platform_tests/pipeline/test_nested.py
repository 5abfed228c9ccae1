"""Of an object that is not named for a second look, the exact look finds nothing, whatever it lies among."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.pipeline.nested import look_at
from ingest_platform.pipeline.records import DEPTH_MAX, reader_of

READER = reader_of(Contract(name="objects", fields=(Field(name="o", kind=Kind.OBJECT),), extra_allowed=False))
PLAIN = b'{"a": 1.50, "b": [{"a": "x"}, null, true]}'
ODD = [
    b"null",
    b"[{}]",
    b'{"a":1,"a":1}',
    b'{"a":{"b":[{"c":1,"c":2}]}}',
    b'{"a":1,"\\u0061":2}',
    b'{"a":1e999}',
    b'{"a":[9223372036854775808]}',
    b'{"a":-9223372036854775809}',
    b'{"a":"\\ud800"}',
    b'{"a":' * (DEPTH_MAX - 1) + b"{}" + b"}" * (DEPTH_MAX - 1),
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b'{"a":' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}",
]
# The second gains as many quotes as the first loses.
CANCELLING = [b'{"a":1,"a":2}', b'{"a":"\\u0022\\u0022"}']
names = st.sampled_from(["a", "b", "é", '"', "\\", ",:{}[]"])
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=2**63 - 2, max_value=2**64 + 2),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.sampled_from(["1234567890123456789", "[[[[", "{", "\ud800"]),
    ),
    lambda inner: st.one_of(st.lists(inner), st.lists(st.tuples(names, inner)).map(dict)),
)


def unsure(texts: list[bytes]) -> list[int]:
    found = look_at(texts)
    assert found.quotes == sum(text.count(b'"') for text in texts)
    return list(found.unsure)


def exact(texts: list[bytes]) -> list[int]:
    return [place for place, text in enumerate(texts) if READER.problems(b'{"o":' + text + b"}")]


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    ascii_only, indent = draw(st.booleans()), draw(st.sampled_from([None, None, 1]))

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    members = draw(st.lists(st.tuples(names, values), max_size=4))
    # Written by hand, so that keys may be repeated.
    return ("{" + ",".join(f"{text(key)}:{text(value)}" for key, value in members) + "}").encode(errors="replace")


@given(st.lists(objects(), max_size=8))
def test_whatever_is_wrong_is_among_the_unsure(texts: list[bytes]) -> None:
    assert set(exact(texts)) <= set(unsure(texts))


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_an_odd_object_is_found_among_plain_ones_and_alone(odd: bytes) -> None:
    assert unsure([odd]) == [0] == exact([odd])
    assert unsure([PLAIN] * 70 + [odd, PLAIN]) == [70]


def test_what_one_object_gains_does_not_hide_what_another_loses() -> None:
    assert unsure(CANCELLING) == [0, 1]


@pytest.mark.parametrize(
    "plain",
    [
        PLAIN,
        b"{}",
        b'{"a": 123456789012345678}',
        b'{"a":\n{"b": "{{{"}}',
        '{"é": "\u2028"}'.encode(),
        b'{"a":' * (DEPTH_MAX - 2) + b"{}" + b"}" * (DEPTH_MAX - 2),
    ],
)
def test_a_plain_object_is_sure(plain: bytes) -> None:
    assert unsure([plain, PLAIN] * 40) == []


def test_there_may_be_none() -> None:
    assert unsure([]) == []
