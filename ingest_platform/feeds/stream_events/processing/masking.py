"""Masks on a frame of events: in their flat text, by Polars on all of them at once, and exactly where that can't be.

An event is masked exactly (`walking.py`) where its text alone does not tell: if something is found in a key or in a
bare number, if the name of a masked field occurs more than once, if the event is odd (`flat.py`). Both ways give the
same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from ingest_platform.feeds.stream_events.declaration.pipeline import Mask, Path
from ingest_platform.feeds.stream_events.processing import walking
from ingest_platform.feeds.stream_events.processing.detectors import FINDERS, Finder
from ingest_platform.feeds.stream_events.processing.flat import Flat, Places
from ingest_platform.feeds.stream_events.processing.hiding import Hiding, MaskKey, hiding_of
from ingest_platform.feeds.stream_events.processing.projecting import Document, projection, standing_at
from ingest_platform.feeds.stream_events.processing.walking import HOLE, Cuts, cut, fill

# A value as flat text that is no object, no list and no null.
_VALUE = r'("[^"]*"|-?[0-9][0-9.eE+-]*|true|false)'
_IN_KEY = rf'{HOLE}[^"]*"\s*:'
_QUOTE = pl.lit('"')
# What an escape may stand for in flat text, and what needs one in a text.
_CONTROL = r"[\x00-\x1f]"
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
_COLON = re.compile(r"\s*:")
_encode = msgspec.json.encode
_decode = msgspec.json.decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Masker:
    """The masks of a pipeline, which are applied in their order; `key` is the one of the events' workspace."""

    masks: tuple[Mask, ...]
    key: MaskKey | None

    def apply(self, flat: Flat, documents: Sequence[Document] | None = None) -> npt.NDArray[np.bool_]:
        """Mask events in place. Tell which ones may be changed elsewhere than at the fields of the masks.

        `documents` are the same events decoded, at least what stands at the masked fields; None: they are not known.
        """
        changed = np.zeros(len(flat.texts), dtype=np.bool_)
        # What stands where is found out once for fields that are not part of each other.
        seen: list[Path] = []
        for mask in self.masks:
            hiding = hiding_of(mask, self.key)
            if mask.field is None:
                assert mask.detector is not None
                found, left = _detect(flat, FINDERS[mask.detector], hiding)
                changed[found] = True
            else:
                if documents is None or any(_overlap(mask.field, each) for each in seen):
                    seen, documents = [], _standing(flat, self.masks)
                seen.append(mask.field)
                left = _mask_field(flat, mask.field, hiding, documents)
            changed[left] = True
            self._walk(flat, left, mask)
        return changed

    def _walk(self, flat: Flat, places: Places, mask: Mask) -> None:
        if len(places):
            documents = flat.documents(places)
            walking.mask_documents(documents, mask, self.key)
            flat.replace(places, documents)


def fields_of(masks: Sequence[Mask]) -> frozenset[Path]:
    """Collect the fields that are masked."""
    return frozenset(mask.field for mask in masks if mask.field is not None)


def _overlap(one: Path, other: Path) -> bool:
    return one[: len(other)] == other or other[: len(one)] == one


def _standing(flat: Flat, masks: Sequence[Mask]) -> list[Document]:
    return projection(fields_of(masks))(flat.json().to_list())


def _detect(flat: Flat, finder: Finder, hiding: Hiding) -> tuple[Places, Places]:
    """Mask what a detector finds; give the places where it did, and of events that are left to be masked exactly."""
    places = flat.texts.str.contains(finder.hint).to_numpy() & ~flat.odd
    places = np.flatnonzero(places)
    texts = flat.texts.gather(places)
    if finder.judge is None and hiding.constant is not None:
        found = texts.str.contains(finder.pattern)
        places, texts = places[found.to_numpy()], texts.filter(found)
        masked, left = _labelled(texts, finder, hiding.constant)
    else:
        cuts = cut(texts, finder, hiding)
        places = places[cuts.places]
        masked, left = _filled(cuts)
    flat.texts = _scattered(flat.texts, places[~left], masked)
    return places, np.concatenate([np.flatnonzero(flat.odd), places[left]])


def _scattered(texts: pl.Series, places: Places, values: pl.Series) -> pl.Series:
    return texts.clone().scatter(places, values) if len(places) else texts


def _labelled(texts: pl.Series, finder: Finder, label: str) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
    """Put one label in the place of all that is found; tell where that can't be, because it stands in a key."""
    holes = texts.str.replace_all(finder.pattern, HOLE)
    left = holes.str.contains(_IN_KEY)
    return holes.filter(~left).str.replace_all(HOLE, label, literal=True), left.to_numpy()


