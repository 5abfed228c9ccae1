"""Masks on decoded events, exactly: what flat text can't be masked by (`masking.py`), and what it is compared with.

Every text, key and number of an event is looked at. A number of which something is masked becomes a text. Where a
masked key would be that of another member, a number is put behind it.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from ingest_platform.feeds.stream_events.declaration.pipeline import Mask, Path
from ingest_platform.feeds.stream_events.processing.detectors import FINDERS, Finder
from ingest_platform.feeds.stream_events.processing.flat import HOLE
from ingest_platform.feeds.stream_events.processing.hiding import Hiding, MaskKey, hiding_of

Document = dict[str, object]
_encode = msgspec.json.encode


def mask_documents(documents: Sequence[Document], mask: Mask, key: MaskKey | None) -> None:
    """Apply one mask to documents, in place."""
    hiding = hiding_of(mask, key)
    if mask.field is not None:
        mask_field(documents, mask.field, hiding)
        return
    assert mask.detector is not None
    finder = FINDERS[mask.detector]
    found = set[str]()
    for document in documents:
        _collect(document, found, numbers=finder.in_numbers)
    texts = list(found)
    masked = {
        text: other for text, other in zip(texts, mask_texts(texts, finder, hiding), strict=True) if other != text
    }
    for document in documents:
        members = _replaced(document, masked)
        if members is not document:
            assert isinstance(members, dict)
            document.clear()
            document.update(members)


def mask_field(documents: Sequence[Document], path: Path, hiding: Hiding) -> None:
    """Mask the values at a path; a list on the way stands for each of the objects in it."""
    *parents, name = path
    holders = [holder for holder in _holders(documents, parents) if holder.get(name) is not None]
    if hiding.drops:
        for holder in holders:
            del holder[name]
        return
    values = [holder[name] for holder in holders]
    for holder, value in zip(holders, hidden(values, hiding), strict=True):
        holder[name] = value


def _holders(values: Iterable[object], names: Sequence[str]) -> Iterator[Document]:
    for value in values:
        if isinstance(value, list):
            yield from _holders(value, names)
        elif isinstance(value, dict):
            if names:
                yield from _holders([value.get(names[0])], names[1:])
            else:
                yield value


def hidden(values: Sequence[object], hiding: Hiding) -> list[object]:
    """Mask values, which are not null, each by itself."""
    if hiding.constant is not None:
        return [hiding.constant] * len(values)
    found = set[str]()
    for value in values:
        if hiding.parts_only or not isinstance(value, dict | list):
            _collect(value, found, numbers=True)
    texts = list(found)
    masked = dict(zip(texts, _mask_texts(texts, hiding), strict=True))
    return [_hidden(value, masked, hiding) for value in values]


def _hidden(value: object, masked: Mapping[str, str], hiding: Hiding) -> object:
    if isinstance(value, str) or is_number(value) or (hiding.parts_only and isinstance(value, dict | list)):
        return _replaced(value, masked)
    return hiding.whole(value)


def _mask_texts(texts: Sequence[str], hiding: Hiding) -> list[str]:
    return hiding.texts(pl.Series(texts, dtype=pl.String)).to_list()


def is_number(value: object) -> bool:
    """Tell whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number_text(value: object) -> str:
    """Write a number as our JSON has it."""
    return _encode(value).decode()


def _collect(value: object, found: set[str], *, numbers: bool) -> None:
    """Collect all texts and keys within a value, and its numbers if they are asked for."""
    if isinstance(value, str):
        found.add(value)
    elif isinstance(value, dict):
        found.update(value)
        for inner in value.values():
            _collect(inner, found, numbers=numbers)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, found, numbers=numbers)
    elif numbers and is_number(value):
        found.add(number_text(value))


