"""Jobs: accepted in order, claimed by one worker at a time, settled by whoever holds the fence, never changed after."""

import dataclasses
import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from ingest_platform.domain.errors import LeaseLost
from ingest_platform.domain.job import JobState, Origin
from ingest_platform.domain.outcome import Tally
from ingest_platform.domain.submission import Encoding, Format, Load
from ingest_platform.storage import jobs
from ingest_platform.storage.jobs import ATTEMPTS_MAX, Costs, JobFilter, NewJob, Settlement
from ingest_platform.storage.ledger import Ledger, connect
from ingest_platform.storage.packing import PACKED_BYTES_MIN
from ingest_platform_tests.making import accept, at_once, claim, claimed, make_workspace, new_job, row_of, run_out


@pytest.fixture(autouse=True)
def _workspaces(ledger: Ledger) -> None:
    make_workspace(ledger, "acme")
    make_workspace(ledger, "other")


def _settle(ledger: Ledger, load: Load, settlements: Sequence[Settlement] | None = None) -> None:
    done = settlements or [
        Settlement(job_id=each.job_id, tally=Tally.of(received=1, created=1)) for each in load.submissions
    ]
    with ledger.transaction() as tx:
        jobs.settle(tx, load, done, Costs())


def _rows(ledger: Ledger, job_ids: Sequence[str]) -> list[object]:
    with ledger.connection() as connection:
        return [row_of(connection, job_id) for job_id in job_ids]


def _accept_many(ledger: Ledger, count: int, *, body: bytes = b"{}") -> list[str]:
    return [each.id for each in accept(ledger, *(new_job(body) for _ in range(count)))]


@contextmanager
def _listening(database_url: str, channel: str) -> Iterator[list[str]]:
    """Collect what is told on a channel while the block runs, up to the last word before it ended."""
    heard: list[str] = []
    end = uuid.uuid4().hex
    with connect(database_url, application="listener") as listener:
        listener.execute(f"LISTEN {channel}")
        yield heard
        listener.execute("SELECT pg_notify(%s, %s)", (channel, end))
        for told in listener.notifies(timeout=10):
            if told.payload == end:
                return
            heard.append(told.payload)
    raise AssertionError("the listener did not hear its own word")


# Accepting


def test_a_submission_comes_back_from_the_claim_as_it_was_accepted(ledger: Ledger) -> None:
    new = dataclasses.replace(
        new_job(b'{"items": [1]}'),
        target="line-7",
        origin=Origin.FILE,
        format=Format.NDJSON,
        encoding=Encoding.ZSTD,
        sites=("north", "südwest"),
        file_name="a.ndjson.zst",
    )
    (accepted,) = accept(ledger, new)
    load = claim(ledger)
    assert load is not None
    (submission,) = load.submissions
    assert (submission.job_id, submission.seq, submission.body) == (new.id, accepted.seq, b'{"items": [1]}')
    assert (submission.format, submission.encoding, submission.origin) == (Format.NDJSON, Encoding.ZSTD, "file")
    assert (submission.target, submission.sites, submission.blob) == ("line-7", ("north", "südwest"), None)
    assert submission.accepted_at == accepted.accepted_at
    assert (submission.attempts, load.feed, load.day) == (1, "machine_data", accepted.day)


def test_bodies_come_back_as_they_were_sent_however_they_lie_in_their_rows(ledger: Ledger) -> None:
    bodies = [b"{}", b'{"items": [1]}' * 1_000, b"", random.Random(1).randbytes(PACKED_BYTES_MIN)]
    accept(ledger, *(new_job(body) for body in bodies))
    load = claim(ledger)
    assert load is not None
    assert [submission.body for submission in load.submissions] == bodies
    assert [submission.bytes_in for submission in load.submissions] == [len(body) for body in bodies]
    _settle(ledger, load)
    with ledger.connection() as connection:
        rows = connection.execute("SELECT packed, length(body) FROM submissions JOIN jobs ON id = job_id ORDER BY seq")
        shown = rows.fetchall()
        of_day = jobs.submissions_of_day(
            connection, feed="machine_data", day=load.day, after_seq=0, bytes_max=1 << 20, limit=10
        )
    assert [packed for packed, _ in shown] == [False, True, False, True]
    assert shown[1][1] < len(bodies[1]) / 10
    assert [submission.body for submission in of_day] == bodies


