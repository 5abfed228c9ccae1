"""The inbox by day: partitions ahead of time, days moved out whole, empty partitions dropped."""

import time
from datetime import date, timedelta

from ingest_platform.domain.outcome import Tally
from ingest_platform.pipeline.grouped import STATEMENT_SECONDS_MAX
from ingest_platform.storage import inbox, jobs
from ingest_platform.storage.inbox import ArchivedDay
from ingest_platform.storage.jobs import Costs, Settlement
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, at_once, claim, make_workspace, new_job


def _partitions(ledger: Ledger) -> list[str]:
    with ledger.connection() as connection:
        rows = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'submissions'::regclass ORDER BY 1"
        ).fetchall()
    return [name for (name,) in rows]


def _ensure(ledger: Ledger, days_ahead: int = 2) -> None:
    with ledger.transaction() as tx:
        inbox.ensure_partitions(tx, days_ahead=days_ahead)


def _today(ledger: Ledger) -> date:
    with ledger.connection() as connection:
        return inbox.today(connection)


def _move_to(ledger: Ledger, job_id: str, day: date) -> None:
    """Let a submission have been accepted on another day."""
    with ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET day = %s WHERE id = %s", (day, job_id))
        tx.execute("UPDATE submissions SET day = %s WHERE job_id = %s", (day, job_id))


def _finish_all(ledger: Ledger, feed: str = "machine_data") -> None:
    load = claim(ledger, feed=feed)
    assert load is not None
    done = [Settlement(job_id=each.job_id, tally=Tally.of(received=0)) for each in load.submissions]
    with ledger.transaction() as tx:
        jobs.settle(tx, load, done, Costs())


def test_partitions_are_made_ahead_and_once(ledger: Ledger) -> None:
    _ensure(ledger)
    today = _today(ledger)
    made = [f"submissions_{today + timedelta(days=ahead):%Y%m%d}" for ahead in range(3)]
    assert _partitions(ledger) == [*made, "submissions_default"]
    at_once(lambda _: _ensure(ledger, days_ahead=3), times=3)
    assert len(_partitions(ledger)) == 5


def test_bodies_leave_no_samples_in_the_statistics_of_the_database(ledger: Ledger) -> None:
    make_workspace(ledger)
    for ensured in (False, True):
        if ensured:
            with ledger.transaction() as tx:
                tx.execute("DELETE FROM submissions")
            _ensure(ledger)
        # More than one body, as the only value of a column would be left out.
        accept(ledger, *(new_job(b'{"items": [%d]}' % number) for number in range(5)))
        with ledger.connection() as connection:
            connection.execute("ANALYZE")
            seen = connection.execute(
                "SELECT attname FROM pg_stats WHERE tablename LIKE 'submissions%'"
                " AND (most_common_vals IS NOT NULL OR histogram_bounds IS NOT NULL)"
            ).fetchall()
        assert ("body",) not in seen
        assert seen, "nothing was sampled at all"


def test_submissions_do_not_queue_up_behind_partitions_while_somebody_reads_for_long(ledger: Ledger) -> None:
    make_workspace(ledger)
    _ensure(ledger, days_ahead=0)
    old = _today(ledger) - timedelta(days=2)
    with ledger.connection() as connection:
        connection.execute(
            f"CREATE TABLE submissions_{old:%Y%m%d} PARTITION OF submissions"
            f" FOR VALUES FROM ('{old}') TO ('{old + timedelta(days=1)}')"
        )
    before = _partitions(ledger)
    with ledger.transaction() as backup:
        backup.execute("SELECT count(*) FROM submissions")
        begun = time.monotonic()
        _ensure(ledger)
        with ledger.transaction() as tx:
            assert inbox.drop_empty_partitions(tx) == 0
        # What is landed meanwhile waits for both at most.
        assert time.monotonic() - begun < STATEMENT_SECONDS_MAX
        assert accept(ledger, new_job())
        assert _partitions(ledger) == before
    _ensure(ledger)
    with ledger.transaction() as tx:
        assert inbox.drop_empty_partitions(tx) == 1


