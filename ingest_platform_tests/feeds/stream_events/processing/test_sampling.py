"""Draws are functions of the event's id and the rule's name, and fall evenly."""

import numpy as np

from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.stream_events.processing.sampling import draw_of, draws

JOB = "evt_01kqzcjrpyf27tge33jwvjhkff"
EVENTS = 20_000


def drawn(rule: str, job_id: str = JOB, events: int = EVENTS) -> np.ndarray:
    return draws([job_id], np.zeros(events, dtype=np.int64), np.arange(events), rule=rule)


def test_one_event_draws_what_it_draws_among_many() -> None:
    jobs = [JOB, new_id("evt_"), new_id("evt_")]
    places, indexes = np.array([2, 0, 1, 0]), np.array([7, 0, 2**40, 3])
    many = draws(jobs, places, indexes, rule="chatter")
    ones = [draw_of(f"{jobs[place]}-{index}", "chatter") for place, index in zip(places, indexes, strict=True)]
    assert many.tolist() == ones


def test_draws_never_change() -> None:
    # What was kept yesterday is kept in a replay tomorrow: these may never be others.
    assert draw_of(f"{JOB}-0", "chatter") == 0.9239945241467278
    assert draw_of(f"{JOB}-1", "errors") == 0.3679052027065607


def test_draws_fall_evenly_between_0_and_1() -> None:
    found = drawn("chatter")
    assert found.min() >= 0
    assert found.max() < 1
    counts, _ = np.histogram(found, bins=20, range=(0, 1))
    # Chi squared with 19 degrees of freedom is above 43.8 once in a thousand; the draws are fixed.
    assert ((counts - EVENTS / 20) ** 2 / (EVENTS / 20)).sum() < 43.8
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.03


def test_rules_and_jobs_draw_independently() -> None:
    one = drawn("chatter")
    for other in (drawn("errors"), drawn("chatter", job_id=new_id("evt_"))):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.04
