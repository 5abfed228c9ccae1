r"""Masks of fields in flat text: where the text alone shows that a value is the one at a field's path.

It does if a regular expression finds the way: from the first brace to the member, over all that stands before it, then
within its braces to the next. In flat text a text ends with the next quote, so that such an expression reads JSON
exactly, as deep as it goes. What it can't read is masked event by event (`walking.py`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl

from ingest_platform.feeds.stream_events.declaration.pipeline import Path
from ingest_platform.feeds.stream_events.processing import walking
from ingest_platform.feeds.stream_events.processing.flat import Flat, Places
from ingest_platform.feeds.stream_events.processing.hiding import Hiding
from ingest_platform.feeds.stream_events.processing.projecting import projection, standing_at

# A value that is no object, no list and no null.
_VALUE = r'("[^"]*"|-?[0-9][0-9.eE+-]*|true|false)'
_NO_OPENING = r'["0-9tfn-]'
_QUOTE = pl.lit('"')
# What an escape may stand for in flat text, and what needs one in a text.
_CONTROL = r"[\x00-\x1f]"
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
# Objects before a member are read over if there are at most as many within each other.
_DEPTH = 2
_encode = msgspec.json.encode
_decode = msgspec.json.decode


def _passed(depth: int) -> str:
    """Make the expression of anything that may stand in an object before a member, its own objects included."""
    inner = rf"|\{{{_passed(depth - 1)}\}}" if depth else ""
    return rf'(?:[^{{}}"]|"[^"]*"{inner})*'


_PASSED = _passed(_DEPTH)


def mask_field(flat: Flat, path: Path, hiding: Hiding) -> Places:
    """Mask a field in flat text; give the places of events that are left to be masked exactly."""
    names = [_encode(name).decode() for name in path]
    if any("\\" in name for name in names):
        return _standing(flat, np.arange(len(flat.texts)), path)
    name = names[-1]
    places = np.flatnonzero(flat.texts.str.contains(name, literal=True).to_numpy() & ~flat.odd)
    texts = flat.texts if len(places) == len(flat.texts) else flat.texts.gather(places)
    text = pl.col("text")
    shown = texts.to_frame("text").select(
        found=text.str.contains(_way(names) + _NO_OPENING), once=text.str.count_matches(name, literal=True) == 1
    )
    found = shown["found"].to_numpy()
    left = [_standing(flat, np.concatenate([np.flatnonzero(flat.odd), places[~found]]), path)]
    # A name that stands once is this key's, which takes less time to say.
    for form, fits in (
        (_once(name), shown["found"] & shown["once"]),
        (_by_its_way(names), shown["found"] & ~shown["once"]),
    ):
        if fits.any():
            masked = _masked(texts.filter(fits), form, hiding)
            unfit = masked.is_null().to_numpy()
            those = places[fits.to_numpy()]
            flat.put(those[~unfit], masked.drop_nulls())
            left.append(those[unfit])
    return np.sort(np.concatenate(left))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How a member is found: expressions of what stands before its value, and of all of it with a comma.

    `lead` puts back what `key` has found; `group` is the number of the value's group behind it. Each of `removals`
    takes the member away, if it stands as the one or the other does, and puts `kept` in its place.
    """

    key: str
    lead: str
    group: int
    removals: tuple[str, ...]
    kept: str


def _once(name: str) -> _Form:
    key = rf"{re.escape(name)}\s*:\s*"
    return _Form(
        key=key,
        lead=_as_replacement(f"{name}:"),
        group=1,
        removals=(rf"\s*,\s*{key}{_VALUE}", rf"{key}{_VALUE}\s*,?\s*"),
        kept="",
    )


def _by_its_way(names: Sequence[str]) -> _Form:
    parents, key = _way(names[:-1]), rf"{re.escape(names[-1])}\s*:\s*"
    return _Form(
        key=f"({_way(names)})",
        lead="${1}",
        group=2,
        removals=(
            rf"({parents}\{{{_PASSED})\s*,\s*{key}{_VALUE}",
            rf"({parents}\{{\s*){key}{_VALUE}\s*,?\s*",
        ),
        kept="${1}",
    )


def _way(names: Sequence[str]) -> str:
    return "^" + "".join(rf"\{{{_PASSED}{re.escape(name)}\s*:\s*" for name in names)


def _standing(flat: Flat, places: Places, path: Path) -> Places:
    """Leave out events in which nothing stands at a path."""
    if not len(places):
        return places
    stands, within_lists = standing_at(projection(frozenset({path}))(flat.json(places).to_list()), path)
    return places[stands | within_lists]


def _masked(texts: pl.Series, form: _Form, hiding: Hiding) -> pl.Series:
    """Mask the value of a member, which is in each text; null where it can't be written into flat text."""
    if hiding.drops:
        # With the comma before it or else the one behind it. What is null stays.
        for removal in form.removals:
            texts = texts.str.replace(removal, form.kept)
        return texts
    if hiding.constant is not None:
        return texts.str.replace(form.key + _VALUE, form.lead + _as_replacement(f'"{hiding.constant}"'))
    values = texts.str.extract(form.key + _VALUE, form.group)
    known = values.unique().drop_nulls()
    found = values.replace_strict(known, _masked_values(known, hiding), default=None, return_dtype=pl.String)
    whole = pl.concat_str(pl.lit(form.lead), pl.col("found").str.replace_all("$", "$$", literal=True))
    frame = pl.DataFrame({"text": texts, "value": values, "found": found})
    # What is null stays so.
    return frame.select(
        pl.when(pl.col("value").is_null())
        .then("text")
        .when(pl.col("found").is_not_null())
        .then(pl.col("text").str.replace(form.key + _VALUE, whole))
        .alias("text")
    ).to_series()


def _as_replacement(text: str) -> str:
    return text.replace("$", "$$")


def _masked_values(values: pl.Series, hiding: Hiding) -> pl.Series:
    """Mask values, given as flat JSON text; null for those of which one part or the other needs an escape."""
    plain = values.str.starts_with('"') & ~values.str.contains(_CONTROL)
    masked = hiding.texts(values.filter(plain).str.strip_prefix('"').str.strip_suffix('"'))
    written = pl.select(pl.when(~masked.str.contains(_NEEDS_ESCAPE)).then(pl.concat_str(_QUOTE, masked, _QUOTE)))
    others = [_masked_value(value, hiding) for value in values.filter(~plain).to_list()]
    found = pl.repeat(None, len(values), dtype=pl.String, eager=True)
    found = found.scatter(plain.arg_true(), written.to_series())
    return found.scatter((~plain).arg_true(), pl.Series(others, dtype=pl.String))


def _masked_value(value: str, hiding: Hiding) -> str | None:
    """Mask a value that is no text; null for a text, which has a character that is escaped."""
    if value.startswith('"'):
        return None
    (masked,) = walking.hidden([_decode(value)], hiding)
    # Of a number nothing may be found: then it stays as it was written.
    encoded = value if walking.is_number(masked) else _encode(masked).decode()
    return None if "\\" in encoded else encoded
