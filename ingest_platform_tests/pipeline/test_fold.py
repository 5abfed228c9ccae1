"""Fold: a row is what all records of its key say together, whatever the order, the cut and the number of loads."""

import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.domain.errors import WarehouseFault
from ingest_platform.domain.outcome import Outcome
from ingest_platform.pipeline.dedupe import repeated_keys
from ingest_platform.pipeline.load import load_records
from ingest_platform.storage.warehouse import Warehouse
from ingest_platform_tests.pipeline.folded_records import (
    TABLE,
    Jobs,
    Note,
    derive,
    fold_plainly,
    frame,
    places_of,
    places_of_lake,
    rows_of_lake,
    take,
)
from ingest_platform_tests.pipeline.lake_records import MIB, job, open_lake, outcomes

CREATED, UPDATED, UNCHANGED, STALE = Outcome.CREATED, Outcome.UPDATED, Outcome.UNCHANGED, Outcome.STALE

# Few notes and words, so that they meet often.
NOTES = st.builds(
    Note,
    st.sampled_from("abc"),
    st.sampled_from(["t", "u"]),
    st.sampled_from([None, "x", "y"]),
    st.sampled_from([None, "high"]),
    st.sampled_from([None, 1, 2, 3]),
)
JOBS = st.lists(st.lists(st.one_of(st.none(), NOTES, NOTES, NOTES), max_size=4), min_size=1, max_size=5)

_workspaces = itertools.count()


@pytest.fixture(scope="module")
def lake(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    # A lake needs no ledger; each example has a workspace of its own in it.
    with open_lake(server_url, tmp_path_factory.mktemp("fold")) as opened:
        yield opened


def _workspace() -> str:
    return f"w{next(_workspaces)}"


def _load(lake: Warehouse, workspace: str, jobs: Jobs, *, again: bool = False) -> dict[int, list[tuple[int, Outcome]]]:
    # The workspace is in the job's id as well: what was applied is remembered by it.
    staged = [job(seq, submission=ordinal, workspace=workspace) for ordinal, seq in enumerate(jobs)]
    loaded = load_records(
        lake,
        table=TABLE,
        load_id="load_x",
        fence=1,
        staged=staged,
        frames=[frame(jobs)],
        derive=derive,
        again=again,
    )
    return {each.accepted_seq: outcomes(loaded[each.job_id]) for each in staged}


@settings(max_examples=12, deadline=None)
@given(jobs=JOBS, data=st.data())
def test_any_cut_of_any_order_of_loads_leaves_what_one_after_the_other_leaves(
    lake: Warehouse, jobs: list[list[Note | None]], data: st.DataObject
) -> None:
    workspace, numbered = _workspace(), dict(enumerate(jobs, start=1))
    order = data.draw(st.permutations(sorted(numbered)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(order)), max_size=3)) | {0, len(order)})
    done: Jobs = {}
    for begin, end in itertools.pairwise(cuts):
        group = {seq: numbered[seq] for seq in order[begin:end]}
        fates = _load(lake, workspace, group, again=True)
        assert {seq: [index for index, _ in each] for seq, each in fates.items()} == {
            seq: [index for index, note in enumerate(notes) if note is not None] for seq, notes in group.items()
        }
        done = {**done, **group}
        assert rows_of_lake(lake, workspace=workspace) == fold_plainly(done)
    assert places_of_lake(lake, workspace=workspace) == places_of(numbered)
    # Everything once more, at once and one by one, leaves the tables as they are.
    _load(lake, workspace, numbered, again=True)
    for seq in order:
        _load(lake, workspace, {seq: numbered[seq]}, again=True)
    assert rows_of_lake(lake, workspace=workspace) == fold_plainly(numbered)
    assert places_of_lake(lake, workspace=workspace) == places_of(numbered)
    assert lake.query(repeated_keys(TABLE)).column(0)[0].as_py() == 0


