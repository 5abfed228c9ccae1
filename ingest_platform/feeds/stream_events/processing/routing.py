"""Where events go: the rules that each one meets, which of them take it, and what is sampled out of what they take.

Rules are evaluated on the whole frame. What a destination is, is not known here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from ingest_platform.feeds.stream_events.declaration.pipeline import Match, RouteRule, Routes
from ingest_platform.feeds.stream_events.declaration.routes import OTHERWISE
from ingest_platform.feeds.stream_events.load import DROPPED, ROUTED, SAMPLED_OUT
from ingest_platform.feeds.stream_events.processing.sampling import draws

NO_RULE = ""
SEPARATOR = ","
# An event by rule: true or false.
_Table = npt.NDArray[np.bool_]
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where events stand, one of each row: the job, by its place in `job_ids`, and the record's index in it."""

    job_ids: Sequence[str]
    jobs: npt.NDArray[np.int64]
    indexes: npt.NDArray[np.int64]


def route(columns: pl.DataFrame, routes: Routes, places: Places) -> pl.DataFrame:
    """Decide about events, given as columns of the paths of all rules (`columns_of`).

    Returns `decision`, `rules`, `destinations` and `faults`, as in the table of events (`load.py`).
    """
    met, faulty = _evaluate(columns, routes.rules)
    taken = met
    if routes.match is Match.FIRST:
        # The rules behind the one that takes an event are not asked.
        faulty &= np.cumsum(met, axis=1) == 0
        taken = met & (np.cumsum(met, axis=1) == 1)
    kept = taken & _drawn(taken, routes.rules, places)
    some: npt.NDArray[np.bool_] = np.any(taken, axis=1)
    none, all_out = ~some, some & ~np.any(kept, axis=1)
    decisions = pl.Series([ROUTED, SAMPLED_OUT, ROUTED if routes.otherwise else DROPPED])
    names = [rule.name for rule in routes.rules]

    def joined(rules: Sequence[int]) -> str:
        return SEPARATOR.join(names[rule] for rule in rules)

    otherwise = OTHERWISE if routes.otherwise else NO_RULE
    rest = _encoded(dict.fromkeys(routes.otherwise, 1.0))
    return pl.DataFrame(
        {
            "decision": decisions.gather(np.where(none, 2, np.where(all_out, 1, 0))),
            "rules": _or(_told(taken, joined), none, otherwise),
            "destinations": _or(
                _told(kept, lambda rules: _weights([routes.rules[rule] for rule in rules])), none, rest
            ),
            "faults": _told(faulty, lambda rules: joined(rules) or None),
        }
    )


def _evaluate(columns: pl.DataFrame, rules: Sequence[RouteRule]) -> tuple[_Table, _Table]:
    """Tell which events meet which rules, and where they don't because the types of values do not fit."""
    outcomes = [rule.when.polars(columns) for rule in rules]
    values = {f"value {place}": outcome.value.fill_null(value=False) for place, outcome in enumerate(outcomes)}
    faults = {f"fault {place}": outcome.fault for place, outcome in enumerate(outcomes)}
    # Beside the columns, so that what is the same for all events has a row for each.
    both = columns.with_columns(**values, **faults)
    return _table(both, list(values)), _table(both, list(faults))


def _table(frame: pl.DataFrame, names: Sequence[str]) -> _Table:
    # A stream without rules has no columns, but a row for each event as well.
    table = np.zeros((frame.height, len(names)), dtype=np.bool_)
    for place, name in enumerate(names):
        table[:, place] = frame[name].to_numpy()
    return table


def _drawn(taken: _Table, rules: Sequence[RouteRule], places: Places) -> _Table:
    """Draw, for each rule that samples, for the events that it takes."""
    drawn = np.ones(taken.shape, dtype=np.bool_)
    for place, rule in enumerate(rules):
        if rule.sample < 1:
            rows = np.flatnonzero(taken[:, place])
            found = draws(places.job_ids, places.jobs[rows], places.indexes[rows], rule=rule.name)
            drawn[rows, place] = found < rule.sample
    return drawn


def _told(table: _Table, tell: Callable[[Sequence[int]], str | None]) -> pl.Series:
    """Tell something of each event by the columns that are true; once for each combination that there is."""
    if not table.any():
        return pl.repeat(tell([]), len(table), dtype=pl.String, eager=True)
    if table.sum(axis=1).max() == 1:
        # One each at most, as of the first rule that is met.
        said = [tell([]), *(tell([place]) for place in range(table.shape[1]))]
        return pl.Series(said, dtype=pl.String).gather(table @ np.arange(1, table.shape[1] + 1))
    packed = np.packbits(table, axis=1)
    combinations = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, firsts, codes = np.unique(combinations, return_index=True, return_inverse=True)
    said = [tell(np.flatnonzero(table[first]).tolist()) for first in firsts]
    return pl.Series(said, dtype=pl.String).gather(codes)


def _or(told: pl.Series, rows: npt.NDArray[np.bool_], other: str | None) -> pl.Series:
    return pl.select(pl.when(pl.Series(rows)).then(pl.lit(other, dtype=pl.String)).otherwise(told)).to_series()


def _weights(rules: Sequence[RouteRule]) -> str | None:
    """Weigh destinations by how many events each one that they get stands for; the least, if by several rules."""
    weights: dict[str, float] = {}
    for rule in rules:
        for name in rule.to:
            weights[name] = min(1 / rule.sample, weights.get(name, float("inf")))
    return _encoded(weights)


def _encoded(weights: dict[str, float]) -> str | None:
    whole = {name: int(weight) if weight.is_integer() else weight for name, weight in weights.items()}
    return _encode(whole).decode() if whole else None