@pytest.mark.parametrize("sites", [None, (), ("north",)])
def test_no_sites_at_all_and_every_site_stay_apart(ledger: Ledger, sites: tuple[str, ...] | None) -> None:
    accept(ledger, dataclasses.replace(new_job(), sites=sites))
    load = claim(ledger)
    assert load is not None
    assert load.submissions[0].sites == sites


def test_submissions_accepted_together_keep_their_order(ledger: Ledger) -> None:
    new = [new_job() for _ in range(50)]
    accepted = accept(ledger, *new)
    assert [each.id for each in accepted] == [job.id for job in new]
    assert [each.seq for each in accepted] == sorted(each.seq for each in accepted)


def test_an_id_is_accepted_once(ledger: Ledger) -> None:
    new = new_job()
    accept(ledger, new)
    with pytest.raises(psycopg.errors.UniqueViolation):
        accept(ledger, new_job(), new)
    with ledger.connection() as connection:
        assert jobs.count_jobs(connection, JobFilter()) == 1


def _pending(ledger: Ledger, subject: int, *, workspace: str = "acme", feed: str = "machine_data") -> list[str]:
    with ledger.connection() as connection:
        found = jobs.pending_of_subject(connection, workspace=workspace, feed=feed, subject=subject)
    return [submission.job_id for submission in found]


def test_jobs_that_take_too_long_to_be_counted_are_not_and_the_transaction_goes_on(ledger: Ledger) -> None:
    make_workspace(ledger)
    accept(ledger, new_job())
    with ledger.connection() as connection:
        assert jobs.count_jobs_within(connection, JobFilter(), seconds_max=10) == 1
        connection.execute(
            "INSERT INTO jobs (id, workspace, feed, origin, bytes_in)"
            " SELECT 'job_' || n, 'acme', 'machine_data', 'api', 1 FROM generate_series(1, 50000) AS n"
        )
        assert jobs.count_jobs_within(connection, JobFilter(), seconds_max=0.001) is None
        assert len(jobs.list_jobs(connection, JobFilter(), before_seq=None, limit=2)) == 2


def test_what_was_sent_of_a_subject_is_found_until_its_job_ends(ledger: Ledger) -> None:
    first, none, last = new_job(), new_job(), new_job()
    largest = 2**63 - 1
    accept(
        ledger,
        dataclasses.replace(first, subjects=(7, -(2**63), largest)),
        dataclasses.replace(none, subjects=()),
        new_job(),
        dataclasses.replace(last, subjects=(largest,)),
    )
    assert _pending(ledger, largest) == [first.id, last.id]
    assert _pending(ledger, -(2**63)) == [first.id]
    assert _pending(ledger, 8) == []
    assert _pending(ledger, 7, workspace="other") == _pending(ledger, 7, feed="issues") == []
    load = claim(ledger, submissions_max=1)
    assert load is not None
    assert _pending(ledger, 7) == [first.id]
    _settle(ledger, load)
    assert _pending(ledger, 7) == []
    assert _pending(ledger, largest) == [last.id]


def test_of_a_subject_that_very_many_speak_of_the_first_are_read_and_always_one(ledger: Ledger) -> None:
    new = [dataclasses.replace(new_job(b" " * 100), subjects=(7,)) for _ in range(4)]
    accept(ledger, *new)
    found: list[int] = []
    with ledger.connection() as connection:
        for bytes_max, submissions_max in ((10, 9), (250, 9), (900, 3), (900, 9)):
            read = jobs.pending_of_subject(
                connection,
                workspace="acme",
                feed="machine_data",
                subject=7,
                bytes_max=bytes_max,
                submissions_max=submissions_max,
            )
            assert [each.job_id for each in read] == [job.id for job in new][: len(read)]
            found.append(len(read))
    assert found == [1, 2, 3, 4]


