"""Dead letters: listed, delivered anew under the same ids, and the way of one event through all of it."""

import pytest

from ingest_platform.feeds.stream_events.delivering import dead_letters
from ingest_platform.feeds.stream_events.delivering.dead_letters import (
    Wanted,
    count_letters,
    list_letters,
    replay,
)
from ingest_platform.feeds.stream_events.delivering.deliveries import EventDelivery, Place, forget_old, of_event
from ingest_platform.feeds.stream_events.destinations.destination import Batch, Permanent, Sent, all_delivered
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.feeds.stream_events.delivering.consigned import (
    OTHER_STREAM,
    STREAM,
    Flaky,
    accounts_of,
    consign,
    deliver,
    event,
    failing,
    figures,
    ids_of,
    only,
    rows_of_deliveries,
)
from ingest_platform_tests.making import at_once
from ingest_platform_tests.pipeline.working import job_of

ACME = Wanted(workspace="acme")
REFUSED = Permanent("no such index")


def _replay(platform: Platform, wanted: Wanted = ACME) -> int:
    with platform.ledger.transaction() as tx:
        return replay(tx, wanted)


def _listed(platform: Platform, wanted: Wanted = ACME, *, before_id: int | None = None) -> list[str]:
    with platform.ledger.connection() as tx:
        found = list_letters(tx, wanted, before_id=before_id, limit=10)
        assert before_id is not None or len(found) == count_letters(tx, wanted)
    return [f"{each.destination} {each.event_id[-1]}" for each in found]


def test_letters_are_listed_the_latest_first_by_stream_destination_reason_and_event(acme: Platform) -> None:
    flaky = {"archive": Flaky(say=failing(1, error=REFUSED)), "siem": Flaky(say=failing(2, error=Permanent("too old")))}
    job = consign(acme, event(0, "archive", "siem"), event(1, "archive"))
    deliver(acme, flaky)
    consign(acme, event(0, "siem"), stream=OTHER_STREAM)
    deliver(acme, flaky)
    assert sorted(_listed(acme)) == ["archive 0", "archive 1", "siem 0", "siem 0"]
    assert _listed(acme)[0] == "siem 0"
    assert _listed(acme, Wanted(workspace="acme", stream_id=OTHER_STREAM)) == ["siem 0"]
    assert _listed(acme, Wanted(workspace="acme", destination="archive")) == ["archive 1", "archive 0"]
    assert _listed(acme, Wanted(workspace="acme", reason="too old")) == ["siem 0", "siem 0"]
    assert sorted(_listed(acme, Wanted(workspace="acme", event_ids=ids_of(job, [0])))) == ["archive 0", "siem 0"]
    assert _listed(acme, Wanted(workspace="other")) == []
    with acme.ledger.connection() as tx:
        (_, second, *_) = list_letters(tx, ACME, before_id=None, limit=2)
    assert len(_listed(acme, before_id=second.id)) == 2


def test_letters_are_delivered_anew_under_the_ids_of_their_events_and_the_accounts_balance(acme: Platform) -> None:
    archive = Flaky(say=failing(1, error=REFUSED))
    job = consign(acme, *(event(number, "archive") for number in range(4)))
    deliver(acme, {"archive": archive})
    assert figures(acme, "archive") == (4, 0, 0, 4)
    archive.batches.clear()
    assert _replay(acme, Wanted(workspace="acme", event_ids=ids_of(job, [3, 1]))) == 2
    assert figures(acme, "archive") == (4, 0, 2, 2)
    deliver(acme, {"archive": archive})
    assert [item.event_id for item in only(archive.batches).items] == ids_of(job, [1, 3])
    assert figures(acme, "archive") == (4, 2, 0, 2)
    assert _replay(acme, Wanted(workspace="acme", destination="siem")) == 0
    assert _replay(acme) == 2
    assert _replay(acme) == 0
    deliver(acme, {"archive": archive})
    assert archive.taken == dict.fromkeys(ids_of(job, range(4)), 1)
    assert figures(acme, "archive") == (4, 4, 0, 0)
    assert _listed(acme) == []


def test_letters_that_die_again_are_dead_once(acme: Platform) -> None:
    archive = Flaky(say=failing(2, error=REFUSED))
    consign(acme, event(1, "archive"))
    deliver(acme, {"archive": archive})
    _replay(acme)
    deliver(acme, {"archive": archive})
    assert figures(acme, "archive") == (1, 0, 0, 1)
    assert len(_listed(acme)) == 1


