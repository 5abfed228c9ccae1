"""What the platform does at the moment."""

from ingest_platform.domain.outcome import Tally
from ingest_platform.storage import jobs, processes
from ingest_platform.storage.activity import live_processes, recent_activity
from ingest_platform.storage.jobs import Costs, Settlement
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, claim, make_workspace, new_job


def test_the_last_minute_is_summed_up_and_what_was_before_is_not(ledger: Ledger) -> None:
    make_workspace(ledger)
    accept(ledger, *(new_job() for _ in range(3)))
    load = claim(ledger, submissions_max=2)
    assert load is not None
    first, second = load.submissions
    with ledger.transaction() as tx:
        done = Settlement(job_id=first.job_id, tally=Tally.of(received=6, created=4, rejected=2))
        jobs.settle(tx, load, [done, Settlement(job_id=second.job_id, error_code="x", error_message="y")], Costs())
        activity = recent_activity(tx, feed="machine_data")
    assert (activity.submissions_accepted, activity.jobs_ended, activity.jobs_failed) == (3, 2, 1)
    assert (activity.records, activity.records_rejected) == (6, 2)
    assert activity.seconds_median is not None
    with ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET finished_at = finished_at - interval '2 minutes' WHERE finished_at IS NOT NULL")
        tx.execute("UPDATE jobs SET accepted_at = accepted_at - interval '2 minutes'")
        later = recent_activity(tx, feed="machine_data")
    assert (later.submissions_accepted, later.jobs_ended, later.seconds_median) == (0, 0, None)


def test_only_processes_that_beat_are_listed(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        processes.beat(tx, process_id="w1", part="worker")
        processes.beat(tx, process_id="a1", part="api")
        tx.execute("UPDATE processes SET beat_at = beat_at - interval '1 minute' WHERE id = 'a1'")
        assert [each.part for each in live_processes(tx)] == ["worker"]