def test_workers_hear_of_accepted_submissions_and_waiting_clients_of_settled_ones(
    ledger: Ledger, database_url: str
) -> None:
    with _listening(database_url, jobs.LANDED) as landed:
        (job_id, *_) = _accept_many(ledger, 3)
    assert landed == ["machine_data"]
    load = claim(ledger, submissions_max=1)
    assert load is not None
    with _listening(database_url, jobs.SETTLED) as settled:
        _settle(ledger, load)
    assert settled == [job_id]


def test_nobody_hears_of_what_was_rolled_back(ledger: Ledger, database_url: str) -> None:
    with _listening(database_url, jobs.LANDED) as landed, ledger.connection() as connection:
        connection.execute("BEGIN")
        jobs.accept(connection, [new_job()])
        connection.execute("ROLLBACK")
    assert landed == []
    assert claim(ledger) is None


def test_a_duplicate_is_finished_at_once_and_points_at_the_first(ledger: Ledger, database_url: str) -> None:
    (first,) = _accept_many(ledger, 1)
    load = claim(ledger)
    assert load is not None
    _settle(ledger, load, [Settlement(job_id=first, tally=Tally.of(received=5, created=3, rejected=2))])
    new = new_job()
    with _listening(database_url, jobs.SETTLED) as settled, ledger.transaction() as tx:
        jobs.accept_duplicate(tx, new, of=first)
    with ledger.connection() as connection:
        job = jobs.get_job(connection, workspace="acme", job_id=new.id)
    assert job is not None
    assert (job.state, job.verdict, job.duplicate_of) == (JobState.FINISHED, "succeeded", first)
    assert (job.received, job.accepted, job.duplicate, job.rejected, job.created) == (3, 3, 3, 0, 0)
    assert settled == [new.id]
    assert claim(ledger) is None


def test_a_duplicate_of_what_is_not_counted_yet_has_received_nothing(ledger: Ledger) -> None:
    (first,) = _accept_many(ledger, 1)
    new = new_job()
    with ledger.transaction() as tx:
        jobs.accept_duplicate(tx, new, of=first)
        job = jobs.get_job(tx, workspace=None, job_id=new.id)
    assert job is not None
    assert (job.state, job.received, job.duplicate) == (JobState.FINISHED, 0, 0)
    assert claimed(claim(ledger)) == [first]


def test_what_is_known_to_be_unreadable_is_failed_at_once(ledger: Ledger, database_url: str) -> None:
    new = new_job()
    with _listening(database_url, jobs.SETTLED) as settled, ledger.transaction() as tx:
        jobs.accept_failed(tx, new, code="too_large", message="The file has 5 bytes; the limit is 4.")
    with ledger.connection() as connection:
        job = jobs.get_job(connection, workspace="acme", job_id=new.id)
    assert job is not None
    assert (job.state, job.verdict, job.error_code) == (JobState.FAILED, "failed", "too_large")
    assert job.error_message == "The file has 5 bytes; the limit is 4."
    assert settled == [new.id]
    assert claim(ledger) is None


# Looking


def test_a_job_of_another_workspace_is_as_if_it_did_not_exist(ledger: Ledger) -> None:
    (job_id,) = _accept_many(ledger, 1)
    with ledger.connection() as connection:
        assert jobs.get_job(connection, workspace="other", job_id=job_id) is None
        assert jobs.get_job(connection, workspace=None, job_id=job_id) is not None
        assert jobs.list_jobs(connection, JobFilter(workspace="other"), before_seq=None, limit=10) == []