def test_letters_of_different_versions_and_streams_are_parted_and_so_is_what_is_too_much(
    acme: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "TOGETHER_MAX", 3)
    archive = Flaky(say=failing(3, error=REFUSED))
    consign(acme, *(event(number, "archive") for number in range(5)), event(5, "archive", version=2))
    consign(acme, event(6, "archive"), stream=OTHER_STREAM)
    deliver(acme, {"archive": archive})
    assert figures(acme, "archive") == (7, 0, 0, 7)
    archive.batches.clear()
    # As a destination that has come to take less.
    archive.batch = type(archive.batch)(events_max=2, bytes_max=1 << 20, linger_seconds=0.0, at_once=1)
    assert _replay(acme) == 7
    deliver(acme, {"archive": archive})
    found = sorted((batch.stream_id, batch.stream_version, len(batch.items)) for batch in archive.batches)
    assert found == [(OTHER_STREAM, 1, 1), (STREAM, 1, 1), (STREAM, 1, 2), (STREAM, 1, 2), (STREAM, 2, 1)]
    assert figures(acme, "archive") == (7, 7, 0, 0)


def test_of_two_replays_at_once_each_letter_is_in_one(acme: Platform) -> None:
    archive = Flaky(say=failing(1, error=REFUSED))
    consign(acme, *(event(number, "archive") for number in range(50)))
    deliver(acme, {"archive": archive})
    assert sum(at_once(lambda _: _replay(acme), times=3)) == 50
    deliver(acme, {"archive": archive})
    assert set(archive.taken.values()) == {1}
    assert figures(acme, "archive") == (50, 50, 0, 0)


def _way(platform: Platform, job_id: str, index: int, destination: str) -> list[EventDelivery]:
    place = Place(job_of(platform, job_id).seq, index)
    with platform.ledger.connection() as tx:
        found = of_event(
            tx, workspace="acme", stream_id=STREAM, stream_version=1, destinations=[destination, "siem"], place=place
        )
    return [each for each in found if each.destination == destination]


def test_the_way_of_an_event_is_told_from_its_parcel_to_its_replay(acme: Platform) -> None:
    def say(batch: Batch) -> Sent:
        ids = [item.event_id for item in batch.items]
        return Sent(delivered=ids[:1], dead={ids[1]: "no level"}, retry={ids[2]: "busy"})

    archive = Flaky(say=say)
    job = consign(acme, event(0, "archive"), event(1, "archive"), event(2, "archive"))
    (waiting,) = _way(acme, job, 1, "archive")
    assert (waiting.id, waiting.state, waiting.attempts) == (None, "waiting", 0)
    deliver(acme, {"archive": archive})
    ways = [_way(acme, job, index, "archive") for index in range(3)]
    assert [[each.state for each in way] for way in ways] == [["delivered"], ["dead"], ["waiting"]]
    assert (ways[1][0].reason, ways[1][0].attempts, len(ways[1][0].log)) == ("no level", 1, 1)
    _replay(acme)
    assert [each.state for each in _way(acme, job, 1, "archive")] == ["dead", "waiting"]
    archive.say = all_delivered
    deliver(acme, {"archive": archive})
    (died, anew) = _way(acme, job, 1, "archive")
    assert (died.state, anew.state) == ("dead", "delivered")
    assert died.id != anew.id
    assert len(_way(acme, job, 0, "archive")) == 1


def test_the_way_of_an_event_leads_through_its_own_part_of_what_was_parted(acme: Platform) -> None:
    archive = Flaky(batch=type(Flaky().batch)(events_max=2, bytes_max=1 << 20, linger_seconds=0.0, at_once=1))
    job = consign(acme, *(event(number, "archive") for number in range(5)))
    deliver(acme, {"archive": archive})
    ways = [_way(acme, job, index, "archive") for index in range(5)]
    assert [[each.id for each in way] for way in ways] == [
        [batch.delivery_id] for batch in archive.batches for _ in batch.items
    ]


def test_what_ended_long_ago_is_forgotten_and_stays_counted(acme: Platform) -> None:
    archive = Flaky(say=failing(1, error=REFUSED))
    consign(acme, event(1, "archive"))
    deliver(acme, {"archive": archive})
    consign(acme, event(2, "archive"))
    _replay(acme)
    with acme.ledger.transaction() as tx:
        assert forget_old(tx) == 0
        tx.execute("UPDATE stream_deliveries SET finished_at = now() - interval '8 days' WHERE state = 'dead'")
        tx.execute("UPDATE stream_dead_letters SET replayed_at = now() - interval '8 days'")
        assert forget_old(tx) == 1
        assert tx.execute("SELECT count(*) FROM stream_dead_letters").fetchone() == (0,)
    assert [row[0] for row in rows_of_deliveries(acme, "state")] == ["waiting"]
    deliver(acme, {"archive": archive})
    assert figures(acme, "archive") == (2, 2, 0, 0)
    assert accounts_of(acme).balanced
