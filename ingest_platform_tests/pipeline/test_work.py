"""The whole path of small submissions, on real stores: counts, outcomes, the order of acceptance, faults, poison."""

import dataclasses
import gzip
import itertools
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ingest_platform.domain.errors import LeaseLost
from ingest_platform.domain.job import JobState
from ingest_platform.domain.submission import Encoding, Format, Load
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline import work as worked
from ingest_platform.pipeline.platform import Limits, Platform
from ingest_platform.pipeline.work import work_load, work_until_idle
from ingest_platform.storage import jobs
from ingest_platform.storage.warehouse import Warehouse
from ingest_platform_tests.making import accept, body_of, claim, claimed, new_job, row_of, run_out
from ingest_platform_tests.pipeline.working import (
    POINT,
    POINT_SOUTH,
    UNKNOWN_POINT,
    declare,
    fates_of,
    job_of,
    put_blob,
    reading,
    rejections_of,
    rows,
    submission,
    submit,
    values,
    work,
)


@pytest.fixture(autouse=True)
def _declared(platform: Platform) -> None:
    declare(platform)


def _claim(platform: Platform) -> Load:
    load = claim(platform.ledger)
    assert load is not None
    return load


# What becomes of records


def test_good_readings_are_stored_and_bad_ones_rejected_with_all_their_reasons(platform: Platform) -> None:
    bad = {"timestamp": "yesterday", "machine_data_point_config_id": POINT, "value": "1"}
    job_id = submit(platform, reading(1), bad, reading(2, minute=1), 7, reading(3, point=UNKNOWN_POINT))
    report = work(platform)
    job = job_of(platform, job_id)
    assert (job.state, job.verdict) == (JobState.FINISHED, "partial")
    assert (job.received, job.accepted, job.rejected, job.created) == (5, 2, 3, 2)
    assert fates_of(platform, job_id) == ["created", "rejected", "created", "rejected", "rejected"]
    found = rejections_of(platform, job_id)
    assert [each.record_index for each in found] == [1, 3, 4]
    assert [[(problem.code, problem.field) for problem in each.problems] for each in found] == [
        [("invalid_timestamp", "timestamp"), ("invalid_type", "value")],
        [("not_an_object", None)],
        [("not_found", "machine_data_point_config_id")],
    ]
    assert found[1].raw.strip() == b"7"
    assert values(platform) == [1.0, 2.0]
    assert report.balanced
    assert (report.totals["jobs"], report.totals["received"], report.reasons["not_found"]) == (1, 5, 1)


def test_a_stored_row_says_whose_it_is_and_where_it_came_from(platform: Platform) -> None:
    declare(platform, factor=2.5)
    job_id = submit(platform, {"wrong": 1}, reading(4))
    work(platform)
    (row,) = rows(platform)
    job = job_of(platform, job_id)
    assert (row["workspace"], row["job_id"], row["record_index"]) == ("acme", job_id, 1)
    assert (row["accepted_seq"], row["accepted_at"]) == (job.seq, job.accepted_at)
    assert (row["value"], row["raw_value"], row["config_version"]) == (10.0, 4.0, 2)


@pytest.mark.parametrize(
    ("records", "verdict", "counts"),
    [
        ([reading()], "succeeded", (1, 1, 0)),
        ([reading(), {}], "partial", (2, 1, 1)),
        ([{}, []], "failed", (2, 0, 2)),
    ],
)
def test_the_verdict_follows_the_counts(
    platform: Platform, records: Sequence[object], verdict: str, counts: tuple[int, int, int]
) -> None:
    job_id = submit(platform, *records)
    work(platform)
    job = job_of(platform, job_id)
    assert (job.state, job.verdict) == (JobState.FINISHED, verdict)
    assert (job.received, job.accepted, job.rejected) == counts


def test_many_submissions_of_one_load_are_counted_each_for_itself(platform: Platform) -> None:
    ids = [submit(platform, *(reading(n, minute=n) for n in range(count)), {}) for count in range(20)]
    report = work(platform)
    assert report.loads_total == 1
    for count, job_id in enumerate(ids):
        job = job_of(platform, job_id)
        assert (job.received, job.accepted, job.rejected) == (count + 1, count, 1)
    assert len(rows(platform)) == 19


