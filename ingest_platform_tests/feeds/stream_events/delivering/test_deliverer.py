"""Deliveries of events that were really accepted, to destinations that misbehave: nothing lost, nothing held up."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ingest_platform.feeds.stream_events.delivering import deliverer as deliverer_module
from ingest_platform.feeds.stream_events.delivering.deliverer import Deliverer, deliver_due
from ingest_platform.feeds.stream_events.delivering.health import FAILURES_MAX, State
from ingest_platform.feeds.stream_events.delivering.opening import CannotOpen, Entry
from ingest_platform.feeds.stream_events.destinations.destination import (
    Batch,
    BatchRule,
    Permanent,
    Sent,
    Transient,
    all_delivered,
)
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import secrets
from ingest_platform_tests.feeds.stream_events.delivering.consigned import (
    HASTY,
    OTHER_STREAM,
    STREAM,
    Flaky,
    consign,
    declare,
    deliver,
    deliver_until,
    deliverer_of,
    event,
    failing,
    figures,
    health_of,
    ids_of,
    in_turn,
    land,
    let_all_be_due,
    only,
    opened_from,
    rows_of_deliveries,
    slow,
    work,
)

FEW = BatchRule(events_max=3, bytes_max=1 << 20, linger_seconds=0.0, at_once=1)


def test_what_was_consigned_is_delivered_in_order_of_acceptance_under_the_ids_of_the_events(acme: Platform) -> None:
    archive, siem = Flaky(), Flaky()
    first = land(acme, event(1, "archive"), event(2, "siem"), event(3, decision="dropped"), event(4, "archive", "siem"))
    second = land(acme, event(5, "archive"))
    work(acme)
    assert deliver(acme, {"archive": archive, "siem": siem}) == {"delivered": 5}
    batch = only(archive.batches)
    assert archive.numbers == [1, 4, 5]
    assert [item.event_id for item in batch.items] == [*ids_of(first, [0, 3]), *ids_of(second, [0])]
    assert (batch.workspace, batch.destination, batch.stream_id, batch.stream_version) == ("acme", "archive", STREAM, 1)
    assert (batch.attempt, batch.items[0].source, batch.items[0].weight) == (1, "api", 1.0)
    assert siem.numbers == [2, 4]
    assert figures(acme, "archive") == (3, 3, 0, 0)
    assert figures(acme, "siem") == (2, 2, 0, 0)
    assert deliver(acme, {"archive": archive, "siem": siem}) == {}


def test_events_that_lie_in_files_and_events_that_are_inlined_are_delivered(acme: Platform) -> None:
    archive = Flaky(batch=replace(FEW, events_max=1_000))
    consign(acme, *(event(number, "archive") for number in range(600)))
    consign(acme, event(600, "archive"))
    assert deliver(acme, {"archive": archive}) == {"delivered": 601}
    assert archive.numbers == list(range(601))


def test_events_of_different_streams_and_versions_are_never_sent_together(acme: Platform) -> None:
    archive = Flaky()
    land(acme, event(1, "archive"), event(2, "archive", version=2), event(3, "archive"))
    land(acme, event(4, "archive"), stream=OTHER_STREAM)
    work(acme)
    deliver(acme, {"archive": archive})
    assert sorted((batch.stream_id, batch.stream_version, len(batch.items)) for batch in archive.batches) == [
        (OTHER_STREAM, 1, 1),
        (STREAM, 1, 2),
        (STREAM, 2, 1),
    ]


def test_what_is_too_much_for_one_batch_is_parted_for_good_before_it_is_sent(acme: Platform) -> None:
    say = failing(3)
    archive = Flaky(batch=FEW, say=say)
    consign(acme, *(event(number, "archive") for number in range(8)))
    for _ in range(4):
        deliver(acme, {"archive": archive})
        let_all_be_due(acme)
    sizes = {batch.delivery_id: [item.event_id for item in batch.items] for batch in archive.batches}
    assert sorted(map(len, sizes.values())) == [2, 3, 3]
    # Whatever was sent under an id is the same in every attempt.
    assert all(sizes[batch.delivery_id] == [item.event_id for item in batch.items] for batch in archive.batches)
    assert set(archive.taken.values()) == {1}
    assert len(archive.taken) == 8


def test_a_batch_has_no_more_bytes_than_its_destination_takes_unless_one_event_has(acme: Platform) -> None:
    archive = Flaky(batch=replace(FEW, events_max=100, bytes_max=1_000))
    consign(acme, *(event(number, "archive", text="x" * size) for number, size in enumerate([300, 300, 300, 5_000, 1])))
    deliver(acme, {"archive": archive})
    assert [len(batch.items) for batch in archive.batches] == [2, 1, 1, 1]
    assert archive.numbers == list(range(5))


def test_a_batch_that_fails_for_a_while_is_sent_again_as_it_was(acme: Platform) -> None:
    archive = Flaky(say=failing(2))
    consign(acme, event(1, "archive"), event(2, "archive"))
    deliver_until(acme, {"archive": archive}, lambda: len(archive.taken) == 2)
    assert len({batch.delivery_id for batch in archive.batches}) == 1
    assert [batch.attempt for batch in archive.batches] == [1, 2, 3]
    assert len({batch.first_attempt_at for batch in archive.batches}) == 1
    ((log, reason, state),) = rows_of_deliveries(acme, "log, reason, state")
    assert [(entry["delivered"], entry["retry"], entry["reason"]) for entry in log] == [  # type: ignore[attr-defined]
        (0, 2, "it is away"),
        (0, 2, "it is away"),
        (2, 0, None),
    ]
    assert (reason, state) == (None, "delivered")


def _only_even(batch: Batch) -> Sent:
    even = [item.event_id for item in batch.items if not int(item.event_id[-1]) % 2]
    return Sent(delivered=even, retry={item.event_id: "busy" for item in batch.items if item.event_id not in set(even)})


def test_only_those_that_failed_are_sent_again(acme: Platform) -> None:
    archive = Flaky(say=in_turn(_only_even, failing(1), all_delivered))
    job = consign(acme, *(event(number, "archive") for number in range(5)))
    deliver_until(acme, {"archive": archive}, lambda: len(archive.taken) == 5)
    assert [len(batch.items) for batch in archive.batches] == [5, 2, 2]
    assert archive.taken == dict.fromkeys(ids_of(job, range(5)), 1)
    assert figures(acme, "archive") == (5, 5, 0, 0)


def test_what_a_destination_does_not_speak_of_is_sent_again(acme: Platform) -> None:
    archive = Flaky(say=in_turn(lambda _: Sent(delivered=[]), all_delivered))
    consign(acme, event(1, "archive"))
    deliver_until(acme, {"archive": archive}, lambda: bool(archive.taken))
    assert len(archive.batches) == 2


def test_what_a_destination_refuses_is_dead_and_the_rest_is_delivered(acme: Platform) -> None:
    def say(batch: Batch) -> Sent:
        first, *others = (item.event_id for item in batch.items)
        return Sent(delivered=others, dead={first: "no field \0 level \ud800" + "x" * 500})

    archive, siem = Flaky(say=say), Flaky(say=failing(1, error=Permanent("no such index")))
    job = consign(acme, event(1, "archive", "siem"), event(2, "archive", "siem"))
    deliver(acme, {"archive": archive, "siem": siem})
    assert figures(acme, "archive") == (2, 1, 0, 1)
    assert figures(acme, "siem") == (2, 0, 0, 2)
    with acme.ledger.connection() as tx:
        letters = tx.execute("SELECT event_id, destination, reason FROM stream_dead_letters ORDER BY id").fetchall()
    assert sorted(letters) == sorted(
        [
            (*ids_of(job, [0]), "archive", "no field  level ?" + "x" * 283),
            *((event_id, "siem", "no such index") for event_id in ids_of(job, [0, 1])),
        ]
    )
    # It has answered, so that nothing keeps others from it.
    assert health_of(acme, "siem").state is State.CLOSED


def test_what_is_tried_for_too_long_is_given_up(acme: Platform) -> None:
    archive = Flaky(say=failing(99))
    consign(acme, event(1, "archive"))
    impatient = deliverer_of(acme, {"archive": archive}, patience=replace(HASTY, attempts_max=2))
    impatient.run(stop=lambda: figures(acme, "archive")[3] == 1, wait=lambda _: time.sleep(0.02))
    assert len(archive.batches) == 2
    with acme.ledger.connection() as tx:
        ((reason,),) = tx.execute("SELECT reason FROM stream_dead_letters").fetchall()
    assert reason == "given up after 2 attempts in 0 s: it is away"


def test_a_delivery_that_ends_whoever_sends_it_is_given_up_without_being_sent(acme: Platform) -> None:
    archive = Flaky(say=failing(1))
    consign(acme, event(1, "archive"))
    deliver(acme, {"archive": archive})
    with acme.ledger.transaction() as tx:
        tx.execute("UPDATE stream_deliveries SET lost = 20, due_at = clock_timestamp()")
    deliver(acme, {"archive": archive})
    assert len(archive.batches) == 1
    assert figures(acme, "archive") == (1, 0, 0, 1)


def test_an_outcome_that_the_ledger_can_not_keep_holds_up_nobody_and_is_given_up_in_the_end(acme: Platform) -> None:
    with acme.ledger.transaction() as tx:
        tx.execute("ALTER TABLE stream_dead_letters ADD CONSTRAINT planted CHECK (reason <> 'planted')")
    archive, siem = Flaky(say=failing(99, error=Permanent("planted"))), Flaky()
    try:
        consign(acme, event(1, "archive", "siem"))
        deliver_until(acme, {"archive": archive, "siem": siem}, lambda: len(archive.batches) >= 2)
        assert siem.numbers == [1]
        assert figures(acme, "archive") == (1, 0, 1, 0)
        with acme.ledger.transaction() as tx:
            tx.execute("UPDATE stream_deliveries SET lost = 20, due_at = clock_timestamp() WHERE state = 'sending'")
        deliver(acme, {"archive": archive, "siem": siem})
        assert figures(acme, "archive") == (1, 0, 0, 1)
    finally:
        with acme.ledger.transaction() as tx:
            tx.execute("ALTER TABLE stream_dead_letters DROP CONSTRAINT planted")


def test_a_destination_that_takes_nothing_is_left_alone_until_one_delivery_finds_out(acme: Platform) -> None:
    archive = Flaky(batch=replace(FEW, at_once=4), say=failing(1_000_000))
    consign(acme, *(event(number, "archive") for number in range(60)))
    deliver_until(acme, {"archive": archive}, lambda: health_of(acme, "archive").state is State.OPEN)
    assert FAILURES_MAX <= len(archive.batches) <= FAILURES_MAX + 3
    shown = health_of(acme, "archive")
    assert (shown.reason, shown.failures) == ("it is away", len(archive.batches))
    archive.batches.clear()
    deliver(acme, {"archive": archive})
    assert archive.batches == []
    let_all_be_due(acme)
    deliver(acme, {"archive": archive})
    assert len(archive.batches) == 1
    assert health_of(acme, "archive").state is State.OPEN
    archive.say = all_delivered
    let_all_be_due(acme)
    deliver(acme, {"archive": archive})
    assert health_of(acme, "archive").state is State.CLOSED
    assert figures(acme, "archive") == (60, 60, 0, 0)


def test_a_destination_that_asks_for_a_pause_gets_it(acme: Platform) -> None:
    archive = Flaky(batch=FEW, say=failing(1, error=Transient("too many requests", retry_after_seconds=100.0)))
    consign(acme, *(event(number, "archive") for number in range(9)))
    deliver(acme, {"archive": archive})
    assert len(archive.batches) == 1
    shown = health_of(acme, "archive")
    assert shown.state is State.OPEN
    assert shown.open_until is not None
    assert 90 < (shown.open_until - shown.changed_at).total_seconds() < 101
    let_all_be_due(acme)
    deliver(acme, {"archive": archive})
    assert figures(acme, "archive") == (9, 9, 0, 0)


def test_a_destination_that_is_declared_anew_is_tried_at_once(acme: Platform) -> None:
    archive = Flaky(say=failing(1, error=Transient("too many requests", retry_after_seconds=100.0)))
    consign(acme, event(1, "archive"))
    deliver(acme, {"archive": archive})
    declare(acme, "archive", url="https://mended.example")
    deliver(acme, {"archive": archive})
    assert figures(acme, "archive") == (1, 1, 0, 0)
    assert health_of(acme, "archive").state is State.CLOSED


def test_a_destination_whose_secrets_were_replaced_is_tried_at_once_with_the_new_ones(acme: Platform) -> None:
    def keep(token: str) -> None:
        with acme.ledger.transaction() as tx:
            values = {"token": token}
            secrets.keep_values(tx, workspace="acme", kind="destinations", id="archive", values=values)

    archive, opened = Flaky(say=failing(1, error=Transient("401", retry_after_seconds=100.0))), list[str]()

    def open_entry(entry: Entry) -> Flaky:
        opened.append(entry.secrets["token"])
        assert "old" not in repr(entry)
        return archive

    keep("old")
    consign(acme, event(1, "archive"))
    Deliverer(acme, open_entry=open_entry).run(stop=lambda: False, until_idle=True)
    assert health_of(acme, "archive").state is State.OPEN
    keep("new")
    Deliverer(acme, open_entry=open_entry).run(stop=lambda: False, until_idle=True)
    assert opened == ["old", "new"]
    assert figures(acme, "archive") == (1, 1, 0, 0)


def test_what_is_for_a_destination_that_is_retired_waits_and_says_why(acme: Platform) -> None:
    archive, siem = Flaky(), Flaky()
    consign(acme, event(1, "archive", "siem"))
    declare(acme, "archive", retired=True)
    deliver(acme, {"archive": archive, "siem": siem})
    assert siem.numbers == [1]
    assert archive.batches == []
    assert figures(acme, "archive") == (1, 0, 1, 0)
    shown = health_of(acme, "archive")
    assert (shown.state, shown.reason) == (State.BLOCKED, "it is retired")
    declare(acme, "archive")
    deliver(acme, {"archive": archive})
    assert archive.numbers == [1]


def test_what_is_for_a_destination_that_never_was_or_is_of_an_unknown_type_waits(acme: Platform) -> None:
    consign(acme, event(1, "nowhere", "archive"))
    deliver_due(acme, seconds_max=10.0)
    assert health_of(acme, "nowhere").reason == "it is not declared"
    assert health_of(acme, "archive").reason == "there are no destinations of the type 'flaky'"
    assert figures(acme, "nowhere") == (1, 0, 1, 0)


def test_a_defect_in_a_destination_is_its_own_matter(acme: Platform) -> None:
    archive, siem = Flaky(say=failing(1, error=KeyError("token"))), Flaky()
    consign(acme, event(1, "archive", "siem"))
    deliver(acme, {"archive": archive, "siem": siem})
    assert siem.numbers == [1]
    ((reason,),) = [row for row in rows_of_deliveries(acme, "reason") if row[0]]
    assert reason == "a defect of ours: KeyError"
    let_all_be_due(acme)
    deliver(acme, {"archive": archive, "siem": siem})
    assert figures(acme, "archive") == (1, 1, 0, 0)


def test_a_slow_destination_delays_no_other(acme: Platform) -> None:
    archive, siem = Flaky(batch=FEW, say=slow(1.0)), Flaky(batch=FEW)
    consign(acme, *(event(number, "archive", "siem") for number in range(12)))
    begun = time.monotonic()
    deliver_until(acme, {"archive": archive, "siem": siem}, lambda: len(siem.taken) == 12)
    assert time.monotonic() - begun < 3.0
    assert len(archive.taken) < 12


def test_a_destination_gets_no_more_at_once_than_it_takes_from_all_deliverers_together(acme: Platform) -> None:
    archive = Flaky(batch=replace(FEW, at_once=2), say=slow(0.05))
    for start in range(0, 30, 10):
        consign(acme, *(event(number, "archive") for number in range(start, start + 10)))
    _together([deliverer_of(acme, {"archive": archive}) for _ in range(3)], lambda: len(archive.taken) == 30)
    assert archive.at_once_most <= 2
    assert archive.twice_at_once == []
    assert set(archive.taken.values()) == {1}
    assert figures(acme, "archive") == (30, 30, 0, 0)


def _together(deliverers: Sequence[Deliverer], enough: object) -> None:
    deadline = time.monotonic() + 30.0

    def stop() -> bool:
        assert callable(enough)
        return bool(enough()) or time.monotonic() > deadline

    threads = [
        threading.Thread(target=lambda each=each: each.run(stop=stop, wait=lambda _: time.sleep(0.02)))
        for each in deliverers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_delivery_that_takes_longer_than_its_lease_is_not_taken_over(acme: Platform) -> None:
    archive = Flaky(say=slow(2.5))
    consign(acme, event(1, "archive"))
    _together([deliverer_of(acme, {"archive": archive}) for _ in range(2)], lambda: bool(archive.taken))
    assert len(archive.batches) == 1


def test_what_a_deliverer_that_is_gone_had_in_hand_is_sent_again_and_its_outcome_does_not_count(acme: Platform) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def hang(batch: Batch) -> Sent:
        waiting.set()
        go_on.wait(20.0)
        return all_delivered(batch)

    first, second = Flaky(say=hang), Flaky()
    consign(acme, event(1, "archive"))
    gone = deliverer_of(acme, {"archive": first})
    thread = threading.Thread(target=lambda: gone.run(stop=waiting.is_set, wait=lambda _: time.sleep(0.02)))
    thread.start()
    # It has stopped to tell of its life, as one that was killed.
    assert waiting.wait(10.0)
    gone._ending.set()
    deliver_until(acme, {"archive": second}, lambda: bool(second.taken))
    go_on.set()
    thread.join()
    assert only(first.batches).delivery_id == only(second.batches).delivery_id
    assert [item.event_id for item in first.batches[0].items] == list(second.taken)
    assert (second.batches[0].attempt, figures(acme, "archive")) == (2, (1, 1, 0, 0))
    assert gone.done == {}


def test_events_wait_for_others_as_long_as_their_destination_wants(acme: Platform) -> None:
    archive = Flaky(batch=replace(FEW, linger_seconds=3600.0))
    consign(acme, event(1, "archive"))
    deliver(acme, {"archive": archive}, seconds_max=0.5)
    assert archive.batches == []
    consign(acme, event(2, "archive"))
    consign(acme, event(3, "archive"))
    deliver_until(acme, {"archive": archive}, lambda: bool(archive.batches))
    assert archive.numbers == [1, 2, 3]


def test_a_lake_that_lacks_an_event_puts_the_delivery_back_and_holds_up_nothing(acme: Platform) -> None:
    archive, siem = Flaky(), Flaky()
    consign(acme, event(1, "archive", "siem"), event(2, "archive"))
    with acme.warehouse.writing("stream_events", fence=1 << 40) as lake:
        lake.execute("DELETE FROM lake.main.stream_events WHERE __record_index = 1")
    deliver(acme, {"archive": archive, "siem": siem})
    assert siem.numbers == [1]
    assert archive.batches == []
    states = [row for row in rows_of_deliveries(acme, "destination, state, reason") if row[0] == "archive"]
    assert states[0][1] == "waiting"
    assert "the lake has 1 of 2 events" in str(states[0][2])
    assert figures(acme, "archive") == (2, 0, 2, 0)


def test_other_destinations_find_a_place_while_many_are_slow(acme: Platform) -> None:
    names = [f"slow-{number}" for number in range(4)]
    declare(acme, *names)
    flaky = {name: Flaky(batch=replace(FEW, at_once=8), say=slow(0.5)) for name in names} | {"siem": Flaky()}
    consign(acme, *(event(number, *names) for number in range(30)))
    deliverer = Deliverer(acme, open_entry=opened_from(flaky), patience=HASTY, places_max=5)
    thread = threading.Thread(
        target=lambda: deliverer.run(stop=lambda: bool(flaky["siem"].taken), wait=lambda _: time.sleep(0.02))
    )
    thread.start()
    time.sleep(0.5)
    consign(acme, event(99, "siem"))
    thread.join(10.0)
    assert flaky["siem"].numbers == [99]


def test_an_idle_deliverer_waits_and_closes_what_nobody_uses(acme: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliverer_module, "UNUSED_SECONDS", 0.0)
    archive = Flaky()
    consign(acme, event(1, "archive"))
    waits: list[tuple[float, int]] = []

    def wait(seconds: float) -> None:
        waits.append((seconds, archive.closed))
        time.sleep(0.05)

    Deliverer(acme, open_entry=opened_from({"archive": archive})).run(stop=lambda: len(waits) > 10, wait=wait)
    assert waits[-1] == (deliverer_module.POLL_SECONDS, archive.closed)
    assert archive.closed > 0


def test_what_nobody_expected_ends_the_deliverer(acme: Platform) -> None:
    def cannot(_: object) -> Flaky:
        raise RuntimeError("a defect")

    consign(acme, event(1, "archive"))
    deliverer = Deliverer(acme, open_entry=cannot)
    with pytest.raises(RuntimeError, match="a defect"):
        deliverer.run(stop=lambda: False, wait=lambda _: time.sleep(0.02))


def test_a_destination_that_cannot_be_opened_is_blocked_with_the_reason(acme: Platform) -> None:
    def cannot(_: object) -> Flaky:
        raise CannotOpen("its declaration is wrong: url: is missing")

    consign(acme, event(1, "archive"))
    Deliverer(acme, open_entry=cannot).run(stop=lambda: False, until_idle=True)
    shown = health_of(acme, "archive")
    assert (shown.state, shown.reason) == (State.BLOCKED, "its declaration is wrong: url: is missing")
