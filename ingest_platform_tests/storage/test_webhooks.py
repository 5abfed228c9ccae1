"""Webhooks in the ledger: who is told, what is claimed by whom, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ingest_platform.domain.errors import Conflict
from ingest_platform.storage import jobs, webhooks
from ingest_platform.storage.ledger import Ledger, connect
from ingest_platform.storage.webhooks import ANNOUNCED, Attempt, Delivery, DeliveryState, Event, Outgoing
from ingest_platform_tests.making import at_once, make_workspace, new_job

GOOD = Attempt(at="2026-05-06T10:15:00.000Z", duration_ms=12, response_code=200, error=None)
BAD = replace(GOOD, response_code=500, error="answered 500", again_seconds=0.0)


def _subscribe(ledger: Ledger, *events: str, workspace: str = "acme") -> str:
    with ledger.transaction() as tx:
        return webhooks.create(
            tx,
            workspace=workspace,
            url="https://example.com/hook",
            events=events or ("job.finished",),
            description="",
            secret="whsec_" + "s" * 32,
        )


def _announce(ledger: Ledger, *ids: str, type: str = "job.finished", workspace: str = "acme") -> int:  # noqa: A002
    with ledger.transaction() as tx:
        events = [Event(id=each, workspace=workspace, type=type, body=b"{}") for each in ids]
        return webhooks.announce(tx, events, webhooks.subscribers(tx, [workspace]))


def _claim(
    ledger: Ledger, *, busy: dict[str, int] | None = None, each_max: int = 4, limit: int = 100, lease: float = 30.0
) -> list[Outgoing]:
    with ledger.transaction() as tx:
        return webhooks.claim(tx, busy=busy or {}, each_max=each_max, limit=limit, lease_seconds=lease)


def _finish(ledger: Ledger, outgoing: Outgoing, attempt: Attempt, state: DeliveryState) -> bool:
    with ledger.transaction() as tx:
        return webhooks.finish(tx, outgoing, attempt, state)


def _deliveries(ledger: Ledger, webhook_id: str) -> Sequence[Delivery]:
    with ledger.connection() as tx:
        return webhooks.list_deliveries(tx, webhook_id=webhook_id, state=None, before_seq=None, limit=100)


@pytest.fixture(autouse=True)
def _two_workspaces(ledger: Ledger) -> None:
    make_workspace(ledger)
    make_workspace(ledger, "globex")


def test_nobodys_submission_waits_for_a_subscription_that_is_being_made(ledger: Ledger) -> None:
    with ledger.transaction() as subscribing:
        webhooks.create(
            subscribing,
            workspace="acme",
            url="https://example.com/hook",
            events=["job.finished"],
            description="",
            secret="s",
        )
        with ledger.transaction() as tx:
            tx.execute("SET LOCAL lock_timeout = '1s'")
            assert jobs.accept(tx, [new_job()])


def test_only_those_who_asked_for_the_type_in_the_workspace_are_told(ledger: Ledger) -> None:
    wanted, other = _subscribe(ledger, "job.finished", "job.failed"), _subscribe(ledger, "issue.created")
    foreign = _subscribe(ledger, workspace="globex")
    assert _announce(ledger, "whe_1", "whe_2") == 2
    assert [each.event_id for each in _deliveries(ledger, wanted)] == ["whe_2", "whe_1"]
    assert not _deliveries(ledger, other)
    assert not _deliveries(ledger, foreign)
    assert _announce(ledger, "whe_3", type="pattern.detected") == 0
    with ledger.connection() as tx:
        # What nobody asked for is not even kept.
        assert tx.execute("SELECT count(*) FROM webhook_events").fetchone() == (2,)


def test_the_webhooks_of_a_workspace_are_limited_however_many_ask_at_once(ledger: Ledger) -> None:
    for _ in range(webhooks.WEBHOOKS_MAX - 1):
        _subscribe(ledger)

    def subscribe(_: int) -> bool:
        try:
            _subscribe(ledger)
        except Conflict:
            return False
        return True

    assert sorted(at_once(subscribe, times=4)) == [False, False, False, True]


def test_a_deleted_webhook_is_told_nothing_more_and_has_lost_its_secret(ledger: Ledger) -> None:
    webhook = _subscribe(ledger)
    _announce(ledger, "whe_1")
    with ledger.transaction() as tx:
        assert not webhooks.delete(tx, workspace="globex", webhook_id=webhook)
        assert webhooks.delete(tx, workspace="acme", webhook_id=webhook)
        assert not webhooks.delete(tx, workspace="acme", webhook_id=webhook)
        assert tx.execute("SELECT DISTINCT secret FROM webhooks").fetchall() == [("",)]
    assert _announce(ledger, "whe_2") == 0
    assert not _claim(ledger)


def test_workers_hear_of_an_announcement_when_it_is_committed(ledger: Ledger) -> None:
    _subscribe(ledger)
    with connect(ledger.database_url, application="test") as connection:
        connection.execute(f"LISTEN {ANNOUNCED}")
        _announce(ledger, "whe_1")
        assert [each.channel for each in connection.notifies(timeout=5, stop_after=1)] == [ANNOUNCED]


def test_two_workers_never_claim_the_same_attempt(ledger: Ledger) -> None:
    _subscribe(ledger)
    _announce(ledger, *(f"whe_{number:02}" for number in range(40)))
    claimed = at_once(lambda _: _claim(ledger, each_max=100), times=4)
    ids = [each.id for some in claimed for each in some]
    assert len(ids) == len(set(ids)) <= 40
    ids += [each.id for each in _claim(ledger, each_max=100)]
    assert len(ids) == len(set(ids)) == 40


def test_a_slow_webhook_takes_only_its_own_places(ledger: Ledger) -> None:
    slow, quick = _subscribe(ledger, "job.finished"), _subscribe(ledger, "job.failed")
    _announce(ledger, *(f"whe_{number:02}" for number in range(20)))
    _announce(ledger, "whe_quick", type="job.failed")
    first = _claim(ledger, each_max=3)
    assert [each.webhook_id for each in first].count(slow) == 3
    assert [each.webhook_id for each in first].count(quick) == 1
    assert not _claim(ledger, busy={slow: 3, quick: 1}, each_max=3)
    assert len(_claim(ledger, busy={slow: 2, quick: 1}, each_max=3)) == 1


def test_what_is_due_longest_comes_first(ledger: Ledger) -> None:
    _subscribe(ledger)
    for number in range(3):
        _announce(ledger, f"whe_{number}")
    assert [each.event_id for each in _claim(ledger, limit=2)] == ["whe_0", "whe_1"]


def test_a_failed_attempt_waits_and_is_tried_again_until_it_is_delivered(ledger: Ledger) -> None:
    webhook = _subscribe(ledger)
    _announce(ledger, "whe_1")
    (first,) = _claim(ledger)
    assert _finish(ledger, first, replace(BAD, again_seconds=3600.0), DeliveryState.PENDING)
    assert not _claim(ledger)
    with ledger.transaction() as tx:
        tx.execute("UPDATE webhook_deliveries SET due_at = now()")
    (second,) = _claim(ledger)
    assert (first.attempt, second.attempt) == (1, 2)
    assert _finish(ledger, second, GOOD, DeliveryState.DELIVERED)
    (done,) = _deliveries(ledger, webhook)
    assert (done.state, done.attempts, done.finished_at is not None) == (DeliveryState.DELIVERED, 2, True)
    assert [(each["attempt"], each["response_code"], each["error"]) for each in done.log] == [
        (1, 500, "answered 500"),
        (2, 200, None),
    ]
    assert not _claim(ledger)


def test_whoever_slept_past_the_lease_changes_nothing(ledger: Ledger) -> None:
    webhook = _subscribe(ledger)
    _announce(ledger, "whe_1")
    (slept,) = _claim(ledger, lease=0.0)
    (took_over,) = _claim(ledger)
    assert not _finish(ledger, slept, GOOD, DeliveryState.DELIVERED)
    assert _finish(ledger, took_over, replace(BAD, again_seconds=None), DeliveryState.DEAD)
    (dead,) = _deliveries(ledger, webhook)
    assert dead.state is DeliveryState.DEAD
    assert [each["error"] for each in dead.log] == ["whoever sent it ended before the answer", "answered 500"]


def test_a_receiver_that_is_gone_for_good_is_left_alone(ledger: Ledger) -> None:
    webhook = _subscribe(ledger)
    _announce(ledger, "whe_1", "whe_2")
    (first,) = _claim(ledger, limit=1)
    with ledger.transaction() as tx:
        webhooks.disable(tx, webhook)
    assert _finish(ledger, first, GOOD, DeliveryState.DEAD)
    assert _announce(ledger, "whe_3") == 0
    assert {each.state for each in _deliveries(ledger, webhook)} == {DeliveryState.DEAD}
    with ledger.connection() as tx:
        found = webhooks.find(tx, workspace="acme", webhook_id=webhook)
        assert found is not None
        assert found.disabled_at is not None


def test_a_redelivery_is_one_more_delivery_of_the_same_event(ledger: Ledger) -> None:
    webhook = _subscribe(ledger)
    _announce(ledger, "whe_1")
    (first,) = _claim(ledger)
    _finish(ledger, first, GOOD, DeliveryState.DELIVERED)
    with ledger.transaction() as tx:
        delivery = webhooks.find_delivery(tx, webhook_id=webhook, delivery_id=first.id)
        assert delivery is not None
        again = webhooks.redeliver(tx, delivery)
    (second,) = _claim(ledger)
    assert (second.id, second.event_id, second.body, second.attempt) == (again, "whe_1", b"{}", 1)


def test_no_secret_is_in_what_a_claim_prints(ledger: Ledger) -> None:
    _subscribe(ledger)
    _announce(ledger, "whe_1")
    (outgoing,) = _claim(ledger)
    assert outgoing.secret.startswith("whsec_")
    assert "whsec_" not in f"{outgoing!r} {outgoing}"


def test_what_ended_long_ago_is_forgotten_with_its_event_and_the_rest_is_not(ledger: Ledger) -> None:
    webhook = _subscribe(ledger)
    _announce(ledger, "whe_1", "whe_2")
    first, second = _claim(ledger)
    _finish(ledger, first, GOOD, DeliveryState.DELIVERED)
    with ledger.transaction() as tx:
        tx.execute("UPDATE webhook_deliveries SET finished_at = finished_at - interval '31 days'")
        tx.execute("UPDATE webhook_events SET created_at = created_at - interval '31 days'")
        assert webhooks.waiting(tx)[0] == 1
        assert webhooks.forget_old(tx) == 1
        assert tx.execute("SELECT id FROM webhook_events").fetchall() == [(second.event_id,)]
        webhooks.delete(tx, workspace="acme", webhook_id=webhook)
        assert webhooks.forget_old(tx) == 0
        tx.execute("UPDATE webhooks SET deleted_at = deleted_at - interval '2 hours'")
        assert webhooks.forget_old(tx) == 1
        assert tx.execute("SELECT count(*) FROM webhooks").fetchone() == (0,)