def test_sending_again_is_unchanged_and_another_value_is_updated(platform: Platform) -> None:
    first = submit(platform, reading(1), reading(2, minute=1))
    work(platform)
    second = submit(platform, reading(1), reading(9, minute=1), reading(3, minute=2))
    work(platform)
    assert fates_of(platform, first) == ["created", "created"]
    assert fates_of(platform, second) == ["unchanged", "updated", "created"]
    assert values(platform) == [1.0, 9.0, 3.0]


def test_within_a_job_the_last_one_wins_and_both_are_accepted(platform: Platform) -> None:
    job_id = submit(platform, reading(1), reading(2), reading(3))
    work(platform)
    job = job_of(platform, job_id)
    assert fates_of(platform, job_id) == ["superseded", "superseded", "created"]
    assert (job.accepted, job.superseded, job.created) == (3, 2, 1)
    assert values(platform) == [3.0]


def test_one_instant_in_two_zones_is_one_value(platform: Platform) -> None:
    same = [reading(1) | {"timestamp": text} for text in ("2026-05-06T12:00:00Z", "2026-05-06T14:00:00+02:00")]
    submit(platform, *same)
    work(platform)
    assert len(rows(platform)) == 1


# The order of acceptance


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_acceptance_decides_in_whatever_order_jobs_are_worked(
    platform: Platform, order: tuple[int, ...]
) -> None:
    ids = [submit(platform, reading(10 + n), reading(20 + n, minute=n)) for n in range(3)]
    loads = {claimed(load)[0]: load for load in (claim(platform.ledger, submissions_max=1) for _ in ids) if load}
    for place in order:
        work_load(platform, FEED, loads[ids[place]], run_id="run-1")
    # Minute 0 was said last by the third job.
    assert values(platform) == [12.0, 21.0, 22.0]
    assert [row["job_id"] for row in rows(platform)] == [ids[2], ids[1], ids[2]]
    for job_id in ids:
        job = job_of(platform, job_id)
        assert (job.state, job.accepted, job.rejected) == (JobState.FINISHED, 2, 0)


def test_an_earlier_submission_that_is_worked_later_replaces_nothing(platform: Platform) -> None:
    early, late = submit(platform, reading(1)), submit(platform, reading(2))
    first, second = (claim(platform.ledger, submissions_max=1) for _ in range(2))
    assert first is not None
    assert second is not None
    work_load(platform, FEED, second, run_id=None)
    before = rows(platform)
    work_load(platform, FEED, first, run_id=None)
    assert rows(platform) == before
    assert (fates_of(platform, late), fates_of(platform, early)) == (["created"], ["superseded"])


# Whose data it is


def test_a_record_is_judged_by_the_catalog_at_its_acceptance(platform: Platform) -> None:
    before = submit(platform, reading(1))
    declare(platform, factor=10)
    after = submit(platform, reading(1, minute=1))
    declare(platform, factor=10, retired=True)
    too_late = submit(platform, reading(1, minute=2))
    work(platform)
    assert [(row["value"], row["config_version"]) for row in rows(platform)] == [(1.0, 1), (10.0, 2)]
    assert [job_of(platform, job_id).verdict for job_id in (before, after, too_late)] == [
        "succeeded",
        "succeeded",
        "failed",
    ]


def test_a_key_writes_only_to_its_sites_and_is_not_told_what_exists_elsewhere(platform: Platform) -> None:
    job_id = submit(
        platform,
        reading(1),
        reading(1, point=POINT_SOUTH),
        reading(1, point=UNKNOWN_POINT),
        sites=("south",),
    )
    nowhere = submit(platform, reading(1), sites=())
    work(platform)
    assert fates_of(platform, job_id) == ["rejected", "created", "rejected"]
    first, second = rejections_of(platform, job_id)
    assert first.problems == second.problems
    assert job_of(platform, nowhere).accepted == 0


def test_workspaces_do_not_mix_although_they_name_the_same_data_point(platform: Platform) -> None:
    declare(platform, workspace="globex", factor=3)
    foreign_only = "mdp_01kqzcjrpyf27tge9dnvsqv8t5"
    declare(platform, workspace="globex", point=foreign_only)
    ours = submit(platform, reading(1), reading(1, point=foreign_only))
    theirs = submit(platform, reading(1), workspace="globex")
    work(platform)
    assert [(row["workspace"], row["value"]) for row in rows(platform)] == [("acme", 1.0), ("globex", 3.0)]
    assert fates_of(platform, ours) == ["created", "rejected"]
    assert fates_of(platform, theirs) == ["created"]


