"""Objects within records, many at once: which of them need an exact look, because a decoder lets too much pass.

What is wrong with those is said in `records.py`.
"""

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ingest_platform.pipeline.records import DECODE_ERRORS, DEPTH_MAX

count_quotes = operator.methodcaller("count", b'"')
_count_braces = operator.methodcaller("count", b"{")
_count_brackets = operator.methodcaller("count", b"[")
# An escape may be of half a character, or of a quote; an integer that no int64 holds is decoded, and is so long.
_odd = re.compile(rb"\\|[0-9]{19}").finditer
_LONG = b"0" * 19
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at objects found: the places of the unsure ones, and how many quotes all of them have."""

    unsure: Sequence[int]
    quotes: int


def look_at(objects: Sequence[bytes]) -> Look:
    r"""Find those that may be no objects, have repeated keys, unfit numbers or odd escapes, or be too deep in a record.

    Of the others that is sure. All are looked at together, and one by one only if there is something to be found.

    >>> look_at([b'{"a":1,"b":{"a":2}}', b'{"a":1,"a":1}', b'{"a":1e999}', b'{"a":"\\ud800"}', b"null"]).unsure
    [1, 2, 3, 4]
    """
    joined = b"\n".join(objects)
    quotes = joined.count(b'"')
    again, undecodable = _again(objects)
    found = {*_written_oddly(objects, joined), *_deep(objects, joined), *undecodable}
    # A key that is repeated is lost when its object is decoded, and its quotes with it. If some are odd, what one loses
    # another may gain.
    if found or quotes != b"".join(again).count(b'"'):
        pairs = zip(map(count_quotes, objects), map(count_quotes, again), strict=True)
        found.update(place for place, (before, after) in enumerate(pairs) if before != after)
    return Look(unsure=sorted(found), quotes=quotes)


def _again(objects: Sequence[bytes]) -> tuple[list[bytes], list[int]]:
    """Decode and encode each; what can't be decoded is left as it is, and its place told."""
    again: list[bytes] = []
    undecodable: list[int] = []
    rest = iter(objects)
    while True:
        try:
            again.extend(map(_encode, map(_decode, rest)))
        except DECODE_ERRORS:
            undecodable.append(len(again))
            again.append(objects[len(again)])
        else:
            return again, undecodable


def _written_oddly(objects: Sequence[bytes], joined: bytes) -> Sequence[int]:
    """Find those that need not be what they are decoded to."""
    # A tenth of the regular expression's time, and mostly enough.
    if b"\\" not in joined and _LONG not in joined.translate(_DIGITS_ALIKE):
        return ()
    ends = np.cumsum(np.fromiter(map(len, objects), dtype=np.int64, count=len(objects)) + 1)
    starts = np.fromiter((match.start() for match in _odd(joined)), dtype=np.int64)
    return np.unique(np.searchsorted(ends, starts, side="right")).tolist()


def _deep(objects: Sequence[bytes], joined: bytes) -> Sequence[int]:
    """Find those with so many brackets that they may be nested too deeply; the record itself is a level."""
    most = DEPTH_MAX - 1
    if joined.count(b"{") + joined.count(b"[") - len(objects) < most:
        return ()
    braces, brackets = (
        np.fromiter(map(count, objects), dtype=np.int64, count=len(objects))
        for count in (_count_braces, _count_brackets)
    )
    return np.flatnonzero(braces + brackets > most).tolist()
