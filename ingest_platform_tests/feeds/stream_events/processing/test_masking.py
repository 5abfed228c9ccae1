"""Events are masked in their text as they are one by one, and nothing that is looked for is left in them."""

import copy
import itertools
import json
from pathlib import Path as File

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import Detector, How, Mask
from ingest_platform.feeds.stream_events.processing import walking
from ingest_platform.feeds.stream_events.processing.flat import decode, flatten
from ingest_platform.feeds.stream_events.processing.hiding import mask_key
from ingest_platform.feeds.stream_events.processing.masking import Masker
from ingest_platform_tests.feeds.stream_events.processing.events import CANARIES, EVENTS, MASKS

KEY = mask_key(bytes(32))
EVERYTHING = tuple(Mask(detector=detector, how=How.REDACT) for detector in Detector)
Event = dict[str, object]
# As clients write JSON: compact, with blanks, with everything escaped, over several lines.
WRITTEN = st.sampled_from(
    [
        {"separators": (",", ":"), "ensure_ascii": False},
        {"ensure_ascii": False},
        {"ensure_ascii": True},
        {"indent": 1},
    ]
)


def in_text(events: list[Event], masks: tuple[Mask, ...], **written: object) -> list[str]:
    flat = flatten(pl.Series([json.dumps(event, **written) for event in events], dtype=pl.String))
    before = flat.json().to_list()
    changed = Masker(masks=masks, key=KEY).apply(flat)
    texts = flat.json().to_list()
    if all(mask.field is None for mask in masks):
        pairs = zip(before, texts, changed, strict=True)
        assert all(told for one, other, told in pairs if json.loads(one) != json.loads(other))
    return texts


def one_by_one(events: list[Event], masks: tuple[Mask, ...]) -> list[Event]:
    events = copy.deepcopy(events)
    for event, mask in itertools.product(events, masks):
        walking.mask_documents([event], mask, KEY)
    return events


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=3), MASKS, WRITTEN)
def test_both_ways_give_the_same_events(
    events: list[Event], masks: tuple[Mask, ...], written: dict[str, object]
) -> None:
    texts = in_text(events, masks, **written)
    assert [json.loads(text) for text in texts] == one_by_one(events, masks)
    assert decode(texts) == one_by_one(events, masks)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=3), WRITTEN, st.sampled_from([How.REDACT, How.HASH]))
def test_nothing_that_is_looked_for_is_seen_behind_the_masks(
    events: list[Event], written: dict[str, object], how: How
) -> None:
    masks = tuple(Mask(detector=detector, how=how) for detector in Detector)
    for text in in_text(events, masks, **written):
        seen = json.dumps(json.loads(text), ensure_ascii=False)
        for secret in itertools.chain(*CANARIES.values()):
            assert secret not in text
            assert secret not in seen
        assert "378282246310005" not in seen


def masked(event: Event, *masks: Mask) -> Event:
    (text,) = in_text([{"timestamp": "t", "source": "s", **event}], masks)
    read = json.loads(text)
    del read["timestamp"], read["source"]
    return read


def test_masks_hold_for_what_earlier_ones_produce() -> None:
    field = Mask(field=("event", "to"), how=How.REGEX, pattern="^", replacement="a@b.example ")
    email = Mask(detector=Detector.EMAIL, how=How.REDACT)
    assert masked({"event": {"to": "me"}}, field, email) == {"event": {"to": "[redacted email] me"}}
    assert masked({"event": {"to": "me"}}, email, field) == {"event": {"to": "a@b.example me"}}


def test_keys_that_become_the_same_stay_apart() -> None:
    event: Event = {"event": {"a@b.example": 1, "[redacted email]": 2, "c@d.example": 3}}
    expected = {"event": {"[redacted email] 2": 1, "[redacted email]": 2, "[redacted email] 3": 3}}
    assert masked(event, *EVERYTHING) == expected


def test_a_number_that_is_a_card_becomes_a_text() -> None:
    event: Event = {"event": {"a": 4111111111111111, "b": [-4111111111111111, 4111111111111112], "c": 0.5}}
    expected = {"event": {"a": "[redacted card]", "b": ["-[redacted card]", 4111111111111112], "c": 0.5}}
    assert masked(event, *EVERYTHING) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"pan": "4111", "more": [1, {"x": None}]}, "[redacted]"),
        ([], "[redacted]"),
        (17, "[redacted]"),
        (False, "[redacted]"),
        ("", "[redacted]"),
        (None, None),
    ],
)
def test_a_masked_field_hides_whatever_it_is(value: object, expected: object) -> None:
    mask = Mask(field=("event", "card"), how=How.REDACT)
    assert masked({"event": {"card": value, "x": 1}}, mask) == {"event": {"card": expected, "x": 1}}


def test_a_pattern_reaches_into_an_object_and_its_keys() -> None:
    mask = Mask(field=("event", "card"), how=How.REGEX, pattern="[0-9]+", replacement="#")
    event: Event = {"event": {"card": {"k1": ["a1", 22, True], "k2": None}}}
    assert masked(event, mask) == {"event": {"card": {"k#": ["a#", "#", True], "k# 2": None}}}


def test_a_list_on_the_way_stands_for_what_is_in_it() -> None:
    mask = Mask(field=("event", "cards", "pan"), how=How.DROP)
    event: Event = {"event": {"cards": [{"pan": "1", "x": 1}, {"x": 2}, 3, [{"pan": "4"}]]}}
    assert masked(event, mask) == {"event": {"cards": [{"x": 1}, {"x": 2}, 3, [{}]]}}


@pytest.mark.parametrize("members", [["card"], ["card", "x"], ["x", "card"], ["x", "card", "y"]])
def test_a_dropped_field_leaves_valid_json(members: list[str]) -> None:
    mask = Mask(field=("event", "card"), how=How.DROP)
    event = dict.fromkeys(members, "4111")
    for written in ({"separators": (",", ":")}, {}, {"indent": 2}):
        (text,) = in_text([{"event": event, "card": "top"}, {"event": event}][1:], (mask,), **written)
        assert json.loads(text) == {"event": {name: "4111" for name in members if name != "card"}}


def test_the_name_of_a_field_elsewhere_is_another_field() -> None:
    mask = Mask(field=("event", "card"), how=How.REDACT)
    event: Event = {"event": {"kind": "card", "inner": {"card": "kept"}, "card": "4111"}, "card": "kept, too"}
    expected = {"event": {"kind": "card", "inner": {"card": "kept"}, "card": "[redacted]"}, "card": "kept, too"}
    assert masked(event, mask) == expected
    assert masked({"event": {"inner": {"card": "kept"}}}, mask) == {"event": {"inner": {"card": "kept"}}}


def test_naughty_strings_come_through(shared: File) -> None:
    path = shared / "corpus/big-list-of-naughty-strings/blns.json"
    if not path.exists():
        pytest.skip("the list of naughty strings is not beside this checkout")
    naughty: list[str] = json.loads(path.read_bytes())
    events: list[Event] = [{"event": {each or "empty": each, "m": f"a@b.example {each}"}} for each in naughty]
    masks = (*EVERYTHING, Mask(field=("event", "m"), how=How.PARTIAL, keep_last=3))
    texts = in_text(events, masks)
    assert [json.loads(text) for text in texts] == one_by_one(events, masks)
    assert not any("a@b.example" in text for text in texts)