def test_jobs_are_listed_the_latest_first_page_by_page(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 7)
    seen: list[str] = []
    before: int | None = None
    with ledger.connection() as connection:
        while page := jobs.list_jobs(connection, JobFilter(workspace="acme"), before_seq=before, limit=3):
            seen += [job.id for job in page]
            before = page[-1].seq
            # A list is stable while others come in.
            accept(ledger, new_job())
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("which", "count"),
    [
        (JobFilter(), 4),
        (JobFilter(workspace="acme"), 3),
        (JobFilter(feed="issues"), 1),
        (JobFilter(state=JobState.PROCESSING), 1),
        (JobFilter(state=JobState.ACCEPTED), 3),
        (JobFilter(origin=Origin.FILE), 1),
        (JobFilter(since=datetime.now(UTC) - timedelta(days=1)), 4),
        (JobFilter(since=datetime.now(UTC) + timedelta(days=1)), 0),
        (JobFilter(workspace="acme", state=JobState.ACCEPTED, origin=Origin.API), 1),
    ],
)
def test_a_filter_narrows_what_is_listed_and_counted(ledger: Ledger, which: JobFilter, count: int) -> None:
    accept(ledger, new_job(feed="issues"), new_job(workspace="other"), new_job())
    accept(ledger, dataclasses.replace(new_job(), origin=Origin.FILE))
    assert claim(ledger, feed="issues") is not None
    with ledger.connection() as connection:
        assert jobs.count_jobs(connection, which) == count
        assert len(jobs.list_jobs(connection, which, before_seq=None, limit=10)) == count


def test_waiting_is_what_no_worker_holds(ledger: Ledger) -> None:
    with ledger.connection() as connection:
        assert jobs.waiting(connection, "machine_data").submissions == 0
        assert jobs.waiting(connection, "machine_data").oldest_day is None
    _accept_many(ledger, 3)
    load = claim(ledger, submissions_max=2)
    with ledger.connection() as connection:
        waiting = jobs.waiting(connection, "machine_data")
    assert waiting.submissions == 1
    assert waiting.oldest_age_seconds is not None
    assert waiting.oldest_age_seconds >= 0
    run_out(ledger, load)
    with ledger.connection() as connection:
        assert jobs.waiting(connection, "machine_data").submissions == 3


# Claiming


def test_claims_follow_the_order_of_acceptance(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 10)
    first, second = claim(ledger, submissions_max=6), claim(ledger, submissions_max=6)
    assert claimed(first) + claimed(second) == ids
    assert first is not None
    assert second is not None
    assert second.fence > first.fence
    assert claim(ledger) is None


def test_a_claim_takes_only_its_feed_and_its_day(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 2)
    accept(ledger, new_job(feed="issues"))
    with ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET day = day - 1 WHERE id = %s", (ids[1],))
        tx.execute("UPDATE submissions SET day = day - 1 WHERE job_id = %s", (ids[1],))
        (yesterday,) = tx.execute("SELECT day FROM jobs WHERE id = %s", (ids[1],)).fetchone() or ()
        load = jobs.claim(tx, feed="machine_data", day=yesterday, bytes_max=1_000, submissions_max=9, lease_seconds=60)
    assert claimed(load) == [ids[1]]
    assert load is not None
    assert load.day == yesterday
    assert claimed(claim(ledger)) == [ids[0]]


def test_a_load_ends_where_its_bytes_end_but_never_before_the_first(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 5, body=b"x" * 100)
    assert claimed(claim(ledger, bytes_max=250)) == ids[:2]
    assert claimed(claim(ledger, bytes_max=10)) == [ids[2]]
    assert claimed(claim(ledger, bytes_max=200)) == ids[3:]


def test_claimers_at_once_never_share_a_job_and_leave_none(ledger: Ledger, database_url: str) -> None:
    ids = _accept_many(ledger, 300)

    def claim_all(_: int) -> list[str]:
        mine: list[str] = []
        with Ledger(database_url, application="test") as own:
            while load := claim(own, submissions_max=7):
                mine += claimed(load)
        return mine

    shares = at_once(claim_all, times=4)
    # A claimer that found everything locked by the others goes home early; whoever looks again finds the rest.
    rest = claim(ledger)
    got = [job_id for share in shares for job_id in share] + (claimed(rest) if rest else [])
    assert sorted(got) == sorted(ids)


def test_a_claimer_passes_over_what_another_is_claiming_at_this_moment(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 3)
    with ledger.transaction() as slow:
        first = jobs.claim(slow, feed="machine_data", bytes_max=1_000, submissions_max=2, lease_seconds=60)
        assert claimed(first) == ids[:2]
        assert claimed(claim(ledger)) == [ids[2]]


# Leases and attempts