@settings(max_examples=8, deadline=None)
@given(jobs=JOBS, data=st.data())
def test_outcomes_are_as_if_records_were_taken_one_by_one(
    lake: Warehouse, jobs: list[list[Note | None]], data: st.DataObject
) -> None:
    workspace, numbered = _workspace(), dict(enumerate(jobs, start=1))
    cut = data.draw(st.integers(0, len(numbered)))
    rows: dict[str, dict[str, object]] = {}
    expected = {
        seq: [(index, take(rows, note, seq=seq, index=index)) for index, note in enumerate(notes) if note is not None]
        for seq, notes in numbered.items()
    }
    halves = [{seq: numbered[seq] for seq in numbered if (seq <= cut) is first} for first in (True, False)]
    told = [_load(lake, workspace, half, again=True) for half in halves if half]
    assert {seq: fates for each in told for seq, fates in each.items()} == expected


def test_given_fields_replace_and_omitted_ones_stay(lake: Warehouse) -> None:
    workspace = _workspace()
    told = _load(
        lake,
        workspace,
        {1: [Note("a", "t", "x", "high", 1)], 2: [Note("a", "u"), Note("a", "u"), Note("a", "u", "y", edited=2)]},
        again=True,
    )
    assert told == {1: [(0, CREATED)], 2: [(0, UPDATED), (1, UNCHANGED), (2, UPDATED)]}
    (row,) = rows_of_lake(lake, workspace=workspace).values()
    assert (row["title"], row['select "x"'], row["level"], row["occurrences"]) == ("u", "y", "high", 4)
    assert row["shout"] == "UYHIGH"


def test_what_is_older_than_what_is_stored_changes_nothing_at_all(lake: Warehouse) -> None:
    workspace = _workspace()
    _load(lake, workspace, {1: [Note("a", "t", edited=5)]}, again=True)
    before = rows_of_lake(lake, workspace=workspace)
    assert _load(lake, workspace, {2: [Note("a", "u", "x", edited=4)]}, again=True) == {2: [(0, STALE)]}
    assert rows_of_lake(lake, workspace=workspace) == before
    # It is kept all the same, once.
    _load(lake, workspace, {2: [Note("a", "u", "x", edited=4)]}, again=True)
    assert places_of_lake(lake, workspace=workspace) == [(1, 0, "a", "t"), (2, 0, "a", "u")]


def test_a_record_that_arrives_late_has_its_place_and_may_make_later_ones_stale(lake: Warehouse) -> None:
    workspace = _workspace()
    jobs: Jobs = {1: [Note("a", "t", "x")], 2: [Note("a", "t", edited=9)], 3: [Note("a", "u", "y", edited=4)]}
    _load(lake, workspace, {1: jobs[1]}, again=True)
    assert _load(lake, workspace, {3: jobs[3]}, again=True) == {3: [(0, UPDATED)]}
    assert _load(lake, workspace, {2: jobs[2]}, again=True) == {2: [(0, UPDATED)]}
    assert rows_of_lake(lake, workspace=workspace) == fold_plainly(jobs)
    # The first of a note is created once, even when an earlier one arrives.
    assert _load(lake, workspace, {5: [Note("b", "t")]}, again=True) == {5: [(0, CREATED)]}
    assert _load(lake, workspace, {4: [Note("b", "u")]}, again=True) == {4: [(0, UPDATED)]}
    assert rows_of_lake(lake, workspace=workspace)["b"]["title"] == "t"


def test_a_row_whose_hash_another_key_has_stays(lake: Warehouse) -> None:
    workspace = _workspace()
    _load(lake, workspace, {1: [Note("a", "t"), Note("b", "t")]}, again=True)
    _load(lake, workspace, {2: [Note("a", "u", "x")]}, again=True)
    assert {note: row["title"] for note, row in rows_of_lake(lake, workspace=workspace).items()} == {"a": "u", "b": "t"}


def test_jobs_that_were_loaded_are_remembered_with_their_outcomes(lake: Warehouse) -> None:
    # Jobs of all workspaces share their ids here, so these numbers are this test's own.
    jobs: Jobs = {901: [Note("a", "t", edited=2), None, Note("a", "u", edited=1)], 902: []}
    told = _load(lake, "remembered", jobs)
    assert told == {901: [(0, CREATED), (2, STALE)], 902: []}
    assert _load(lake, "remembered", {901: jobs[901], 903: [Note("a", "u")]}) == {
        901: told[901],
        903: [(0, UPDATED)],
    }
    assert places_of_lake(lake, workspace="remembered") == [(901, 0, "a", "t"), (901, 2, "a", "u"), (903, 0, "a", "u")]


