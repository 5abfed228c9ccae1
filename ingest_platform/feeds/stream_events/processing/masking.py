"""Masks on a frame of events: in their flat text, by Polars on all of them at once, and exactly where that can't be.

Fields are masked in `field_masks.py`. An event is masked exactly (`walking.py`) where its text alone does not tell: if
something is found in a key or in a bare number, if the event is odd (`flat.py`). Both ways give the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ingest_platform.feeds.stream_events.declaration.pipeline import Mask, Path
from ingest_platform.feeds.stream_events.processing import walking
from ingest_platform.feeds.stream_events.processing.detectors import FINDERS, Finder
from ingest_platform.feeds.stream_events.processing.field_masks import mask_field
from ingest_platform.feeds.stream_events.processing.flat import HOLE, Flat, Places
from ingest_platform.feeds.stream_events.processing.hiding import Hiding, MaskKey, hiding_of
from ingest_platform.feeds.stream_events.processing.walking import Cuts, cut, fill

_IN_KEY = rf'{HOLE}[^"]*"\s*:'
# What stands around a number that is whole, without a sign.
_BEFORE_NUMBER = frozenset(":,[")
_BEHIND_NUMBER = re.compile(r"\s*[,}\]]")
_COLON = re.compile(r"\s*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Masker:
    """The masks of a pipeline, which are applied in their order; `key` is the one of the events' workspace."""

    masks: tuple[Mask, ...]
    key: MaskKey | None

    def apply(self, flat: Flat) -> npt.NDArray[np.bool_]:
        """Mask events in place. Tell which ones may be changed elsewhere than at the fields of the masks."""
        changed = np.zeros(len(flat.texts), dtype=np.bool_)
        for mask in self.masks:
            hiding = hiding_of(mask, self.key)
            if mask.field is None:
                assert mask.detector is not None
                found, left = _detect(flat, FINDERS[mask.detector], hiding)
                changed[found] = True
            else:
                left = mask_field(flat, mask.field, hiding)
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


def _detect(flat: Flat, finder: Finder, hiding: Hiding) -> tuple[Places, Places]:
    """Mask what a detector finds; give the places where it did, and of events that are left to be masked exactly."""
    places = flat.texts.str.contains(finder.hint).to_numpy() & ~flat.odd
    places = np.flatnonzero(places)
    texts = flat.texts if len(places) == len(flat.texts) else flat.texts.gather(places)
    if finder.judge is None and hiding.constant is not None:
        found = texts.str.contains(finder.pattern)
        places, texts = places[found.to_numpy()], texts.filter(found)
        masked, left = _labelled(texts, finder, hiding.constant)
    else:
        cuts = cut(texts, finder, hiding)
        places = places[cuts.places]
        masked, left = _filled(cuts)
    flat.put(places[~left], masked)
    return places, np.sort(np.concatenate([np.flatnonzero(flat.odd), places[left]]))


def _labelled(texts: pl.Series, finder: Finder, label: str) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
    """Put one label in the place of all that is found; tell where that can't be, because it stands in a key."""
    holes = texts.str.replace_all(finder.pattern, HOLE)
    left = holes.str.contains(_IN_KEY)
    return holes.filter(~left).str.replace_all(HOLE, label, literal=True), left.to_numpy()


def _filled(cuts: Cuts) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
    """Put masked values where they were cut out; tell where that can't be: one is a number, or stands in a key."""
    left = [not _fits(*each) for each in zip(cuts.rests, cuts.candidates, cuts.values, strict=True)]
    masked = [fill(rest, values) for rest, values, each in zip(cuts.rests, cuts.values, left, strict=True) if not each]
    return pl.Series(masked, dtype=pl.String), np.array(left, dtype=np.bool_)


def _fits(rest: list[str], candidates: Sequence[str], values: list[str]) -> bool:
    """Tell whether all candidates that are masked stand in values; a number that is one becomes a text."""
    quotes = 0
    for place, (candidate, value) in enumerate(zip(candidates, values, strict=True)):
        quotes += rest[place].count('"')
        if candidate == value:
            continue
        if quotes % 2 == 0:
            # A sign, a fraction or an exponent would have to go into the text, too.
            if rest[place].rstrip()[-1:] not in _BEFORE_NUMBER or not _BEHIND_NUMBER.match(rest[place + 1]):
                return False
            values[place] = f'"{value}"'
        elif _ends_a_key(rest[place + 1 :]):
            return False
    return True


def _ends_a_key(rest: Sequence[str]) -> bool:
    for text in rest:
        at = text.find('"')
        if at >= 0:
            return _COLON.match(text, at + 1) is not None
    return False