def test_a_lease_that_ran_out_is_claimed_again_with_one_attempt_more(ledger: Ledger) -> None:
    (job_id,) = _accept_many(ledger, 1)
    first = claim(ledger)
    assert claim(ledger) is None
    run_out(ledger, first)
    second = claim(ledger)
    assert first is not None
    assert second is not None
    assert [each.attempts for each in second.submissions] == [2]
    assert claimed(second) == [job_id]
    assert second.fence > first.fence


def claim_exhausted(ledger: Ledger) -> Load | None:
    with ledger.transaction() as tx:
        return jobs.claim_exhausted(tx, feed="machine_data", lease_seconds=30)


def test_what_fails_with_others_is_worked_by_32_then_alone_then_given_up(ledger: Ledger, database_url: str) -> None:
    ids = _accept_many(ledger, 40)
    run_out(ledger, claim(ledger))
    second = claim(ledger)
    assert claimed(second) == ids[:32]
    run_out(ledger, second)
    # The 32 come before the rest, each alone now.
    alone = [claim(ledger) for _ in range(32)]
    assert [claimed(load) for load in alone] == [[job_id] for job_id in ids[:32]]
    assert claimed(claim(ledger)) == ids[32:]
    run_out(ledger, alone[0])
    assert claim(ledger) is None
    exhausted = claim_exhausted(ledger)
    assert exhausted is not None
    assert claimed(exhausted) == [ids[0]]
    assert exhausted.submissions[0].attempts == ATTEMPTS_MAX
    assert claim_exhausted(ledger) is None
    run_out(ledger, exhausted)
    again = claim_exhausted(ledger)
    assert claimed(again) == [ids[0]]
    with ledger.connection() as connection:
        assert not jobs.holds(connection, exhausted)
    with _listening(database_url, jobs.SETTLED) as settled, ledger.transaction() as tx:
        assert again is not None
        assert jobs.holds(tx, again)
        jobs.settle(tx, again, [jobs.Settlement(job_id=ids[0], error_code="x", error_message="y")], jobs.Costs())
    assert settled == [ids[0]]


def test_one_that_poisons_its_load_does_not_take_its_neighbours_with_it(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 70)
    poison = ids[33]
    for _ in range(200):
        load = claim(ledger)
        if load is None:
            break
        if poison in claimed(load):
            run_out(ledger, load)
        else:
            _settle(ledger, load)
    with ledger.connection() as connection:
        found = {each.id: each for each in jobs.list_jobs(connection, JobFilter(), before_seq=None, limit=100)}
    assert found[poison].state is JobState.PROCESSING
    assert claimed(claim_exhausted(ledger)) == [poison]
    assert {found[job_id].state for job_id in ids if job_id != poison} == {JobState.FINISHED}
    assert max(job.attempts for job in found.values()) == ATTEMPTS_MAX


def test_new_submissions_do_not_join_one_that_was_tried_before(ledger: Ledger) -> None:
    (tried,) = _accept_many(ledger, 1)
    run_out(ledger, claim(ledger))
    fresh = _accept_many(ledger, 2)
    assert claimed(claim(ledger)) == [tried]
    assert claimed(claim(ledger)) == fresh


def test_the_first_mark_that_a_job_was_judged_stays_whoever_works_on_it_next(ledger: Ledger) -> None:
    (job_id,) = _accept_many(ledger, 1)
    marks: list[object] = []
    for _ in range(2):
        load = claim(ledger)
        assert load is not None
        with ledger.connection() as connection:
            assert jobs.mark_validated(connection, load)
            marks.append(row_of(connection, job_id)["validated_at"])
        run_out(ledger, load)
    assert marks[0] is not None
    assert marks == [marks[0]] * 2
    claim(ledger)
    with ledger.connection() as connection:
        # The one that has lost the lease marks nothing.
        assert not jobs.mark_validated(connection, load)


def test_a_held_lease_is_extended_and_a_lost_one_is_not(ledger: Ledger) -> None:
    _accept_many(ledger, 2)
    load = claim(ledger)
    assert load is not None
    run_out(ledger, load)
    with ledger.connection() as connection:
        assert jobs.extend(connection, load, lease_seconds=60)
    assert claim(ledger) is None
    run_out(ledger, load)
    # Part of it is another's now.
    assert claim(ledger, submissions_max=1) is not None
    with ledger.connection() as connection:
        assert not jobs.extend(connection, load, lease_seconds=60)