# Forms and sizes


@pytest.mark.parametrize("form", [Format.JSON, Format.NDJSON, Format.CSV])
@pytest.mark.parametrize("in_blob", [False, True])
def test_the_same_records_fare_the_same_in_every_form_and_place(
    platform: Platform, form: Format, *, in_blob: bool
) -> None:
    body = {
        Format.JSON: body_of([reading(1), reading(2, minute=1, point=UNKNOWN_POINT)]),
        Format.NDJSON: body_of([reading(1)])[11:-2] + b"\n" + body_of([reading(2, point=UNKNOWN_POINT)])[11:-2],
        Format.CSV: (
            "timestamp,machine_data_point_config_id,value\n"
            f"2026-05-06T12:00:00Z,{POINT},1\n2026-05-06T12:00:00Z,{UNKNOWN_POINT},2\n"
        ).encode(),
    }[form]
    new = dataclasses.replace(new_job(body), format=form)
    if in_blob:
        put_blob(platform, "uploads/one", body)
        new = dataclasses.replace(new, body=None, blob="uploads/one")
    accept(platform.ledger, new)
    work(platform)
    job = job_of(platform, new.id)
    assert (job.state, job.received, job.accepted, job.rejected) == (JobState.FINISHED, 2, 1, 1)
    assert fates_of(platform, new.id) == ["created", "rejected"]
    assert [problem.code for problem in rejections_of(platform, new.id)[0].problems] == ["not_found"]
    assert values(platform) == [1.0]


def test_near_and_far_submissions_of_one_load_keep_their_order(platform: Platform) -> None:
    """Values of one key that alternate between bodies read here and blobs read apart: the last one stays."""
    for number in range(4):
        new = submission(reading(number))
        if number % 2:
            assert new.body is not None
            put_blob(platform, f"uploads/{number}", new.body)
            new = dataclasses.replace(new, body=None, blob=f"uploads/{number}")
        accept(platform.ledger, new)
    work(platform)
    assert values(platform) == [3.0]


def test_more_rejections_than_a_block_holds_are_all_kept(platform: Platform) -> None:
    job_id = submit(platform, *([{"n": n} for n in range(2_500)]), reading(1))
    work(platform)
    job = job_of(platform, job_id)
    assert (job.received, job.rejected, job.accepted) == (2_501, 2_500, 1)
    assert [each.record_index for each in rejections_of(platform, job_id)] == list(range(2_500))


# What can't be read


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"", Format.JSON),
        (b"no JSON", Format.JSON),
        (b'{"items": 3}', Format.JSON),
        (b'{"items": []}', Format.JSON),
        (b'{"records": []}', Format.JSON),
        (b'{"items": [', Format.JSON),
        (b"PAR1 but no Parquet", Format.PARQUET),
        (b"\xff\xfe no CSV", Format.CSV),
    ],
)
def test_a_submission_that_can_not_be_read_fails_alone_with_a_reason(
    platform: Platform, body: bytes, form: Format
) -> None:
    before = submit(platform, reading(1))
    (broken,) = accept(platform.ledger, dataclasses.replace(new_job(body), format=form))
    after = submit(platform, reading(2, minute=1))
    report = work(platform)
    job = job_of(platform, broken.id)
    assert (job.state, job.verdict, job.attempts) == (JobState.FAILED, "failed", 1)
    assert job.error_code
    assert job.error_message
    assert [job_of(platform, job_id).verdict for job_id in (before, after)] == ["succeeded"] * 2
    assert values(platform) == [1.0, 2.0]
    assert report.totals["failed_jobs"] == 1


def test_a_gzip_file_that_is_cut_short_fails_alone(platform: Platform) -> None:
    packed = gzip.compress(body_of([reading(n, minute=n) for n in range(500)]))[:-20]
    new = dataclasses.replace(new_job(packed), encoding=Encoding.GZIP)
    accept(platform.ledger, new)
    good = submit(platform, reading(1))
    work(platform)
    assert job_of(platform, new.id).state is JobState.FAILED
    assert job_of(platform, good).verdict == "succeeded"
    assert len(rows(platform)) == 1