def _replaced(value: object, masked: Mapping[str, str]) -> object:
    """Put masked texts in the place of those that are; what has none of them is the same object as before."""
    if isinstance(value, str):
        return masked.get(value, value)
    if isinstance(value, dict):
        inner = [_replaced(each, masked) for each in value.values()]
        if masked.keys().isdisjoint(value):
            same = all(map(operator.is_, inner, value.values()))
            return value if same else dict(zip(value, inner, strict=True))
        return dict(zip(_renamed(value, masked), inner, strict=True))
    if isinstance(value, list):
        inner = [_replaced(each, masked) for each in value]
        return value if all(map(operator.is_, inner, value)) else inner
    if is_number(value):
        text = number_text(value)
        other = masked.get(text, text)
        return value if other == text else other
    return value


def _renamed(names: Iterable[str], masked: Mapping[str, str]) -> Iterator[str]:
    """Give masked keys other names than those that stand already."""
    taken = {name for name in names if masked.get(name, name) == name}
    for name in names:
        new = masked.get(name, name)
        if new != name:
            number, wanted = 1, new
            while new in taken:
                number += 1
                new = f"{wanted} {number}"
            taken.add(new)
        yield new


def mask_texts(texts: Sequence[str], finder: Finder, hiding: Hiding) -> list[str]:
    """Mask what a detector finds in texts, each by itself."""
    # Nothing is found across a hole, so that what stands between two is a text of its own.
    parts = [text.split(HOLE) for text in texts]
    column = pl.Series([part for each in parts for part in each], dtype=pl.String)
    cuts = cut(column, finder, hiding)
    if len(cuts.places):
        filled = [fill(rest, values) for rest, values in zip(cuts.rests, cuts.values, strict=True)]
        column = column.scatter(cuts.places, pl.Series(filled, dtype=pl.String))
    masked = iter(column.to_list())
    return [HOLE.join([next(masked) for _ in each]) for each in parts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Texts of which something is masked, by their places: what stands around the candidates, these, their masks."""

    places: npt.NDArray[np.int64]
    rests: list[list[str]]
    candidates: list[list[str]]
    values: list[list[str]]


def cut(column: pl.Series, finder: Finder, hiding: Hiding) -> Cuts:
    """Cut candidates out of texts, of those texts in which one of them is really meant."""
    candidates = column.str.extract_all(finder.pattern)
    masked = _masked(candidates.explode(empty_as_null=False, keep_nulls=False).unique().to_list(), finder, hiding)
    meant = pl.Series(list(masked), dtype=pl.String)
    if len(masked) == 0:
        places = np.zeros(0, dtype=np.int64)
    else:
        holds = pl.col("candidates").list.eval(pl.element().is_in(meant.implode())).list.any()
        places = candidates.alias("candidates").to_frame().select(holds).to_series().arg_true().to_numpy()
    found: list[list[str]] = candidates.gather(places).to_list()
    return Cuts(
        places=places.astype(np.int64),
        rests=column.gather(places).str.replace_all(finder.pattern, HOLE).str.split(HOLE).to_list(),
        candidates=found,
        values=[[masked.get(candidate, candidate) for candidate in each] for each in found],
    )


def fill(rest: Sequence[str], values: Sequence[str]) -> str:
    """Put values back between what stood around them.

    >>> fill(["from ", " to ", "."], ["a", "b"])
    'from a to b.'
    """
    parts = [rest[0]]
    for value, behind in zip(values, rest[1:], strict=True):
        parts += (value, behind)
    return "".join(parts)


def _masked(candidates: Sequence[str], finder: Finder, hiding: Hiding) -> dict[str, str]:
    """Mask what is meant in candidates; those in which nothing is are left out."""
    if finder.judge is None:
        return dict(zip(candidates, _mask_texts(candidates, hiding), strict=True))
    spans = {candidate: each for candidate in candidates if (each := finder.judge(candidate))}
    meant = [candidate[start:end] for candidate, each in spans.items() for start, end in each]
    hidden = iter(_mask_texts(meant, hiding))
    return {candidate: _spliced(candidate, each, hidden) for candidate, each in spans.items()}


def _spliced(candidate: str, spans: Sequence[tuple[int, int]], hidden: Iterator[str]) -> str:
    parts: list[str] = []
    at = 0
    for start, end in spans:
        parts += (candidate[at:start], next(hidden))
        at = end
    return "".join([*parts, candidate[at:]])