def test_a_released_load_waits_again_at_once_and_it_cost_no_attempt(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 3)
    for _ in range(5):
        load = claim(ledger)
        assert load is not None
        assert {each.attempts for each in load.submissions} == {1}
        assert claimed(load) == ids
        with ledger.transaction() as tx:
            jobs.release(tx, load)


def test_a_load_put_back_for_a_fault_of_ours_waits_a_while_and_costs_no_attempt(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 2)
    for _ in range(5):
        load = claim(ledger)
        assert load is not None
        assert {each.attempts for each in load.submissions} == {1}
        with ledger.transaction() as tx:
            jobs.defer(tx, load, seconds=60, seconds_max=60, faults_max=10)
        assert claim(ledger) is None
        run_out(ledger, load)
    assert claimed(claim(ledger)) == ids


def test_the_pause_grows_with_each_fault_up_to_the_longest(ledger: Ledger) -> None:
    _accept_many(ledger, 1)
    pauses: list[float] = []
    for _ in range(4):
        load = claim(ledger)
        assert load is not None
        with ledger.transaction() as tx:
            jobs.defer(tx, load, seconds=20, seconds_max=50, faults_max=10)
            row = tx.execute("SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 FROM jobs").fetchone()
        assert row is not None
        pauses.append(row[0])
        run_out(ledger, load)
    assert pauses == pytest.approx([20, 40, 50, 50], abs=1)


def test_a_fault_over_one_job_lets_the_others_go_on(ledger: Ledger) -> None:
    first, blamed, last = _accept_many(ledger, 3)
    load = claim(ledger)
    assert load is not None
    with ledger.transaction() as tx:
        jobs.defer(tx, load, seconds=60, seconds_max=60, faults_max=10, blamed=blamed)
    again = claim(ledger)
    assert claimed(again) == [first, last]
    assert again is not None
    assert {each.attempts for each in again.submissions} == {1}
    run_out(ledger, load)
    assert claimed(claim(ledger)) == [blamed]


def test_faults_are_not_forgiven_for_ever(ledger: Ledger) -> None:
    (job_id,) = _accept_many(ledger, 1)
    for _ in range(4):
        load = claim(ledger)
        assert load is not None
        with ledger.transaction() as tx:
            jobs.defer(tx, load, seconds=-1, seconds_max=60, faults_max=4)
    assert claim(ledger) is None
    assert claimed(claim_exhausted(ledger)) == [job_id]


# Settling


def test_a_settled_job_has_its_counts_times_and_costs(ledger: Ledger) -> None:
    big, small = accept(ledger, new_job(b"x" * 300), new_job(b"x" * 100))
    load = claim(ledger)
    assert load is not None
    tally = Tally.of(received=10, rejected=1, created=2, updated=3, unchanged=1, stale=1, superseded=1, duplicate=1)
    stored_at = datetime(2026, 5, 6, 10, 15, tzinfo=UTC)
    with ledger.transaction() as tx:
        jobs.settle(
            tx,
            load,
            [
                Settlement(job_id=big.id, tally=tally),
                Settlement(job_id=small.id, error_code="unreadable", error_message="not JSON"),
            ],
            Costs(stored_at=stored_at, cpu_ms=400, bytes_written=800, run_id="run-1"),
        )
        finished = jobs.get_job(tx, workspace="acme", job_id=big.id)
        failed = jobs.get_job(tx, workspace="acme", job_id=small.id)
    assert finished is not None
    assert failed is not None
    for name in ("received", "accepted", "rejected", "created", "updated", "stale", "superseded", "duplicate"):
        assert getattr(finished, name) == getattr(tally, name)
    assert (finished.state, finished.verdict, finished.run_id) == (JobState.FINISHED, "partial", "run-1")
    assert (finished.cpu_ms, finished.bytes_written, finished.stored_at) == (300, 600, stored_at)
    assert finished.started_at is not None
    assert finished.finished_at is not None
    assert finished.accepted_at <= finished.started_at <= finished.finished_at
    assert (failed.state, failed.verdict, failed.received) == (JobState.FAILED, "failed", None)
    assert (failed.error_code, failed.error_message) == ("unreadable", "not JSON")