def test_a_file_that_breaks_after_records_of_it_were_staged_leaves_none_of_them(platform: Platform) -> None:
    good = b"\n".join(json.dumps(reading(n, minute=n % 1_000)).encode() for n in range(300_000))
    body = gzip.compress(good, compresslevel=1)
    broken = dataclasses.replace(
        new_job(b""), format=Format.NDJSON, encoding=Encoding.GZIP, body=None, blob="uploads/broken", bytes_in=1_000
    )
    put_blob(platform, "uploads/broken", body[:-20])
    before = submit(platform, reading(1, minute=5))
    accept(platform.ledger, broken)
    after = submit(platform, reading(2, minute=6))
    work(platform)
    assert (job_of(platform, broken.id).state, job_of(platform, broken.id).error_code) == (
        JobState.FAILED,
        "invalid_encoding",
    )
    assert [(row["job_id"], row["value"]) for row in rows(platform)] == [(before, 1.0), (after, 2.0)]
    assert list(platform.staging_dir.iterdir()) == []
    # Only what is stored was written for somebody.
    assert sum(job_of(platform, job_id).bytes_written or 0 for job_id in (before, broken.id, after)) < 1_000


def test_a_job_tells_how_many_bytes_were_written_for_it(platform: Platform) -> None:
    small, large = (submit(platform, *(reading(n, minute=n) for n in range(count))) for count in (10, 1_000))
    bad = submit(platform, {})
    work(platform)
    written = [job_of(platform, job_id).bytes_written or 0 for job_id in (small, large)]
    # The number of the submission and of the record, an instant, two numbers, a version and the point's id.
    assert 40 * 1_010 < sum(written) < 100 * 1_010
    assert written[1] > 50 * written[0] > 0
    alone = submit(platform, {})
    work(platform)
    assert (job_of(platform, bad).bytes_written or 0) < 100
    assert job_of(platform, alone).bytes_written == 0


# Repeats, lost leases, faults


def test_the_same_job_worked_twice_changes_nothing(platform: Platform) -> None:
    job_id = submit(platform, reading(1), reading(2, minute=1), {})
    load = _claim(platform)
    work_load(platform, FEED, load, run_id="run-1")
    before, fates = rows(platform), fates_of(platform, job_id)
    with platform.ledger.connection() as connection:
        row = row_of(connection, job_id)
    # A worker that does not know that it has settled the load already.
    with pytest.raises(LeaseLost):
        work_load(platform, FEED, load, run_id="run-2")
    assert rows(platform) == before
    assert fates_of(platform, job_id) == fates
    with platform.ledger.connection() as connection:
        assert row_of(connection, job_id) == row


