"""Figures about all feeds."""

from ingest_platform.domain.outcome import Tally
from ingest_platform.storage import jobs
from ingest_platform.storage.gauges import read_gauges
from ingest_platform.storage.jobs import Costs, Settlement
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, claim, make_workspace, new_job


def test_jobs_are_counted_by_state_and_records_by_outcome(ledger: Ledger) -> None:
    make_workspace(ledger)
    accept(ledger, *(new_job() for _ in range(4)))
    load = claim(ledger, submissions_max=2)
    assert load is not None
    first, second = load.submissions
    with ledger.transaction() as tx:
        done = Settlement(job_id=first.job_id, tally=Tally.of(received=6, created=3, unchanged=1, rejected=2))
        broken = Settlement(job_id=second.job_id, error_code="unreadable", error_message="no")
        jobs.settle(tx, load, [done, broken], Costs())
    assert claim(ledger, submissions_max=1) is not None
    with ledger.connection() as connection:
        (gauges,) = read_gauges(connection, ("machine_data",))
    assert gauges.jobs == {"accepted": 1, "processing": 1, "finished": 1, "failed": 1}
    assert {name: count for name, count in gauges.records.items() if count} == {
        "created": 3,
        "unchanged": 1,
        "rejected": 2,
    }
    assert gauges.oldest_waiting_seconds > 0


def test_a_feed_that_has_never_had_a_job_has_zeros_and_others_are_not_told(ledger: Ledger) -> None:
    make_workspace(ledger)
    accept(ledger, new_job())
    with ledger.connection() as connection:
        (gauges,) = read_gauges(connection, ("issues",))
    assert (gauges.feed, set(gauges.jobs.values()), gauges.oldest_waiting_seconds) == ("issues", {0}, 0.0)