def test_whoever_lost_the_lease_settles_nothing(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 3)
    old = claim(ledger)
    run_out(ledger, old)
    assert old is not None
    assert claim(ledger, submissions_max=1) is not None
    before = _rows(ledger, ids)
    # One of three is another's, so none of the three is settled.
    with pytest.raises(LeaseLost):
        _settle(ledger, old)
    assert _rows(ledger, ids) == before


def test_whoever_slept_past_its_lease_but_was_not_replaced_may_settle(ledger: Ledger) -> None:
    _accept_many(ledger, 2)
    load = claim(ledger)
    run_out(ledger, load)
    assert load is not None
    _settle(ledger, load)
    with ledger.connection() as connection:
        assert jobs.count_jobs(connection, JobFilter(state=JobState.FINISHED)) == 2


def test_a_terminal_job_never_changes(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 2)
    load = claim(ledger)
    assert load is not None
    _settle(ledger, load)
    before = _rows(ledger, ids)
    with pytest.raises(LeaseLost):
        _settle(ledger, load, [Settlement(job_id=ids[0], error_code="late", error_message="late")])
    with ledger.transaction() as tx:
        jobs.release(tx, load)
        jobs.defer(tx, load, seconds=0, seconds_max=60, faults_max=1)
        assert not jobs.extend(tx, load, lease_seconds=60)
    assert claim(ledger) is None
    assert _rows(ledger, ids) == before


@pytest.mark.parametrize(
    "counts",
    [
        "received = 3, accepted = 1, rejected = 1, created = 1",
        "received = 1, accepted = 1, rejected = 0, created = 0",
        "received = 1, accepted = 1, rejected = 0, created = 2",
    ],
)
def test_the_ledger_itself_refuses_a_sum_that_is_off(ledger: Ledger, counts: str) -> None:
    (job_id,) = _accept_many(ledger, 1)
    with ledger.connection() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "UPDATE jobs SET state = 'finished', finished_at = now(), updated = 0, unchanged = 0, stale = 0,"
            f" superseded = 0, duplicate = 0, {counts} WHERE id = '{job_id}'"
        )


# Working days again


def test_the_submissions_of_a_day_come_in_pages_and_open_jobs_are_left_out(ledger: Ledger) -> None:
    ids = _accept_many(ledger, 5, body=b"x" * 100)
    load = claim(ledger, submissions_max=4)
    assert load is not None
    _settle(ledger, load)
    day = load.day
    pages: list[list[str]] = []
    after = 0
    with ledger.connection() as connection:
        while page := jobs.submissions_of_day(
            connection, feed="machine_data", day=day, after_seq=after, bytes_max=250, limit=10
        ):
            pages.append([each.job_id for each in page])
            after = page[-1].seq
    assert pages == [ids[:2], ids[2:4]]


def test_only_finished_jobs_that_are_no_duplicates_had_an_effect(ledger: Ledger) -> None:
    finished, failed, waiting = _accept_many(ledger, 3)
    load = claim(ledger, submissions_max=2)
    assert load is not None
    _settle(
        ledger,
        load,
        [
            Settlement(job_id=finished, tally=Tally.of(received=1, created=1)),
            Settlement(job_id=failed, error_code="unreadable", error_message="no"),
        ],
    )
    double: NewJob = new_job()
    with ledger.transaction() as tx:
        jobs.accept_duplicate(tx, double, of=finished)
        assert jobs.with_effect(tx, [finished, failed, waiting, double.id]) == {finished}


def test_a_fence_drawn_for_other_work_is_larger_than_every_claim_before_it(ledger: Ledger) -> None:
    _accept_many(ledger, 1)
    load = claim(ledger)
    assert load is not None
    with ledger.transaction() as tx:
        assert jobs.next_fence(tx) > load.fence
