"""Masks on decoded events, exactly: what flat text can't be masked by (`masking.py`), and what it is compared with.

Every text, key and number of an event is looked at. A number of which something is masked becomes a text. Where a
masked key would be that of another member, a number is put behind it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from ingest_platform.feeds.stream_events.declaration.pipeline import Mask, Path
from ingest_platform.feeds.stream_events.processing.detectors import FINDERS, Finder
from ingest_platform.feeds.stream_events.processing.hiding import Hiding, MaskKey, hiding_of

Document = dict[str, object]
# It is in no text of JSON, nor in a text that is looked through: those are cut up at it.
HOLE = "\x00"
_encode = msgspec.json.encode


def mask_documents(documents: Sequence[Document], mask: Mask, key: MaskKey | None) -> None:
    """Apply one mask to documents, in place."""
    hiding = hiding_of(mask, key)
    if mask.field is not None:
        for document in documents:
            mask_field(document, mask.field, hiding)
        return
    assert mask.detector is not None
    finder = FINDERS[mask.detector]
    texts = list({text for document in documents for text in _texts_of(document)})
    masked = dict(zip(texts, mask_texts(texts, finder, hiding), strict=True))
    for document in documents:
        members = {key: _replaced(value, masked) for key, value in _renamed(document, masked)}
        document.clear()
        document.update(members)


def mask_field(document: Document, path: Path, hiding: Hiding) -> None:
    """Mask the value at a path; a list on the way stands for each of the objects in it."""
    *parents, name = path
    for holder in _holders([document], parents):
        value = holder.get(name)
        if value is None:
            continue
        if hiding.drops:
            del holder[name]
        else:
            holder[name] = hidden(value, hiding)


def _holders(values: Iterable[object], names: Sequence[str]) -> Iterator[Document]:
    for value in values:
        if isinstance(value, list):
            yield from _holders(value, names)
        elif isinstance(value, dict):
            if names:
                yield from _holders([value.get(names[0])], names[1:])
            else:
                yield value


def hidden(value: object, hiding: Hiding) -> object:
    """Mask a value."""
    if isinstance(value, str):
        return _mask_texts([value], hiding)[0]
    if is_number(value):
        text = number_text(value)
        masked = _mask_texts([text], hiding)[0]
        return value if masked == text else masked
    if hiding.parts_only and isinstance(value, dict | list):
        texts = list(set(_texts_of(value)))
        return _replaced(value, dict(zip(texts, _mask_texts(texts, hiding), strict=True)))
    return value if value is None else hiding.whole(value)


def _mask_texts(texts: Sequence[str], hiding: Hiding) -> list[str]:
    return hiding.texts(pl.Series(texts, dtype=pl.String)).to_list()


def is_number(value: object) -> bool:
    """Tell whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number_text(value: object) -> str:
    """Write a number as our JSON has it."""
    return _encode(value).decode()


def _texts_of(value: object) -> Iterator[str]:
    """List all texts, keys and numbers within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_of(inner)
    elif is_number(value):
        yield number_text(value)


def _replaced(value: object, masked: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return masked[value]
    if isinstance(value, dict):
        return {name: _replaced(inner, masked) for name, inner in _renamed(value, masked)}
    if isinstance(value, list):
        return [_replaced(inner, masked) for inner in value]
    if is_number(value):
        text = number_text(value)
        return value if masked[text] == text else masked[text]
    return value


def _renamed(members: Mapping[str, object], masked: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    taken = {name for name in members if masked[name] == name}
    for name, value in members.items():
        new = masked[name]
        if new != name:
            number, wanted = 1, new
            while new in taken:
                number += 1
                new = f"{wanted} {number}"
            taken.add(new)
        yield new, value


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
