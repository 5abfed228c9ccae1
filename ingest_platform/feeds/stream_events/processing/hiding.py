"""How values are masked once they were found: texts in, texts out. Where values are found is not known here."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import polars as pl

from ingest_platform.feeds.stream_events.declaration.pipeline import PARTIAL_KEEPS, How, Mask

# 22 characters of base64 are 132 bits: two values with one token are not to be feared.
TOKEN_CHARACTERS = 22
# What those are made of, up to a multiple of three bytes, which are four characters.
_DIGEST_BYTES = 18
_BLOCK_BYTES = 64
_WRITTEN_CHARACTERS = _DIGEST_BYTES // 3 * 4
_KEY_ID_CHARACTERS = 8
STAR = "*"
# Of what has no last characters: an object, true.
ALL_STARS = STAR * 4

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskKey:
    """The key of a workspace by which tokens are made; its id tells tokens of another key apart."""

    id: str
    secret: bytes = field(repr=False)


def mask_key(secret: bytes) -> MaskKey:
    """Give a key its id, which is derived from it.

    >>> mask_key(bytes(32)).id
    '66687aad'
    """
    return MaskKey(id=hashlib.sha256(secret).hexdigest()[:_KEY_ID_CHARACTERS], secret=secret)


def tokens(values: pl.Series, key: MaskKey) -> pl.Series:
    """Make the tokens of values: the same for the same value and key, and they do not tell the values.

    >>> tokens(pl.Series(["4111"]), mask_key(bytes(32)))[0]
    'hmac:66687aad:SOPzGPN2x-HGD4oOWvnopT'
    """
    digests = b"".join([digest[:_DIGEST_BYTES] for digest in _digests(values.to_list(), key.secret)])
    # All are written at once, in rows of as many characters.
    characters = np.frombuffer(base64.urlsafe_b64encode(digests), dtype=np.uint8).reshape(
        len(values), _WRITTEN_CHARACTERS
    )
    written = np.ascontiguousarray(characters[:, :TOKEN_CHARACTERS]).tobytes().decode()
    starts = range(0, len(written), TOKEN_CHARACTERS)
    prefix = f"hmac:{key.id}:"
    return pl.Series([prefix + written[start : start + TOKEN_CHARACTERS] for start in starts], dtype=pl.String)


def _digests(values: Sequence[str], secret: bytes) -> list[bytes]:
    """Give the HMAC-SHA-256 of each value. What is the same for all of them is done once: twice as fast as `hmac`."""
    assert len(secret) <= _BLOCK_BYTES
    padded = secret.ljust(_BLOCK_BYTES, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in padded)) for pad in (0x36, 0x5C))
    digests: list[bytes] = []
    for value in values:
        within, around = inner.copy(), outer.copy()
        within.update(value.encode())
        around.update(within.digest())
        digests.append(around.digest())
    return digests


def partial(values: pl.Series, *, keep_last: int) -> pl.Series:
    """Hide all but the last characters; where that hid less than it shows, all of them.

    >>> partial(pl.Series(["4111 1111 1111 1234", "12345"]), keep_last=4).to_list()
    ['***************1234', '*****']
    """
    value = pl.col("value")
    length = value.str.len_chars().cast(pl.Int64)
    shown = pl.when(length >= 2 * keep_last).then(keep_last).otherwise(0)
    longest = values.str.len_chars().max()
    stars = pl.lit(STAR * int(longest if isinstance(longest, int) else 0))
    shape = pl.concat_str(stars.str.head(length - shown), value.str.tail(shown))
    return values.alias("value").to_frame().select(shape).to_series()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hiding:
    """What a mask does with what it finds.

    `texts` masks texts, or numbers as JSON text; `whole` anything else, given as a value. `constant` is what every text
    becomes, if that is one and the same. `drops`: the member goes with its value. `parts_only`: of an object or a list,
    only the texts and numbers within are masked, each by itself.
    """

    texts: Callable[[pl.Series], pl.Series]
    whole: Callable[[object], str]
    constant: str | None = None
    drops: bool = False
    parts_only: bool = False


def hiding_of(mask: Mask, key: MaskKey | None) -> Hiding:
    """Find out what a mask does. Only `hash` needs a key."""
    match mask.how:
        case How.REDACT:
            label = "[redacted]" if mask.detector is None else f"[redacted {mask.detector.value}]"
            return _constant(label)
        case How.DROP:
            return _constant("", drops=mask.detector is None)
        case How.PARTIAL:
            keep_last = PARTIAL_KEEPS if mask.keep_last is None else mask.keep_last
            return Hiding(texts=lambda values: partial(values, keep_last=keep_last), whole=lambda _: ALL_STARS)
        case How.HASH:
            assert key is not None, "the feed asks for a secret of every workspace"
            return Hiding(
                texts=lambda values: tokens(values, key),
                whole=lambda value: tokens(pl.Series([_encode(value).decode()]), key).item(),
            )
        case How.REGEX:
            assert mask.pattern is not None
            assert mask.replacement is not None
            return _substituting(mask.pattern, mask.replacement)


def _constant(label: str, *, drops: bool = False) -> Hiding:
    return Hiding(
        texts=lambda values: pl.repeat(label, len(values), dtype=pl.String, eager=True),
        whole=lambda _: label,
        constant=label,
        drops=drops,
    )


def _substituting(pattern: str, replacement: str) -> Hiding:
    # By the engine that the pattern was checked with, in linear time.
    return Hiding(
        texts=lambda values: values.str.replace_all(pattern, replacement), whole=lambda _: ALL_STARS, parts_only=True
    )
