"""Shapes of targets: a load is of one target, held to what that target declares, and lies where it says."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_platform.domain.contract import Contract
from ingest_platform.domain.errors import NotFound
from ingest_platform.domain.feed import Feed, KeyedTable, Shape
from ingest_platform.domain.job import JobState
from ingest_platform.pipeline.backfill import work_day_again
from ingest_platform.pipeline.files import collect, land_file
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.shapes import ShapeCache, by_target
from ingest_platform.storage import inbox
from ingest_platform.storage.jobs import NewJob
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.warehouse import rows_of
from ingest_platform_tests.example_feed.heartbeats import FEED
from ingest_platform_tests.making import accept, body_of, make_workspace, new_job
from ingest_platform_tests.pipeline.working import job_of, rejections_of, work

BEAT = {field.name: field.example for field in FEED.contract.fields}
# The strict target takes no field that is not declared; the lax one does.
STRICT, LAX = "strict", "lax"
asked: list[str] = []


def _shapes(_: Transaction, *, workspace: str, target: str) -> Shape | None:
    asked.append(target)
    if workspace != "acme" or target not in {STRICT, LAX}:
        return None
    assert isinstance(FEED.table, KeyedTable)
    contract = Contract(name=target, fields=FEED.contract.fields, extra_allowed=target == LAX)
    return Shape(contract=contract, table=replace(FEED.table, name=f"beats_{target}"))


TARGETED: Feed = replace(FEED, name="targeted", folder="targeted", shapes=_shapes)


@pytest.fixture(autouse=True)
def _acme(platform: Platform) -> None:
    make_workspace(platform.ledger)


def beat(*, target: str | None, **more: object) -> NewJob:
    body = body_of([{**BEAT, **more}], envelope_key=FEED.envelope_key)
    return replace(new_job(body, feed=TARGETED.name), target=target)


def _count(platform: Platform, target: str) -> int:
    return platform.warehouse.query(f"SELECT count(*) FROM {rows_of(f'beats_{target}')}").column(0)[0].as_py()


def _states(platform: Platform, jobs: Sequence[str]) -> list[JobState]:
    return [job_of(platform, job_id).state for job_id in jobs]


def test_each_targets_records_are_held_to_its_own_contract_and_lie_in_its_own_table(platform: Platform) -> None:
    new = [beat(target=each, note="extra") for each in (STRICT, LAX, STRICT, LAX)]
    ids = [each.id for each in accept(platform.ledger, *new)]
    done = work(platform, TARGETED)
    assert [load.jobs for load in done.loads] == [2, 2]
    assert set(done.tables) == {"beats_strict", "beats_lax"}
    assert [job_of(platform, each).rejected for each in ids] == [1, 0, 1, 0]
    assert rejections_of(platform, ids[0])[0].problems[0].field == "note"
    # Of the lax ones the second says nothing new of the same key.
    assert (_count(platform, STRICT), _count(platform, LAX)) == (0, 1)


def test_a_submission_without_a_target_is_held_to_the_feeds_own_contract(platform: Platform) -> None:
    (accepted,) = accept(platform.ledger, beat(target=None))
    work(platform, TARGETED)
    assert job_of(platform, accepted.id).created == 1


def test_a_target_that_is_gone_fails_its_own_jobs_with_a_reason(platform: Platform) -> None:
    gone, good = accept(platform.ledger, beat(target="gone"), beat(target=LAX))
    work(platform, TARGETED)
    assert _states(platform, [gone.id, good.id]) == [JobState.FAILED, JobState.FINISHED]
    job = job_of(platform, gone.id)
    assert job.error_code == "not_found"
    assert "gone" in str(job.error_message)


def test_a_target_of_another_workspace_is_no_target(platform: Platform) -> None:
    make_workspace(platform.ledger, "other")
    (accepted,) = accept(platform.ledger, replace(beat(target=LAX), workspace="other"))
    work(platform, TARGETED)
    assert job_of(platform, accepted.id).error_code == "not_found"


def test_a_day_of_several_targets_can_be_worked_again(platform: Platform) -> None:
    accept(platform.ledger, beat(target=STRICT), beat(target=LAX), beat(target=None))
    work(platform, TARGETED)
    with platform.ledger.connection() as connection:
        day = inbox.today(connection)
    again = work_day_again(platform, TARGETED, day=day)
    assert again.loads_total == 3
    assert (_count(platform, STRICT), _count(platform, LAX)) == (1, 1)


def test_a_shape_that_was_found_is_not_asked_for_again_and_one_that_was_not_is(platform: Platform) -> None:
    cache = ShapeCache(platform.ledger)
    asked.clear()
    found = [cache.of(TARGETED, workspace="acme", target=target) for target in (LAX, LAX, "new", "new")]
    assert found[0] is found[1]
    assert found[2:] == [None, None]
    assert asked == [LAX, "new", "new"]
    assert cache.of(FEED, workspace="acme", target=LAX) is None


def test_submissions_are_parted_by_target_in_their_order(platform: Platform) -> None:
    accept(platform.ledger, beat(target=LAX), beat(target=None), beat(target=LAX))
    with platform.ledger.connection() as connection:
        day = inbox.today(connection)
        found = connection.execute("SELECT count(*) FROM jobs WHERE day = %s", (day,)).fetchone()
    assert found == (3,)
    assert by_target([]) == {}


def _drop(platform: Platform, *parts: str) -> None:
    path = platform.data_dir.joinpath("landing", "acme", TARGETED.folder, *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body_of([BEAT], envelope_key=FEED.envelope_key))


def test_the_first_folder_below_the_feeds_is_the_target_of_a_dropped_file(platform: Platform) -> None:
    for parts in ((LAX, "beats.json"), ("gone", "beats.json"), ("beats.json",)):
        _drop(platform, *parts)
    first = collect(platform, [TARGETED], now=lambda: 0.0)
    taken = [*first, *collect(platform, [TARGETED], now=lambda: 10.0)]
    by_name = {each.name: each for each in taken}
    assert by_name["gone/beats.json"].refused == "not_found"
    assert len(taken) == 3
    good = next(each for each in taken if each.refused is None)
    assert job_of(platform, good.job_id).target == LAX
    work(platform, TARGETED)
    assert job_of(platform, good.job_id).created == 1


def test_a_file_that_is_sent_names_its_target(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "beats.json"
    path.write_bytes(body_of([BEAT], envelope_key=FEED.envelope_key))
    job_id = land_file(platform, TARGETED, "acme", path, target=LAX)
    assert job_of(platform, job_id).target == LAX
    for feed, target in ((TARGETED, None), (TARGETED, "gone"), (FEED, LAX)):
        with pytest.raises(NotFound):
            land_file(platform, feed, "acme", path, target=target)