def test_a_row_that_was_not_derived_is_a_fault_and_nothing_is_stored(lake: Warehouse) -> None:
    workspace = _workspace()
    staged, frames = [job(1, workspace=workspace)], [frame({1: [Note("a", "t")]})]
    for wrong in (None, lambda rows: rows.head(0).with_columns(shout=pl.lit("")), lambda rows: derive(rows).head(0)):
        with pytest.raises(WarehouseFault, match="derive"):
            load_records(
                lake, table=TABLE, load_id="x", fence=1, staged=staged, frames=frames, derive=wrong, again=True
            )
    assert rows_of_lake(lake, workspace=workspace) == {}
    assert places_of_lake(lake, workspace=workspace) == []


def test_upkeep_flushes_and_merges_the_records_too(lake: Warehouse) -> None:
    workspace = _workspace()
    for seq in range(1, 5):
        _load(lake, workspace, {seq: [Note("a", "t", str(seq))]}, again=True)
    before = rows_of_lake(lake, workspace=workspace), places_of_lake(lake, workspace=workspace)
    lake.maintain()
    assert lake.inlined_rows()[TABLE.name] == lake.inlined_rows()[TABLE.records_name] == 0
    assert (rows_of_lake(lake, workspace=workspace), places_of_lake(lake, workspace=workspace)) == before
    _load(lake, workspace, {5: [Note("a", "t")]}, again=True)
    assert rows_of_lake(lake, workspace=workspace)["a"]["occurrences"] == 5


def test_a_scan_hands_over_few_rows_besides_the_wanted_ones(lake: Warehouse) -> None:
    # DuckDB's own choice, which another version of it may make differently: see the comment in fold.py.
    made = "SELECT range AS k, md5(range::VARCHAR) AS t FROM range(200_000) ORDER BY k"
    with closing(lake.session()) as session:
        session.execute(f"CREATE TABLE lake.main.scanned AS {made}")
        session.execute("CREATE TEMP TABLE wanted AS SELECT range * 100 AS k, TRUE AS is_hit FROM range(2000)")
        joined = "lake.main.scanned AS r SEMI JOIN (SELECT k FROM wanted WHERE is_hit) AS w ON r.k = w.k"
        assert session.fetch(f"SELECT count(*), count(t) FROM {joined}").to_pylist() == [
            {"count_star()": 2000, "count(t)": 2000}
        ]
        told = session.fetch(f"EXPLAIN (ANALYZE, FORMAT json) SELECT k, t FROM {joined}").column(1)[0].as_py()
        session.execute("DROP TABLE lake.main.scanned")
    assert 2000 <= _scanned_rows(json.loads(told)) < 20_000


def _scanned_rows(node: dict[str, Any]) -> int:
    """Count the rows that come out of the scan of a lake table."""
    below = sum(map(_scanned_rows, node["children"]))
    is_scan = node.get("extra_info", {}).get("Table") == "scanned"
    return below + (node["operator_cardinality"] if is_scan else 0)


def test_a_join_whose_small_side_does_not_fit_in_memory_loses_no_row(empty_database_url: str, tmp_path: Path) -> None:
    # DuckDB after 1.5.5 had a Bloom filter of the part that fitted (duckdb/duckdb#25702): rows of the rest were lost.
    with (
        Warehouse(
            empty_database_url,
            lake_path=str(tmp_path / "lake"),
            memory_bytes_max=32 * MIB,
            spill_path=str(tmp_path / "spill"),
        ) as small,
        closing(small.session()) as session,
    ):
        session.execute("CREATE TEMP TABLE build AS SELECT range % 2000 AS k, TRUE AS is_hit FROM range(2_000_000)")
        session.execute("CREATE TEMP TABLE probe AS SELECT range % 4000 AS k FROM range(2_000_000)")
        found = session.fetch("SELECT count(*) FROM probe SEMI JOIN (FROM build WHERE is_hit) AS b ON probe.k = b.k")
    assert found.column(0)[0].as_py() == 1_000_000
