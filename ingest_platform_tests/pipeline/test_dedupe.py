"""Dedupe: the record accepted last is the row, whatever the order, the grouping and the number of loads."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_platform.domain.outcome import Outcome
from ingest_platform.pipeline.dedupe import repeated_keys
from ingest_platform.pipeline.load import load_records
from ingest_platform.storage.warehouse import Warehouse
from ingest_platform_tests.pipeline.lake_records import TABLE, Record, frame, job, open_lake, outcomes, rows_of_lake

CREATED, UPDATED, UNCHANGED, SUPERSEDED = Outcome.CREATED, Outcome.UPDATED, Outcome.UNCHANGED, Outcome.SUPERSEDED

# Few keys and values, so that they meet often. Of a job: (gauge, minute, value) of its records.
RECORDS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.sampled_from([1.0, 2.0])), max_size=4)
JOBS = st.lists(RECORDS, min_size=1, max_size=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as the order of acceptance has it: where it stands, what it says, who said so first."""

    place: tuple[int, int]
    value: float
    job: int
    index: int


class Model:
    """The same rules, one record after the other."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], Row] = {}

    def load(self, jobs: dict[int, Sequence[tuple[str, int, float]]]) -> dict[int, list[tuple[int, Outcome]]]:
        said = {(seq, index): record for seq in sorted(jobs) for index, record in enumerate(jobs[seq])}
        winners = {(gauge, minute): place for place, (gauge, minute, _) in said.items()}
        fates = {
            place: self._merge(place, record) if winners[record[:2]] == place else SUPERSEDED
            for place, record in said.items()
        }
        return {seq: [(index, fate) for (of, index), fate in fates.items() if of == seq] for seq in jobs}

    def _merge(self, place: tuple[int, int], record: tuple[str, int, float]) -> Outcome:
        gauge, minute, value = record
        stored = self.rows.get((gauge, minute))
        if stored and stored.place > place:
            return SUPERSEDED
        if stored and stored.place == place:
            return UNCHANGED
        if stored and stored.value == value:
            self.rows[gauge, minute] = replace(stored, place=place)
            return UNCHANGED
        self.rows[gauge, minute] = Row(place=place, value=value, job=place[0], index=place[1])
        return UPDATED if stored else CREATED


@pytest.fixture
def lake(database_url: str, tmp_path: Path) -> Iterator[Warehouse]:
    with open_lake(database_url, tmp_path) as opened:
        yield opened


_workspaces = itertools.count()


def _load(
    lake: Warehouse, workspace: str, jobs: dict[int, Sequence[tuple[str, int, float]]], *, again: bool
) -> dict[int, list[tuple[int, Outcome]]]:
    staged = [job(seq, submission=ordinal, workspace=workspace) for ordinal, seq in enumerate(jobs)]
    records: list[Record] = [
        (each.submission, index, *record) for each in staged for index, record in enumerate(jobs[each.accepted_seq])
    ]
    loaded = load_records(
        lake, table=TABLE, load_id="load_x", fence=1, staged=staged, frames=[frame(records)], again=again
    )
    return {each.accepted_seq: outcomes(loaded[each.job_id]) for each in staged}


def _rows(lake: Warehouse, workspace: str) -> dict[tuple[str, int], Row]:
    return {
        (row["gauge"], row["at"].minute): Row(
            place=(row["accepted_seq"], row["accepted_index"]),
            value=row['select "x"'],
            job=int(row["job_id"].removeprefix("job_")),
            index=row["record_index"],
        )
        for row in rows_of_lake(lake, workspace=workspace)
    }


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=JOBS, data=st.data())
def test_any_loads_in_any_order_and_again_agree_with_the_model(
    lake: Warehouse, jobs: list[list[tuple[str, int, float]]], data: st.DataObject
) -> None:
    workspace = f"w{next(_workspaces)}"
    numbered = dict(enumerate(jobs, start=1))
    order = data.draw(st.permutations(sorted(numbered)))
    cut = data.draw(st.integers(1, len(order)))
    repeated = data.draw(st.lists(st.sampled_from(order), unique=True, max_size=2))
    model = Model()
    for group in (order[:cut], order[cut:], repeated):
        if group:
            given_jobs = {seq: numbered[seq] for seq in group}
            expected = model.load(given_jobs)
            assert _load(lake, workspace, given_jobs, again=True) == expected
            assert _rows(lake, workspace) == model.rows
    # The law behind the model: what a row says is what was accepted last about its key.
    last = {record[:2]: record[2] for seq in sorted(numbered) for record in numbered[seq]}
    assert {key: row.value for key, row in model.rows.items()} == last
    # Everything once more, at once and one by one, leaves the table as it is.
    _load(lake, workspace, numbered, again=True)
    for seq in reversed(order):
        _load(lake, workspace, {seq: numbered[seq]}, again=True)
    assert _rows(lake, workspace) == model.rows
    assert lake.query(repeated_keys(TABLE)).column(0)[0].as_py() == 0


def test_a_late_job_does_not_overwrite_what_a_later_one_merely_confirmed(lake: Warehouse) -> None:
    # Job 3 says what job 1 had said; job 2, which said otherwise in between, arrives last.
    _load(lake, "acme", {1: [("a", 0, 1.0)]}, again=False)
    assert _load(lake, "acme", {3: [("a", 0, 1.0)]}, again=False) == {3: [(0, UNCHANGED)]}
    assert _load(lake, "acme", {2: [("a", 0, 2.0)]}, again=False) == {2: [(0, SUPERSEDED)]}
    assert _rows(lake, "acme") == {("a", 0): Row(place=(3, 0), value=1.0, job=1, index=0)}


def test_the_same_key_in_two_workspaces_is_two_rows(lake: Warehouse) -> None:
    _load(lake, "acme", {1: [("a", 0, 1.0)]}, again=False)
    assert _load(lake, "other", {2: [("a", 0, 2.0)]}, again=False) == {2: [(0, CREATED)]}
    assert _rows(lake, "acme")["a", 0].value == 1.0


def test_repeats_in_a_large_load_are_found_and_the_last_wins(lake: Warehouse) -> None:
    records = [("a", minute % 900, float(minute)) for minute in range(1_000)]
    loaded = _load(lake, "acme", {1: records}, again=False)[1]
    assert loaded == [(index, SUPERSEDED if index < 100 else CREATED) for index in range(1_000)]
    assert len(rows_of_lake(lake)) == 900
    values = [row['select "x"'] for row in rows_of_lake(lake)]
    assert sorted(values) == [float(value) for value in range(100, 1_000)]