def test_submissions_lie_in_the_partition_of_their_day(ledger: Ledger) -> None:
    make_workspace(ledger)
    _ensure(ledger)
    accept(ledger, new_job())
    with ledger.connection() as connection:
        rows = connection.execute("SELECT tableoid::regclass::text FROM submissions").fetchall()
    assert rows == [(f"submissions_{_today(ledger):%Y%m%d}",)]


def test_a_day_that_began_without_a_partition_stays_where_it_is(ledger: Ledger) -> None:
    make_workspace(ledger)
    (accepted,) = accept(ledger, new_job())
    _ensure(ledger)
    assert f"submissions_{_today(ledger):%Y%m%d}" not in _partitions(ledger)
    assert len(_partitions(ledger)) == 3
    load = claim(ledger)
    assert load is not None
    assert load.submissions[0].job_id == accepted.id


def test_a_day_is_archived_when_it_is_over_and_none_of_its_jobs_is_open(ledger: Ledger) -> None:
    make_workspace(ledger)
    ids = [each.id for each in accept(ledger, *(new_job() for _ in range(3)))]
    accept(ledger, new_job(feed="issues"))
    before = _today(ledger) - timedelta(days=2)
    with ledger.connection() as connection:
        for job_id in ids[:2]:
            _move_to(ledger, job_id, before)
        assert inbox.days_to_archive(connection, feed="machine_data") == []
        _finish_all(ledger)
        # Today is not over.
        assert inbox.days_to_archive(connection, feed="machine_data") == [before]
        assert inbox.days_to_archive(connection, feed="issues") == []


def test_a_day_that_has_just_ended_is_left_alone_while_transactions_of_it_may_still_commit(ledger: Ledger) -> None:
    make_workspace(ledger)
    (accepted,) = accept(ledger, new_job())
    _move_to(ledger, accepted.id, _today(ledger) - timedelta(days=1))
    _finish_all(ledger)
    with ledger.connection() as connection:
        since_midnight = connection.execute("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')").fetchone()
        found = inbox.days_to_archive(connection, feed="machine_data")
    assert since_midnight is not None
    assert bool(found) == (since_midnight[0] >= 1)


def test_an_archived_day_is_out_of_the_inbox_and_its_partition_is_dropped(ledger: Ledger) -> None:
    make_workspace(ledger)
    _ensure(ledger)
    old = _today(ledger) - timedelta(days=2)
    with ledger.connection() as connection:
        connection.execute(
            f"CREATE TABLE submissions_{old:%Y%m%d} PARTITION OF submissions"
            f" FOR VALUES FROM ('{old}') TO ('{old + timedelta(days=1)}')"
        )
    accepted = accept(ledger, new_job(), new_job(), new_job(feed="issues"))
    for each in (accepted[0], accepted[2]):
        _move_to(ledger, each.id, old)
    _finish_all(ledger)
    _finish_all(ledger, feed="issues")
    archived = ArchivedDay(feed="machine_data", day=old, blobs=["a", "b"], submissions=1, bytes=13)
    with ledger.transaction() as tx:
        inbox.move_out(tx, archived)
        assert inbox.archived_day(tx, feed="machine_data", day=old) == archived
        assert inbox.archived_day(tx, feed="issues", day=old) is None
        # The other feed's submissions still lie in the partition of that day.
        assert inbox.drop_empty_partitions(tx) == 0
    with ledger.transaction() as tx:
        inbox.move_out(tx, ArchivedDay(feed="issues", day=old, blobs=[], submissions=1, bytes=13))
        assert inbox.drop_empty_partitions(tx) == 1
        assert tx.execute("SELECT job_id FROM submissions").fetchall() == [(accepted[1].id,)]
    # Today's and tomorrow's are empty too, and stay.
    assert len(_partitions(ledger)) == 4


def test_archived_days_are_forgotten_when_they_are_old_enough(ledger: Ledger) -> None:
    today = _today(ledger)
    days = [today - timedelta(days=age) for age in (30, 31)]
    with ledger.transaction() as tx:
        for day in days:
            inbox.move_out(tx, ArchivedDay(feed="machine_data", day=day, blobs=[], submissions=0, bytes=0))
        (old,) = inbox.archived_before(tx, days=30)
        assert old.day == days[1]
        inbox.forget(tx, old)
        assert inbox.archived_before(tx, days=30) == []
        assert inbox.archived_day(tx, feed="machine_data", day=days[0]) is not None
