"""What was announced is delivered, signed, at once, again if need be, and by one worker at a time."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.errors import LedgerFault
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.pipeline.announce import announce
from ingest_platform.pipeline.deliver import SENT_TO_ONE_MAX, Deliverer, deliver_due, verdict_of
from ingest_platform.pipeline.outbound import Sent
from ingest_platform.pipeline.signature import sign
from ingest_platform.storage import webhooks
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.webhooks import Delivery, DeliveryState
from ingest_platform_tests.making import at_once, make_workspace
from ingest_platform_tests.receiving import LOOPBACK, PATIENCE_SECONDS, Answer, Received, receiving

SECRET = "whsec_" + "0" * 32
TYPE = "thing.seen"


def _subscribe(ledger: Ledger, url: str) -> str:
    make_workspace(ledger)
    with ledger.transaction() as tx:
        return webhooks.create(tx, workspace="acme", url=url, events=[TYPE], description="", secret=SECRET)


def _announce(ledger: Ledger, *things: str) -> None:
    with ledger.transaction() as tx:
        for thing in things or ("t1",):
            announce(tx, workspace="acme", type=TYPE, body={"thing_id": thing})


def _due(ledger: Ledger, rules: OutboundRules = LOOPBACK) -> Counter[DeliveryState]:
    return deliver_due(ledger, rules, seconds_max=PATIENCE_SECONDS)


def _deliveries(ledger: Ledger, webhook: str) -> Sequence[Delivery]:
    with ledger.connection() as tx:
        return webhooks.list_deliveries(tx, webhook_id=webhook, state=None, before_seq=None, limit=1_000)


@contextmanager
def _delivering(ledger: Ledger, rules: OutboundRules = LOOPBACK) -> Iterator[Deliverer]:
    """Deliver in a thread for as long as the block runs."""
    deliverer, ended = Deliverer(ledger, rules), threading.Event()
    thread = threading.Thread(target=lambda: deliverer.run(stop=ended.is_set))
    thread.start()
    try:
        yield deliverer
    finally:
        ended.set()
        deliverer.wake()
        thread.join(timeout=PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_an_event_is_delivered_whole_and_signed(ledger: Ledger) -> None:
    with receiving() as receiver:
        webhook = _subscribe(ledger, receiver.url)
        _announce(ledger)
        assert _due(ledger) == {DeliveryState.DELIVERED: 1}
    (got,) = receiver.got
    event = json.loads(got.body)
    (delivery,) = _deliveries(ledger, webhook)
    assert (event["type"], event["data"]) == (TYPE, {"thing_id": "t1"})
    assert got.headers["x-causeloop-signature"] == sign(SECRET, got.body)
    assert got.headers["x-hub-signature-256"] == "sha256=" + sign(SECRET, got.body)
    assert got.headers["webhook-id"] == event["id"] == delivery.event_id
    assert (got.headers["webhook-event"], got.headers["webhook-delivery"]) == (TYPE, delivery.id)
    assert got.headers["webhook-attempt"] == "1"
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < PATIENCE_SECONDS
    assert got.headers["content-type"] == "application/json"
    assert [(each["response_code"], each["error"]) for each in delivery.log] == [(200, None)]


def test_what_fails_is_tried_again_until_it_is_delivered(ledger: Ledger) -> None:
    answers = iter([Answer(status=500), Answer(status=302, headers={"Location": "http://127.0.0.1:9/"}), Answer()])
    with receiving(lambda _: next(answers)) as receiver:
        webhook = _subscribe(ledger, receiver.url)
        _announce(ledger)
        with _delivering(ledger):
            receiver.wait(3)
    (delivery,) = _deliveries(ledger, webhook)
    assert delivery.state is DeliveryState.DELIVERED
    assert [each["response_code"] for each in delivery.log] == [500, 302, 200]
    assert [got.headers["webhook-attempt"] for got in receiver.got] == ["1", "2", "3"]
    # One event, however often it is sent.
    assert len({(got.headers["webhook-id"], got.body) for got in receiver.got}) == 1


def test_after_its_last_attempt_a_delivery_is_dead_and_can_be_sent_once_more(ledger: Ledger) -> None:
    good = threading.Event()
    with receiving(lambda _: Answer(status=200 if good.is_set() else 503)) as receiver:
        webhook = _subscribe(ledger, receiver.url)
        _announce(ledger)
        with _delivering(ledger):
            receiver.wait(LOOPBACK.attempts_max)
        (dead,) = _deliveries(ledger, webhook)
        assert (dead.state, dead.attempts) == (DeliveryState.DEAD, LOOPBACK.attempts_max)
        good.set()
        with ledger.transaction() as tx:
            webhooks.redeliver(tx, dead)
        assert _due(ledger) == {DeliveryState.DELIVERED: 1}
    first, *_, last = receiver.got
    assert (first.body, first.headers["webhook-id"]) == (last.body, last.headers["webhook-id"])
    assert first.headers["webhook-delivery"] != last.headers["webhook-delivery"]


def test_a_receiver_that_says_gone_is_not_told_again(ledger: Ledger) -> None:
    with receiving(lambda _: Answer(status=410)) as receiver:
        webhook = _subscribe(ledger, receiver.url)
        _announce(ledger)
        assert _due(ledger) == {DeliveryState.DEAD: 1}
        _announce(ledger)
        assert _due(ledger) == {}
    assert len(receiver.got) == 1
    with ledger.connection() as tx:
        found = webhooks.find(tx, workspace="acme", webhook_id=webhook)
        assert found is not None
        assert found.disabled_at is not None


def test_an_announcement_is_delivered_at_once_when_its_transaction_commits(ledger: Ledger) -> None:
    with receiving() as receiver:
        _subscribe(ledger, receiver.url)
        with _delivering(ledger) as deliverer:
            time.sleep(0.2)
            with ledger.transaction() as tx:
                announce(tx, workspace="acme", type=TYPE, body={})
                deliverer.wake()
                time.sleep(0.3)
                assert receiver.got == []
            committed = time.monotonic()
            deliverer.wake()
            (got,) = receiver.wait()
    assert got.at - committed < 0.8


def test_a_slow_receiver_delays_no_other(ledger: Ledger) -> None:
    with (
        receiving(lambda _: Answer(seconds=1.5)) as slow,
        receiving() as quick,
        _delivering(ledger) as deliverer,
    ):
        webhook = _subscribe(ledger, slow.url)
        _announce(ledger, *(f"t{number}" for number in range(20)))
        deliverer.wake()
        slow.wait(SENT_TO_ONE_MAX)
        _subscribe(ledger, quick.url)
        began = time.monotonic()
        _announce(ledger)
        deliverer.wake()
        quick.wait()
        assert time.monotonic() - began < 1.0
        # All that time the slow one had no more than its places.
        assert len(slow.got) == SENT_TO_ONE_MAX
    assert len(_deliveries(ledger, webhook)) == 21


def test_two_workers_send_each_delivery_once(ledger: Ledger) -> None:
    with receiving() as receiver:
        _subscribe(ledger, receiver.url)
        _announce(ledger, *(f"t{number}" for number in range(60)))
        done = at_once(lambda _: _due(ledger), times=2)
        assert sum(each[DeliveryState.DELIVERED] for each in done) == 60
    deliveries = [got.headers["webhook-delivery"] for got in receiver.got]
    assert len(deliveries) == len(set(deliveries)) == 60


def test_a_delivery_whose_sender_is_gone_is_sent_by_another(ledger: Ledger) -> None:
    with receiving() as receiver:
        webhook = _subscribe(ledger, receiver.url)
        _announce(ledger)
        with ledger.transaction() as tx:
            assert webhooks.claim(tx, busy={}, each_max=1, limit=1, lease_seconds=0.0)
        assert _due(ledger) == {DeliveryState.DELIVERED: 1}
    (delivery,) = _deliveries(ledger, webhook)
    assert [each["error"] for each in delivery.log] == ["whoever sent it ended before the answer", None]


def test_what_ends_its_sender_each_time_is_given_up(ledger: Ledger) -> None:
    with receiving() as receiver:
        webhook = _subscribe(ledger, receiver.url)
        _announce(ledger)
        for _ in range(LOOPBACK.attempts_max):
            with ledger.transaction() as tx:
                assert webhooks.claim(tx, busy={}, each_max=1, limit=1, lease_seconds=0.0)
        assert _due(ledger) == {DeliveryState.DEAD: 1}
    assert receiver.got == []
    assert _deliveries(ledger, webhook)[0].log[-1]["error"] == "given up: its attempts are used up"


def test_an_address_that_became_private_is_not_called(ledger: Ledger) -> None:
    with receiving() as receiver:
        webhook = _subscribe(ledger, receiver.url.replace("127.0.0.1", "localhost"))
        _announce(ledger)
        assert _due(ledger, replace(LOOPBACK, networks=(), attempts_max=1)) == {DeliveryState.DEAD: 1}
    assert receiver.got == []
    assert _deliveries(ledger, webhook)[0].log[0]["error"] == "not sent: the address is loopback"


def test_without_the_ledger_nothing_is_delivered_and_that_is_said(database_url: str) -> None:
    with Ledger(database_url.replace("/test_", "/none_"), application="test") as away, pytest.raises(LedgerFault):
        _due(away)


def test_the_end_waits_for_calls_under_way(ledger: Ledger) -> None:
    with receiving(lambda _: Answer(seconds=0.5)) as receiver:
        webhook = _subscribe(ledger, receiver.url)
        _announce(ledger)
        with _delivering(ledger):
            receiver.wait()
    assert _deliveries(ledger, webhook)[0].state is DeliveryState.DELIVERED


# Verdicts

RULES = OutboundRules()
FAILED = Sent(duration_ms=1, response_code=500, error="answered 500")


@given(attempt=st.integers(min_value=1, max_value=RULES.attempts_max - 1), share=st.floats(min_value=0, max_value=1))
def test_the_pause_is_anything_up_to_a_bound_that_doubles(attempt: int, share: float) -> None:
    verdict = verdict_of(FAILED, attempt=attempt, rules=RULES, uniform=lambda low, high: low + (high - low) * share)
    bound = min(5.0 * 2 ** (attempt - 1), 6 * 3600.0)
    assert verdict.state is DeliveryState.PENDING
    assert verdict.again_seconds == pytest.approx(bound * share)


@given(asked=st.floats(min_value=0, max_value=1e6))
def test_a_receiver_may_ask_for_a_longer_pause_but_not_for_an_endless_one(asked: float) -> None:
    busy = replace(FAILED, response_code=429, retry_after_seconds=asked)
    verdict = verdict_of(busy, attempt=1, rules=RULES, uniform=lambda _, high: high)
    assert verdict.again_seconds == max(5.0, min(asked, 6 * 3600.0))


def test_all_attempts_together_take_about_a_day() -> None:
    longest = [
        verdict_of(FAILED, attempt=attempt, rules=RULES, uniform=lambda _, high: high).again_seconds or 0.0
        for attempt in range(1, RULES.attempts_max)
    ]
    assert 15 * 3600 < sum(longest) < 24 * 3600
    assert verdict_of(FAILED, attempt=RULES.attempts_max, rules=RULES).state is DeliveryState.DEAD


def test_receivers_see_who_calls(ledger: Ledger) -> None:
    seen: list[Received] = []

    def answer(received: Received) -> Answer:
        seen.append(received)
        return Answer(status=204, body=b"")

    with receiving(answer) as receiver:
        _subscribe(ledger, receiver.url)
        _announce(ledger)
        _due(ledger)
    assert seen[0].headers["user-agent"] == "ingest-platform-webhooks"
