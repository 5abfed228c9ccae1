"""Sampling: which of the events that a rule takes are kept. A function of the event's id and the rule's name alone.

So an event is kept or not the same way in every replay, and two rules sample independently.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ingest_platform.domain.ids import ULID_LENGTH

_Words = npt.NDArray[np.uint64]
# Of SplitMix64: a step that is odd, and the shifts and factors after which all bits depend on all.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST_SHIFT = np.uint64(31)
# What a double can tell apart in [0, 1).
_DOUBLE_BITS = 53
_SPARE_BITS = np.uint64(64 - _DOUBLE_BITS)
_SEED_BYTES = 8


def draw_of(event_id: str, rule: str) -> float:
    """Draw for one event, given by its id: a number in [0, 1). It is kept if that is less than the rule's fraction.

    >>> draw_of("evt_01kqzcjrpyf27tge33jwvjhkff-17", "chatter")
    0.9393842702477927
    """
    job, _, index = event_id.rpartition("-")
    return float(draws([job], np.zeros(1, dtype=np.int64), np.array([int(index)], dtype=np.int64), rule=rule)[0])


def draws(
    job_ids: Sequence[str], jobs: npt.NDArray[np.int64], indexes: npt.NDArray[np.int64], *, rule: str
) -> npt.NDArray[np.float64]:
    """Draw for many events, each given by its job (a place in `job_ids`) and its record index."""
    seeds = np.array([_seed(job_id, rule) for job_id in job_ids], dtype=np.uint64)
    mixed = _mix(seeds[jobs] + _mix((indexes.astype(np.uint64) + np.uint64(1)) * _STEP))
    return (mixed >> _SPARE_BITS).astype(np.float64) / 2**_DOUBLE_BITS


def _seed(job_id: str, rule: str) -> int:
    # Of a job's id the ULID: the id of its events has it behind another prefix.
    digest = hashlib.sha256(f"{job_id[-ULID_LENGTH:]}\0{rule}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES])


def _mix(words: _Words) -> _Words:
    for shift, factor in _MIX:
        words = (words ^ (words >> shift)) * factor
    return words ^ (words >> _LAST_SHIFT)
