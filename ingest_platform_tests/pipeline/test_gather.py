"""Gathering claims within the limits; a lease is held while its load is worked, and its loss is noticed."""

import dataclasses

import pytest

from ingest_platform.domain.errors import LeaseLost
from ingest_platform.domain.submission import Load
from ingest_platform.pipeline.gather import Lease, gather
from ingest_platform.pipeline.platform import Limits
from ingest_platform.storage import jobs
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, claim, claimed, make_workspace, new_job, run_out

LIMITS = Limits(load_bytes_max=250, load_submissions_max=3, lease_seconds=60.0)


@pytest.fixture(autouse=True)
def _workspace(ledger: Ledger) -> None:
    make_workspace(ledger)


def _gather(ledger: Ledger, limits: Limits = LIMITS) -> Load | None:
    return gather(ledger, "machine_data", limits=limits, day=None, run_id="run-1")


def test_a_load_keeps_to_the_limits(ledger: Ledger) -> None:
    ids = [each.id for each in accept(ledger, *(new_job(b"x" * size) for size in (10, 10, 10, 200, 200)))]
    assert [claimed(_gather(ledger)) for _ in range(3)] == [ids[:3], ids[3:4], ids[4:]]
    assert _gather(ledger) is None


def test_a_claimed_job_names_its_run(ledger: Ledger) -> None:
    (accepted,) = accept(ledger, new_job())
    _gather(ledger)
    with ledger.connection() as connection:
        job = jobs.get_job(connection, workspace=None, job_id=accepted.id)
    assert job is not None
    assert (job.run_id, job.state.value) == ("run-1", "processing")


def _until(ledger: Ledger, question: str, load: Load) -> None:
    """Wait for the ledger to say yes; the lease beats in its own thread."""
    with ledger.connection() as connection:
        for _ in range(2_000):
            row = connection.execute(f"SELECT {question} FROM jobs WHERE load_id = %s", (load.id,)).fetchone()
            if row is not None and row[0]:
                return
            connection.execute("SELECT pg_sleep(0.005)")
    raise AssertionError(f"never: {question}")


def test_a_lease_is_extended_for_as_long_as_the_work_takes(ledger: Ledger) -> None:
    accept(ledger, new_job())
    short = dataclasses.replace(LIMITS, lease_seconds=1.5)
    load = _gather(ledger, short)
    assert load is not None
    with Lease(ledger, load, lease_seconds=1.5) as lease:
        # Longer than the lease.
        _until(ledger, "started_at < clock_timestamp() - interval '2 seconds'", load)
        assert claim(ledger) is None
        lease.check()


def test_a_lost_lease_is_noticed_before_more_work_is_wasted(ledger: Ledger) -> None:
    accept(ledger, new_job())
    load = _gather(ledger)
    assert load is not None
    run_out(ledger, load)
    assert claim(ledger) is not None
    with Lease(ledger, load, lease_seconds=0.03) as lease:
        lease._thread.join(timeout=10)
        with pytest.raises(LeaseLost, match=load.id):
            lease.check()


def test_nothing_extends_a_lease_after_the_work(ledger: Ledger) -> None:
    accept(ledger, new_job())
    load = _gather(ledger)
    assert load is not None
    with Lease(ledger, load, lease_seconds=60.0) as lease:
        pass
    assert not lease._thread.is_alive()