def test_a_worker_that_died_between_the_warehouse_and_the_ledger_leaves_the_rest_to_the_next(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(platform, reading(1), reading(1, minute=1), {}, reading(5))
    load = _claim(platform)

    class Died(BaseException):
        """The process is gone."""

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr("ingest_platform.pipeline.work.settle", die)
        with pytest.raises(Died):
            work_load(platform, FEED, load, run_id="run-1")
    before = rows(platform)
    assert len(before) == 2
    assert job_of(platform, job_id).state is JobState.PROCESSING
    run_out(platform.ledger, load)
    work(platform)
    assert rows(platform) == before
    # Told as it was the first time, not as "unchanged".
    assert fates_of(platform, job_id) == ["superseded", "created", "rejected", "created"]
    assert job_of(platform, job_id).attempts == 2


@pytest.mark.parametrize(("noted_after_seconds", "noted"), [(0.0, True), (60.0, False)])
def test_a_load_that_takes_long_notes_when_it_was_judged_and_a_short_one_does_not(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, *, noted_after_seconds: float, noted: bool
) -> None:
    monkeypatch.setattr("ingest_platform.pipeline.work.NOTED_AFTER_SECONDS", noted_after_seconds)
    job_id = submit(platform, reading(1))
    with monkeypatch.context() as patched:
        patched.setattr("ingest_platform.pipeline.work.settle", lambda *_, **__: None)
        work_load(platform, FEED, load := _claim(platform), run_id="run-1")
    job = job_of(platform, job_id)
    assert job.state is JobState.PROCESSING
    assert (job.validated_at is not None) == noted
    run_out(platform.ledger, load)
    work(platform)
    assert job_of(platform, job_id).validated_at is not None


def test_a_worker_that_slept_past_its_lease_changes_no_status(platform: Platform) -> None:
    job_id = submit(platform, reading(1))
    slept = _claim(platform)
    run_out(platform.ledger, slept)
    other = _claim(platform)
    with pytest.raises(LeaseLost):
        work_load(platform, FEED, slept, run_id="asleep")
    assert job_of(platform, job_id).state is JobState.PROCESSING
    work_load(platform, FEED, other, run_id="awake")
    job = job_of(platform, job_id)
    assert (job.state, job.run_id, job.created) == (JobState.FINISHED, "awake", 1)
    assert values(platform) == [1.0]


def test_a_run_that_loses_a_lease_goes_on_with_the_next_load(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(platform, reading(1))
    real = worked.settle
    lost = threading.Event()

    def lose_the_first(ledger: object, load: Load, *rest: object, **more: object) -> None:
        if not lost.is_set():
            lost.set()
            run_out(platform.ledger, load)
            # Somebody else claims it and gives it back at once.
            other = _claim(platform)
            with platform.ledger.transaction() as tx:
                jobs.release(tx, other)
        real(ledger, load, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(worked, "settle", lose_the_first)
    report = work(platform)
    assert len(report.faults) == 1
    assert report.loads_total == 1
    assert job_of(platform, job_id).state is JobState.FINISHED
    assert fates_of(platform, job_id) == ["created"]


def test_a_lake_that_is_away_puts_the_load_back_and_costs_no_attempt(platform: Platform, tmp_path: Path) -> None:
    job_id = submit(platform, reading(1))
    # Nothing listens on the discard port of the loopback address.
    away = Warehouse("postgresql://nobody@127.0.0.1:9/none", lake_path=str(tmp_path / "x"), memory_bytes_max=1 << 28)
    report = work(dataclasses.replace(platform, warehouse=away))
    assert len(report.faults) == 1
    job = job_of(platform, job_id)
    assert (job.state, job.attempts) == (JobState.PROCESSING, 0)
    with platform.ledger.connection() as connection:
        connection.execute("UPDATE jobs SET lease_until = NULL")
    work(platform)
    assert job_of(platform, job_id).verdict == "succeeded"


def _work_or_die(platform: Platform, dies: Callable[[Load], bool]) -> None:
    """Work like a row of workers, each of which dies of some loads."""
    for _ in range(50):
        load = claim(platform.ledger)
        if load is None:
            return
        if dies(load):
            run_out(platform.ledger, load)
        else:
            work_load(platform, FEED, load, run_id=None)
    raise AssertionError("it does not come to an end")


def test_poison_fails_alone_after_three_attempts_and_its_neighbours_are_stored(platform: Platform) -> None:
    ids = [submit(platform, reading(n, minute=n)) for n in range(6)]
    poison = ids[3]
    _work_or_die(platform, lambda load: poison in claimed(load))
    work(platform)
    job = job_of(platform, poison)
    assert (job.state, job.error_code, job.attempts) == (JobState.FAILED, "attempts_exhausted", 3)
    assert {job_of(platform, job_id).verdict for job_id in ids if job_id != poison} == {"succeeded"}
    assert len(rows(platform)) == 5


def test_attempts_are_as_many_as_the_limits_allow(platform: Platform) -> None:
    strict = dataclasses.replace(platform, limits=Limits(attempts_max=1))
    poison = submit(strict, reading())
    load = _claim(strict)
    run_out(strict.ledger, load)
    work(strict)
    assert (job_of(strict, poison).error_code, job_of(strict, poison).attempts) == ("attempts_exhausted", 1)


def test_one_that_was_stored_before_its_worker_died_is_settled_even_when_its_attempts_are_used_up(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(platform, reading(1))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worked, "settle", die)
        load = claim(platform.ledger)
        assert load is not None
        with pytest.raises(KeyboardInterrupt):
            work_load(platform, FEED, load, run_id=None)
    with platform.ledger.connection() as connection:
        connection.execute("UPDATE jobs SET attempts = 3, lease_until = clock_timestamp() - interval '1 s'")
    work(platform)
    job = job_of(platform, job_id)
    assert (job.state, job.verdict) == (JobState.FINISHED, "succeeded")
    assert fates_of(platform, job_id) == ["created"]
    assert len(rows(platform)) == 1


# Runs


def test_a_run_works_load_after_load_until_nothing_waits(platform: Platform) -> None:
    small = dataclasses.replace(platform, limits=Limits(load_submissions_max=3))
    for n in range(10):
        submit(platform, reading(n, minute=n))
    report = work(small)
    assert report.loads_total == 4
    assert report.totals["created"] == 10
    assert work(small).loads_total == 0


def test_a_run_stops_between_two_loads_when_it_is_told(platform: Platform) -> None:
    small = dataclasses.replace(platform, limits=Limits(load_submissions_max=1))
    for n in range(3):
        submit(platform, reading(n, minute=n))
    told = iter([False, True])
    report = work_until_idle(small, FEED, day=None, run_id="run-1", linger_seconds=0.0, stop=lambda: next(told))
    assert report.loads_total == 1
    with platform.ledger.connection() as connection:
        assert jobs.waiting(connection, FEED.name).submissions == 2


def test_a_run_lingers_for_what_comes_in_meanwhile(platform: Platform) -> None:
    submit(platform, reading(1))
    waits: list[float] = []

    def wait(seconds: float) -> None:
        if not waits:
            submit(platform, reading(2, minute=1))
        waits.append(seconds)

    # Longer than a machine that has much to do takes to find nothing.
    report = work_until_idle(platform, FEED, day=None, run_id="run-1", linger_seconds=0.5, wait=wait)
    assert report.loads_total == 2
    assert len(rows(platform)) == 2


def test_nothing_is_left_in_the_staging_folder(platform: Platform) -> None:
    submit(platform, reading(1))
    work(platform)
    assert list(platform.staging_dir.iterdir()) == []


def test_two_workers_at_once_do_what_one_would(platform: Platform, database_url: str, tmp_path: Path) -> None:
    small = dataclasses.replace(platform, limits=Limits(load_submissions_max=2))
    ids = [submit(platform, reading(n), reading(n, minute=n + 1)) for n in range(20)]
    lake = Warehouse(database_url, lake_path=str(tmp_path / "lake"), memory_bytes_max=256 << 20)
    with lake:
        other = dataclasses.replace(small, warehouse=lake)
        threads = [threading.Thread(target=work, args=(each,)) for each in (small, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert {job_of(platform, job_id).verdict for job_id in ids} == {"succeeded"}
    assert values(platform)[0] == 19.0
    assert len(rows(platform)) == 21


def test_a_job_whose_bytes_are_lost_fails_with_a_reason_and_its_neighbours_finish(platform: Platform) -> None:
    before = submit(platform, reading(1))
    body = b'{"items":[]}'
    put_blob(platform, "uploads/lost", body)
    new = dataclasses.replace(new_job(body), body=None, blob="uploads/lost")
    (lost,) = accept(platform.ledger, new)
    after = submit(platform, reading(2, minute=1))
    platform.blobs.delete("uploads/lost")
    report = work(platform)
    job = job_of(platform, lost.id)
    assert (job.state, job.error_code, job.attempts) == (JobState.FAILED, "bytes_lost", 1)
    assert [job_of(platform, job_id).state for job_id in (before, after)] == [JobState.FINISHED] * 2
    assert report.faults == []


def test_a_blob_store_that_is_away_holds_back_nobody_but_its_jobs(platform: Platform) -> None:
    put_blob(platform, "uploads/away", body := b'{"items":[]}')
    (away,) = accept(platform.ledger, dataclasses.replace(new_job(body), body=None, blob="uploads/away"))
    other = submit(platform, reading(1))
    platform.data_dir.joinpath("blobs").rename(platform.data_dir / "elsewhere")
    assert work(platform).faults
    assert job_of(platform, other).state is JobState.FINISHED
    waiting = job_of(platform, away.id)
    assert (waiting.state.terminal, waiting.error_code) == (False, None)
    platform.data_dir.joinpath("elsewhere").rename(platform.data_dir / "blobs")
