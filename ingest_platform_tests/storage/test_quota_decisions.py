"""A decision about a job's records is made once, is told to whoever asks again, and is forgotten at the job's end."""

from ingest_platform.domain.errors import Exceeded
from ingest_platform.storage import quota_decisions, quotas, workspaces
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.quotas import Demand
from ingest_platform_tests.making import at_once

FEED = "datasets"


def limit(ledger: Ledger, most: int) -> None:
    with ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", quotas={FEED: most}))


def decide(ledger: Ledger, job_id: str, records: int) -> str | None:
    demand = Demand(workspace="acme", feed=FEED, records=records)
    with ledger.transaction() as tx:
        return quota_decisions.decide_once(tx, demand, job_id=job_id, say=_said)


def _said(exceeded: Exceeded) -> str:
    return f"{exceeded.remaining} left"


def used(ledger: Ledger) -> int:
    with ledger.connection() as tx:
        return quotas.usage(tx, workspace="acme", feed=FEED).used


def forget(ledger: Ledger, **stored: bool) -> None:
    with ledger.transaction() as tx:
        quota_decisions.forget(tx, stored)


def test_many_who_decide_for_one_job_at_once_count_it_once(ledger: Ledger) -> None:
    limit(ledger, 10)
    assert at_once(lambda _: decide(ledger, "a", 7), times=4) == [None] * 4
    assert used(ledger) == 7
    assert at_once(lambda _: decide(ledger, "b", 7), times=4) == ["3 left"] * 4
    assert used(ledger) == 7


def test_a_refusal_stands_whatever_the_limit_becomes(ledger: Ledger) -> None:
    limit(ledger, 1)
    assert decide(ledger, "a", 2) == "1 left"
    limit(ledger, 10)
    assert decide(ledger, "a", 2) == "1 left"
    forget(ledger, a=False)
    assert used(ledger) == 0


def test_only_what_is_not_stored_is_given_back_and_only_once(ledger: Ledger) -> None:
    limit(ledger, 10)
    assert [decide(ledger, "a", 3), decide(ledger, "b", 4)] == [None, None]
    for _ in range(2):
        forget(ledger, a=True, b=False, unknown=False)
    assert used(ledger) == 3
