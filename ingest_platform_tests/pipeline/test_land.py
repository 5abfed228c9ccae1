"""Landing: many submissions in one commit, each answered for itself, and nothing taken that is not durable."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from ingest_platform.domain.errors import Conflict, QuotaExceeded, Unavailable
from ingest_platform.pipeline.land import DiskReserve, Lander, Landing
from ingest_platform.storage import idempotency, jobs, quotas, workspaces
from ingest_platform.storage.idempotency import Answered, Scope
from ingest_platform.storage.jobs import Accepted, JobFilter
from ingest_platform.storage.ledger import Ledger, Transaction, connect
from ingest_platform_tests.making import accept, make_workspace, new_job

SCOPE = Scope(workspace="acme", route="r", key="k")
ANSWER = Answered(body_sha256=b"\x00" * 32, status=202, headers={}, response=b"{}")


@pytest.fixture
def lander(ledger: Ledger, database_url: str, tmp_path: Path) -> Iterator[Lander]:
    """Open a lander with room on its disk."""
    make_workspace(ledger)
    opened = Lander(database_url, DiskReserve(tmp_path, free_bytes_min=1))
    try:
        yield opened
    finally:
        opened.close()


def _together(*asked: Callable[[], Awaitable[Accepted]]) -> list[Accepted | BaseException]:
    async def gather() -> list[Accepted | BaseException]:
        return await asyncio.gather(*(each() for each in asked), return_exceptions=True)

    return asyncio.run(gather())


def _count(ledger: Ledger) -> int:
    with ledger.connection() as connection:
        return jobs.count_jobs(connection, JobFilter())


def test_what_was_landed_together_keeps_its_order_in_few_commits(lander: Lander, ledger: Ledger) -> None:
    new = [new_job() for _ in range(60)]
    landed = _together(*(lambda job=job: lander.land(Landing(job=job)) for job in new))
    accepted = [each for each in landed if isinstance(each, Accepted)]
    assert [each.id for each in accepted] == [job.id for job in new]
    assert [each.seq for each in accepted] == sorted(each.seq for each in accepted)
    with ledger.connection() as connection:
        (commits,) = connection.execute("SELECT count(DISTINCT xmin::text) FROM jobs").fetchone() or (0,)
    assert commits <= 3


def test_one_that_can_not_be_stored_does_not_harm_the_others(lander: Lander, ledger: Ledger) -> None:
    good, strange = new_job(), new_job(workspace="nobody")
    # PostgreSQL takes no NUL in a text.
    broken = dataclasses.replace(new_job(), file_name="a\x00b")
    last = new_job()
    landed = _together(*(lambda job=job: lander.land(Landing(job=job)) for job in (good, strange, broken, last)))
    assert [type(each) for each in landed] == [Accepted, Unavailable, Unavailable, Accepted]
    assert _count(ledger) == 2


def test_the_answer_is_kept_in_the_same_transaction_or_nothing_is_taken(lander: Lander, ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        idempotency.reserve(tx, SCOPE, seconds=60)

    def answer(tx: Transaction, _: Accepted) -> None:
        idempotency.finish(tx, SCOPE, ANSWER)

    # Two requests under one key, of which the first had outlived its reservation; and a third one without a key.
    landings = [Landing(job=new_job(), also=answer), Landing(job=new_job(), also=answer), Landing(job=new_job())]
    landed = _together(*(lambda each=each: lander.land(each) for each in landings))
    assert [type(each) for each in landed] == [Accepted, Conflict, Accepted]
    assert _count(ledger) == 2


def test_a_submission_whose_confirmation_was_lost_is_taken_once_and_told_so(lander: Lander, ledger: Ledger) -> None:
    # Committed, but the connection broke before the answer came: it is begun again, among others.
    landed, fresh = new_job(), new_job()
    (before,) = accept(ledger, landed)
    told = _together(*(lambda job=job: lander.land(Landing(job=job)) for job in (landed, fresh)))
    assert told[0] == before
    assert isinstance(told[1], Accepted)
    assert _count(ledger) == 2


def test_workers_hear_of_what_was_landed(lander: Lander, database_url: str) -> None:
    with connect(database_url, application="listener") as listener:
        listener.execute(f"LISTEN {jobs.LANDED}")
        new = [new_job(), new_job(), new_job(feed="issues")]
        _together(*(lambda job=job: lander.land(Landing(job=job)) for job in new))
        heard = {told.payload for told in listener.notifies(timeout=10, stop_after=2)}
    assert heard == {"machine_data", "issues"}


def test_nothing_is_taken_while_the_disk_is_nearly_full(database_url: str, ledger: Ledger, tmp_path: Path) -> None:
    make_workspace(ledger)
    full = Lander(database_url, DiskReserve(tmp_path, free_bytes_min=1 << 62))
    try:
        (told,) = _together(lambda: full.land(Landing(job=new_job())))
    finally:
        full.close()
    assert isinstance(told, Unavailable)
    assert (told.code, told.headers) == ("disk_full", {"Retry-After": "2"})
    assert _count(ledger) == 0


def test_nothing_is_taken_while_the_ledger_is_away(tmp_path: Path) -> None:
    away = Lander("postgresql://nobody@127.0.0.1:9/none", DiskReserve(tmp_path, free_bytes_min=1))
    try:
        (told,) = _together(lambda: away.land(Landing(job=new_job())))
    finally:
        away.close()
    assert isinstance(told, Unavailable)


def test_a_connection_that_died_idle_is_replaced_without_a_refusal(
    lander: Lander, database_url: str, ledger: Ledger
) -> None:
    first, second = new_job(), new_job()
    assert isinstance(_together(lambda: lander.land(Landing(job=first)))[0], Accepted)
    with connect(database_url, application="killer") as killer:
        killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'ingest-land' AND datname = current_database()"
        )
    assert isinstance(_together(lambda: lander.land(Landing(job=second)))[0], Accepted)
    assert _count(ledger) == 2


def _limit(ledger: Ledger, most: int) -> None:
    with ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", quotas={"datasets": most}))


def _used(ledger: Ledger) -> int:
    with ledger.connection() as tx:
        return quotas.usage(tx, workspace="acme", feed="datasets").used


def test_of_those_landed_together_only_what_is_over_the_quota_is_refused(lander: Lander, ledger: Ledger) -> None:
    _limit(ledger, 10)
    demands = [4, None, 7, 6, 1]
    landings = [Landing(job=new_job(feed="datasets"), quota=records) for records in demands]
    landed = _together(*(lambda each=each: lander.land(each) for each in landings))
    assert [type(each) for each in landed] == [Accepted, Accepted, QuotaExceeded, Accepted, QuotaExceeded]
    assert [each.id for each in landed if isinstance(each, Accepted)] == [landings[n].job.id for n in (0, 1, 3)]
    assert _used(ledger) == 10
    assert _count(ledger) == 3
    told = landed[4]
    assert isinstance(told, QuotaExceeded)
    assert told.exceeded is not None
    numbers = told.exceeded
    assert (numbers.limit, numbers.used, numbers.remaining, numbers.requested) == (10, 10, 0, 1)
    assert int(told.headers["Retry-After"]) >= 1


def test_a_submission_that_can_not_be_stored_costs_nothing(lander: Lander, ledger: Ledger) -> None:
    _limit(ledger, 10)
    broken = dataclasses.replace(new_job(feed="datasets"), file_name="a\x00b")
    landings = [Landing(job=broken, quota=10), Landing(job=new_job(feed="datasets"), quota=10)]
    landed = _together(*(lambda each=each: lander.land(each) for each in landings))
    assert [type(each) for each in landed] == [Unavailable, Accepted]
    assert _used(ledger) == 10


def test_the_answer_of_what_is_over_the_quota_is_not_kept(lander: Lander, ledger: Ledger) -> None:
    _limit(ledger, 1)
    with ledger.transaction() as tx:
        idempotency.reserve(tx, SCOPE, seconds=60)

    def answer(tx: Transaction, _: Accepted) -> None:
        idempotency.finish(tx, SCOPE, ANSWER)

    landings = [
        Landing(job=new_job(feed="datasets"), quota=2, also=answer),
        Landing(job=new_job(feed="datasets"), quota=1),
    ]
    landed = _together(*(lambda each=each: lander.land(each) for each in landings))
    assert [type(each) for each in landed] == [QuotaExceeded, Accepted]
    with ledger.connection() as tx:
        assert tx.execute("SELECT response FROM idempotency").fetchall() == [(None,)]


def test_two_processes_land_exactly_the_quota(ledger: Ledger, database_url: str, tmp_path: Path) -> None:
    make_workspace(ledger)
    _limit(ledger, 100)
    landers = [Lander(database_url, DiskReserve(tmp_path, free_bytes_min=1)) for _ in range(2)]
    landings = [Landing(job=new_job(feed="datasets"), quota=1 + number % 3) for number in range(120)]
    try:
        landed = _together(
            *(lambda each=each, number=number: landers[number % 2].land(each) for number, each in enumerate(landings))
        )
    finally:
        for each in landers:
            each.close()
    taken = [landing.quota or 0 for landing, each in zip(landings, landed, strict=True) if isinstance(each, Accepted)]
    assert {type(each) for each in landed} == {Accepted, QuotaExceeded}
    assert sum(taken) == _used(ledger) == 100
    assert _count(ledger) == len(taken)


def test_a_process_that_stops_in_the_middle_does_not_hold_up_the_others(lander: Lander, ledger: Ledger) -> None:
    _limit(ledger, 10)
    stopped = Landing(job=new_job(feed="datasets"), quota=4, also=lambda _tx, _accepted: time.sleep(1.5))
    (told,) = _together(lambda: lander.land(stopped))
    # Its connection was ended before those who wait for the quota's row had to give up.
    assert isinstance(told, Unavailable)
    assert _used(ledger) == 0
