"""Values are hidden so that what is shown tells nothing more than was asked for."""

import base64
import hmac

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import Detector, How, Mask
from ingest_platform.feeds.stream_events.processing.hiding import hiding_of, mask_key, partial, tokens

KEY = mask_key(b"k" * 32)


@given(st.lists(st.text(), max_size=5), st.binary(min_size=1, max_size=64))
def test_tokens_are_those_of_hmac(values: list[str], secret: bytes) -> None:
    key = mask_key(secret)
    digests = [hmac.digest(secret, value.encode(), "sha256") for value in values]
    expected = [f"hmac:{key.id}:{base64.urlsafe_b64encode(digest).decode()[:22]}" for digest in digests]
    assert tokens(pl.Series(values, dtype=pl.String), key).to_list() == expected


def test_another_key_makes_other_tokens_under_another_id() -> None:
    value, other = pl.Series(["ann"]), mask_key(b"l" * 32)
    one, two = tokens(value, KEY)[0], tokens(value, other)[0]
    assert one.split(":")[1] == KEY.id != other.id == two.split(":")[1]
    assert one.split(":")[2] != two.split(":")[2]
    assert "k" * 32 not in repr(KEY)


@given(st.text(), st.integers(min_value=0, max_value=10))
def test_what_is_partly_hidden_shows_its_end_at_most_and_never_more_than_half(value: str, keep_last: int) -> None:
    (shown,) = partial(pl.Series([value]), keep_last=keep_last).to_list()
    assert len(shown) == len(value)
    kept = keep_last if len(value) >= 2 * keep_last else 0
    assert shown == "*" * (len(value) - kept) + value[len(value) - kept :]


@pytest.mark.parametrize(
    ("mask", "whole"),
    [
        (Mask(field=("event", "x"), how=How.REDACT), "[redacted]"),
        (Mask(detector=Detector.EMAIL, how=How.REDACT), "[redacted email]"),
        (Mask(field=("event", "x"), how=How.PARTIAL, keep_last=4), "****"),
        (Mask(field=("event", "x"), how=How.REGEX, pattern="a", replacement="b"), "****"),
    ],
)
def test_what_is_no_text_is_hidden_whole(mask: Mask, whole: str) -> None:
    hiding = hiding_of(mask, KEY)
    assert hiding.whole(["a", True]) == hiding.whole({}) == whole


def test_objects_that_say_the_same_have_the_same_token() -> None:
    hiding = hiding_of(Mask(field=("event", "x"), how=How.HASH), KEY)
    assert hiding.whole({"a": 1, "b": [True]}) == hiding.whole({"b": [True], "a": 1})
    assert hiding.whole({"a": 1}) != hiding.whole({"a": 2})


def test_what_a_pattern_finds_is_replaced_with_its_groups() -> None:
    mask = Mask(field=("event", "x"), how=How.REGEX, pattern=r"(\w+)@\w+", replacement="$1@…")
    assert hiding_of(mask, None).texts(pl.Series(["ann@host bob@host", "none"])).to_list() == ["ann@… bob@…", "none"]