def _filled(cuts: Cuts) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
    """Put masked values where they were cut out; tell where that can't be: one is a number, or stands in a key."""
    left = [not _in_values(*each) for each in zip(cuts.rests, cuts.candidates, cuts.values, strict=True)]
    masked = [fill(rest, values) for rest, values, each in zip(cuts.rests, cuts.values, left, strict=True) if not each]
    return pl.Series(masked, dtype=pl.String), np.array(left, dtype=np.bool_)


def _in_values(rest: Sequence[str], candidates: Sequence[str], values: Sequence[str]) -> bool:
    """Tell whether all candidates that are masked stand in texts that are values."""
    quotes = 0
    for place, (candidate, value) in enumerate(zip(candidates, values, strict=True)):
        quotes += rest[place].count('"')
        if candidate != value and (quotes % 2 == 0 or _ends_a_key(rest[place + 1 :])):
            return False
    return True


def _ends_a_key(rest: Sequence[str]) -> bool:
    for text in rest:
        at = text.find('"')
        if at >= 0:
            return _COLON.match(text, at + 1) is not None
    return False


def _mask_field(flat: Flat, path: Path, hiding: Hiding, documents: Sequence[Document]) -> Places:
    """Mask a field where its name is nowhere else in the event; give the places that are left to be masked exactly."""
    stands, within_lists = standing_at(documents, path)
    left = flat.odd | within_lists
    name = _encode(path[-1]).decode()
    if "\\" in name:
        return np.flatnonzero(left | stands)
    # Where the name stands once, it is the key's, and no value that another key has.
    key = rf"{re.escape(name)}\s*:\s*"
    text = pl.col("text")
    seen = flat.texts.to_frame("text").select(
        once=text.str.count_matches(name, literal=True) == 1,
        open=text.str.contains(key + r"[\[{]"),
        value=text.str.extract(key + _VALUE) if hiding.constant is None else pl.lit(None, dtype=pl.String),
    )
    left |= stands & ~(seen["once"] & ~seen["open"]).to_numpy()
    places = np.flatnonzero(stands & ~left)
    texts = flat.texts.gather(places)
    if hiding.drops:
        masked = _dropped(texts, key)
    elif hiding.constant is not None:
        masked = texts.str.replace(key + _VALUE, f'{name}:"{hiding.constant}"')
    else:
        masked, unfit = _each_masked(texts, seen["value"].gather(places), name, hiding)
        left[places[unfit]] = True
        places, masked = places[~unfit], masked.filter(pl.Series(~unfit))
    flat.texts = _scattered(flat.texts, places, masked)
    return np.flatnonzero(left)


def _dropped(texts: pl.Series, key: str) -> pl.Series:
    """Take a member away, with the comma before it or else the one behind it. What is null stays."""
    behind = texts.str.replace(rf"\s*,\s*{key}{_VALUE}", "")
    return behind.str.replace(rf"{key}{_VALUE}\s*,?\s*", "")


def _each_masked(
    texts: pl.Series, values: pl.Series, name: str, hiding: Hiding
) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
    """Mask each value by itself; tell which ones can't be written into flat text."""
    known = values.unique().drop_nulls()
    masked = _masked_values(known, hiding)
    frame = pl.DataFrame({"text": texts, "value": values.replace_strict(known, masked, default=None)})
    # In a replacement, a dollar is written twice.
    whole = pl.concat_str(
        pl.lit(f"{name}:".replace("$", "$$")), pl.col("value").str.replace_all("$", "$$", literal=True)
    )
    text = pl.col("text").str.replace(rf"{re.escape(name)}\s*:\s*{_VALUE}", whole)
    # What is null stays so.
    written = frame.select(pl.when(pl.col("value").is_null()).then("text").otherwise(text).alias("text")).to_series()
    return written, (frame["value"].is_null() & values.is_not_null()).to_numpy()


def _masked_values(values: pl.Series, hiding: Hiding) -> pl.Series:
    """Mask values, given as flat JSON text; null for those of which one part or the other needs an escape."""
    plain = values.str.starts_with('"') & ~values.str.contains(_CONTROL)
    texts = values.filter(plain).str.strip_prefix('"').str.strip_suffix('"')
    masked = hiding.texts(texts)
    written = pl.select(pl.when(~masked.str.contains(_NEEDS_ESCAPE)).then(pl.concat_str(_QUOTE, masked, _QUOTE)))
    others = [_masked_value(value, hiding) for value in values.filter(~plain).to_list()]
    found = pl.repeat(None, len(values), dtype=pl.String, eager=True)
    found = found.scatter(plain.arg_true(), written.to_series())
    return found.scatter((~plain).arg_true(), pl.Series(others, dtype=pl.String))


def _masked_value(value: str, hiding: Hiding) -> str | None:
    """Mask a value that is no text; null for a text, which has a character that is escaped."""
    if value.startswith('"'):
        return None
    masked = walking.hidden(_decode(value), hiding)
    # Of a number nothing may be found: then it stays as it was written.
    encoded = value if walking.is_number(masked) else _encode(masked).decode()
    return None if "\\" in encoded else encoded
