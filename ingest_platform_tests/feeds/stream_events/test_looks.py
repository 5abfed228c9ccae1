"""What Dagster shows of streams, and what their task does, of events that were really accepted."""

from ingest_platform.feeds.stream_events.destinations.destination import Permanent
from ingest_platform.feeds.stream_events.looks import (
    ACCOUNTS_BALANCE,
    ASPECTS,
    LETTERS_COUNTED,
    NOTHING_OVERDUE,
    look_at_dead_letters,
    look_at_destinations,
    look_at_events,
)
from ingest_platform.feeds.stream_events.tasks import DELIVERIES
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.feeds.stream_events.delivering.consigned import (
    STREAM,
    Flaky,
    consign,
    declare,
    deliver,
    event,
    failing,
)


def _consigned(platform: Platform) -> str:
    declare(platform, "archive", "siem")
    return consign(
        platform,
        event(1, "archive", "siem", rules="errors"),
        event(2, "archive", rules="errors"),
        event(3, decision="sampled_out", rules="chatter"),
        event(4, decision="dropped"),
    )


def test_a_run_tells_of_the_events_of_its_hours_by_stream_and_rule(platform: Platform) -> None:
    job = _consigned(platform)
    for jobs in ([job], None):
        found = look_at_events(platform, jobs)
        assert (found.figures["received"], found.figures["routed"], found.figures["unaccounted"]) == (4, 2, 0)
        (stream,) = found.figures["streams"]  # type: ignore[misc]
        assert (stream["stream"], stream["sampled out"], stream["dropped"]) == (STREAM, 1, 1)
        assert found.figures["rules"] == [
            {"rule": "errors", "met": 2, "kept": 2, "faults": 0, "stream": STREAM},
            {"rule": "chatter", "met": 1, "kept": 0, "faults": 0, "stream": STREAM},
        ]
        assert found.passed == {ACCOUNTS_BALANCE: True}
    assert look_at_events(platform, []).figures["received"] == 0


def test_destinations_are_told_with_their_state_and_what_waits_for_too_long_is_found(platform: Platform) -> None:
    _consigned(platform)
    declare(platform, "siem", retired=True)
    deliver(platform, {"archive": Flaky()})
    found = look_at_destinations(platform, None)
    waiting, done = found.figures["destinations"]  # type: ignore[misc]
    assert (waiting["destination"], waiting["state"], waiting["waiting"]) == ("siem", "blocked", 1)
    assert waiting["reason"] == "it is retired"
    assert (done["destination"], done["state"], done["delivered"], done["consigned"]) == ("archive", "closed", 2, 2)
    assert found.passed == {ACCOUNTS_BALANCE: True, NOTHING_OVERDUE: True}
    with platform.ledger.transaction() as tx:
        tx.execute("UPDATE stream_parcels SET consigned_at = now() - interval '16 minutes'")
    assert look_at_destinations(platform, None).passed == {ACCOUNTS_BALANCE: True, NOTHING_OVERDUE: False}


def test_accounts_that_do_not_balance_are_found(platform: Platform) -> None:
    _consigned(platform)
    with platform.ledger.transaction() as tx:
        tx.execute("UPDATE stream_counts SET received = received + 1")
        tx.execute("DELETE FROM stream_parcels WHERE destination = 'siem'")
    assert look_at_events(platform, None).passed == {ACCOUNTS_BALANCE: False}
    found = look_at_destinations(platform, None)
    assert (found.passed[ACCOUNTS_BALANCE], found.figures["unaccounted"]) == (False, 1)


def test_dead_letters_are_told_by_destination_and_reason_and_counted_twice(platform: Platform) -> None:
    _consigned(platform)
    deliver(platform, {"archive": Flaky(say=failing(1, error=Permanent("no such index"))), "siem": Flaky()})
    found = look_at_dead_letters(platform, None)
    assert found.figures["reasons"] == [
        {"destination": "archive", "events": 2, "reason": "no such index", "streams": 1, "workspace": "acme"}
    ]
    assert found.passed == {LETTERS_COUNTED: True}
    with platform.ledger.transaction() as tx:
        tx.execute("DELETE FROM stream_dead_letters WHERE index = 0")
    assert look_at_dead_letters(platform, None).passed == {LETTERS_COUNTED: False}


def test_the_task_delivers_what_can_be_delivered_and_forgets_the_rest(platform: Platform) -> None:
    _consigned(platform)
    done = DELIVERIES.run(platform)
    # Nothing can be sent to a type that does not exist; and it tells so.
    assert done == {"delivered now": 0, "put off": 0, "died": 0, "forgotten": 0}
    assert look_at_destinations(platform, None).figures["not working"] == 2
    declare(platform, "archive", "siem", type="files", path="exports/", format="parquet", batch_seconds=0)
    assert DELIVERIES.run(platform)["delivered now"] == 3
    assert list((platform.data_dir / "exports").rglob("*.parquet"))
    with platform.ledger.transaction() as tx:
        tx.execute("UPDATE stream_deliveries SET finished_at = now() - interval '8 days'")
    assert DELIVERIES.run(platform)["forgotten"] == 2


def test_every_aspect_says_what_must_be_true_of_it(platform: Platform) -> None:
    for aspect in ASPECTS:
        assert set(aspect.look(platform, None).passed) == set(aspect.checks)
