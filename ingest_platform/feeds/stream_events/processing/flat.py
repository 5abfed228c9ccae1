r"""Events as flat JSON text: with a single character in place of each escape, so that a pattern sees what is meant.

In flat text a quote is always one of JSON's own. What was `\n` is the line feed itself, which JSON has only as white
space (and events from here on don't have any), what was `\u001b` the control character that JSON never has as it is.
Two of these stand for `\"` and `\\`, and one is needed elsewhere; what has one of the three itself is odd: no character
is left for it, so that it is only half flat.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Places = npt.NDArray[np.int64]
# It is in no flat text, so that masks can mark with it where something was found.
HOLE = "\x00"
QUOTE, BACKSLASH = "\x01", "\x02"
# The escapes that our encoder writes.
ESCAPES = {
    **{f"\\u{code:04x}": chr(code) for code in range(0x20) if chr(code) not in {HOLE, QUOTE, BACKSLASH, *"\n\t\r\b\f"}},
    r"\"": QUOTE,
    r"\\": BACKSLASH,
    r"\n": "\n",
    r"\t": "\t",
    r"\r": "\r",
    r"\b": "\b",
    r"\f": "\f",
}
_encoder = msgspec.json.Encoder()
_decode_all = msgspec.json.Decoder(list[dict[str, object]]).decode
# A number with an exponent, in a form that may not be ours. Hexadecimal digits in a text end with a quote.
_EXPONENT = r"[0-9][eE][+-]?[0-9]+[\s,}\]]"


@dataclass(slots=True)
class Flat:
    """Events as flat text, one in each row; which rows have an escape, and which of them are odd."""

    texts: pl.Series
    escaped: npt.NDArray[np.bool_]
    odd: npt.NDArray[np.bool_]

    def put(self, places: Places, texts: pl.Series) -> None:
        """Put other flat texts in some places, which ascend; none may have an escape where there was none."""
        if len(places) == len(self.texts):
            self.texts = texts
        elif len(places):
            self.texts = self.texts.clone().scatter(places, texts)

    def documents(self, places: Places) -> list[dict[str, object]]:
        """Decode some events."""
        return decode(self.json(places).to_list())

    def replace(self, places: Places, documents: Sequence[dict[str, object]]) -> None:
        """Put other events in the place of some."""
        texts, self.escaped[places], self.odd[places] = _flat(encode(documents))
        self.put(places, texts)

    def json(self, places: Places | None = None) -> pl.Series:
        """Give the events, or some of them, as JSON text."""
        if places is None:
            return _unflat(self.texts, self.escaped)
        return _unflat(self.texts.gather(places), self.escaped[places])


def flatten(texts: pl.Series) -> Flat:
    r"""Make events, which are objects, flat.

    >>> flat = flatten(pl.Series([r'{"a": "x\n\u0040"}', r'{"b":"\u0001"}']))
    >>> flat.texts[0], flat.odd.tolist(), flat.json()[0]
    ('{"a":"x\n@"}', [False, True], '{"a":"x\\n@"}')
    """
    return Flat(*_flat(_canonical(texts)))


def decode(texts: Sequence[str]) -> list[dict[str, object]]:
    """Decode events, all of them as one array: it saves a call for each."""
    return _decode_all(f"[{','.join(texts)}]")


def encode(documents: Sequence[object]) -> pl.Series:
    """Encode documents, each in our canonical form: no blanks, only the escapes that must be."""
    if not documents:
        return pl.Series(dtype=pl.String)
    lines = np.frombuffer(_encoder.encode_lines(documents), dtype=np.uint8)
    # A line feed in a text is escaped, so that each one is the end of a document.
    ends = np.flatnonzero(lines == ord("\n")).astype(np.int64)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), ends + 1])
    array = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(lines))
    return pl.Series(values=array).str.strip_suffix("\n")


def _canonical(texts: pl.Series) -> pl.Series:
    """Encode those events anew that have blanks or escapes that ours don't have; the others stay as they were sent."""
    text = pl.col("text")
    strange = text.str.contains(_EXPONENT) | text.str.contains("\\", literal=True) | text.str.contains("[\n\r\t]")
    places = texts.alias("text").to_frame().select(strange).to_series().arg_true()
    return texts.clone().scatter(places, encode(decode(texts.gather(places).to_list()))) if len(places) else texts


def _flat(texts: pl.Series) -> tuple[pl.Series, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    escaped = texts.str.contains("\\", literal=True)
    odd = np.zeros(len(texts), dtype=np.bool_)
    places = escaped.arg_true()
    if len(places):
        some = texts.gather(places).str.replace_many(list(ESCAPES), list(ESCAPES.values()))
        odd[places.to_numpy()] = some.str.contains("\\", literal=True).to_numpy()
        texts = texts.clone().scatter(places, some)
    return texts, escaped.to_numpy().copy(), odd


def _unflat(texts: pl.Series, escaped: npt.NDArray[np.bool_]) -> pl.Series:
    places = np.flatnonzero(escaped)
    if not len(places):
        return texts
    some = texts.gather(places).str.replace_many(list(ESCAPES.values()), list(ESCAPES))
    return texts.clone().scatter(places, some)
