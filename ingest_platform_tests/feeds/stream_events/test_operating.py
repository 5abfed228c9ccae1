"""What `ingest status` shows of destinations: what waits and for how long, and what somebody should look at."""

from ingest_platform.feeds.stream_events.operating import standing
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.feeds.stream_events.delivering.consigned import Flaky, consign, declare, deliver, event


def test_destinations_stand_with_what_waits_for_them(platform: Platform) -> None:
    with platform.ledger.connection() as tx:
        assert standing(tx).rows == []
    declare(platform, "archive", "siem")
    consign(platform, event(1, "archive", "siem"), event(2, "archive"))
    declare(platform, "siem", retired=True)
    deliver(platform, {"archive": Flaky()})
    with platform.ledger.connection() as tx:
        found = standing(tx)
    archive, siem = found.rows
    assert (archive["destination"], archive["state"], archive["delivered"], archive["waiting"]) == (
        *("archive", "closed", 2, 0),
    )
    assert (siem["destination"], siem["state"], siem["waiting"], siem["reason"]) == (
        *("siem", "blocked", 1, "it is retired"),
    )
    assert list(found.problems) == []


def test_what_waits_for_too_long_is_a_problem(platform: Platform) -> None:
    declare(platform, "archive")
    consign(platform, event(1, "archive"))
    with platform.ledger.transaction() as tx:
        tx.execute("UPDATE stream_parcels SET consigned_at = consigned_at - interval '1 hour'")
        (problem,) = standing(tx).problems
    assert problem.startswith("Events for archive (acme) have waited for 36")
