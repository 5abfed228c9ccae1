"""Identifiers: ULIDs in lower case behind a prefix that says what they name."""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ULID_LENGTH = 26
# Two letters at once: each request makes two ids.
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_PAIR_SHIFTS = tuple(range(5 * (ULID_LENGTH - 2), -1, -10))
_PAIR_MASK = len(_PAIRS) - 1
_RANDOM_BYTES = 10
# Asking the kernel lets other threads run first, and waits for them; once in so many ids that does not matter.
_ASKED_TOGETHER = 256
_spare: list[bytes] = []
# A forked child must not hand out what its parent will.
os.register_at_fork(after_in_child=_spare.clear)


def encode_crockford(number: int, *, length: int) -> str:
    """Write a number in Crockford's base 32, lower case, padded on the left.

    >>> encode_crockford(32, length=3)
    '010'
    """
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def new_ulid() -> str:
    """Make a ULID: 48 bits of milliseconds and 80 random bits, so that ids sort by the time they were made."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 8 * _RANDOM_BYTES | int.from_bytes(_random())
    return "".join([_PAIRS[number >> shift & _PAIR_MASK] for shift in _PAIR_SHIFTS])


def _random() -> bytes:
    try:
        return _spare.pop()
    except IndexError:
        asked = os.urandom(_RANDOM_BYTES * _ASKED_TOGETHER)
    first, *rest = (asked[at : at + _RANDOM_BYTES] for at in range(0, len(asked), _RANDOM_BYTES))
    _spare.extend(rest)
    return first


def new_id(prefix: str) -> str:
    """Make an identifier: the prefix (with its underscore) and a ULID."""
    return prefix + new_ulid()


def is_id(text: str, *, prefix: str) -> bool:
    """Tell whether a text has the form of such an identifier.

    >>> is_id("job_01kqzcjrpyf27tge33jwvjhkff", prefix="job_")
    True
    >>> is_id("job_../etc/passwd", prefix="job_")
    False
    """
    ulid = text.removeprefix(prefix)
    return text.startswith(prefix) and len(ulid) == ULID_LENGTH and all(letter in _ALPHABET for letter in ulid)
