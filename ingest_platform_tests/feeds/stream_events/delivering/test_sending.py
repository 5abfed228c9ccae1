"""Memory for documents: bounded, and nobody waits for those who are slow; what was read together is read once."""

import threading
from dataclasses import replace

import pytest

from ingest_platform.feeds.stream_events.delivering import sending
from ingest_platform.feeds.stream_events.delivering.deliveries import Claimed
from ingest_platform.feeds.stream_events.delivering.items import Placed, read_items
from ingest_platform.feeds.stream_events.delivering.sending import SHELF_BYTES_MAX, Room, Shelf
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.warehouse import Warehouse
from ingest_platform_tests.feeds.stream_events.delivering.consigned import Flaky, consign, deliver, event, to


def test_a_destinations_first_delivery_always_has_room_and_others_wait_until_there_is() -> None:
    room, got = Room(100), threading.Event()

    def second() -> None:
        with room.taken(to("archive"), 60):
            got.set()

    waiting = threading.Thread(target=second)
    with room.taken(to("siem"), 500):
        with room.taken(to("archive"), 60):
            waiting.start()
            assert not got.wait(0.05)
        assert got.wait(5.0)
    waiting.join()


def test_room_is_given_back_whatever_happens() -> None:
    room = Room(10)
    with pytest.raises(KeyError), room.taken(to("archive"), 10):
        raise KeyError
    with room.taken(to("archive"), 10), room.taken(to("siem"), 0):
        pass


def test_what_was_read_together_is_there_once_and_the_oldest_give_way() -> None:
    shelf, items = Shelf(10), [[], [], []]
    for number, held in enumerate(items):
        shelf.put(f"dlv_{number}", held, size=4)
    assert shelf.take("dlv_0") is None
    assert shelf.take("dlv_1") is items[1]
    assert shelf.take("dlv_1") is None
    shelf.put("dlv_3", [], size=11)
    assert shelf.take("dlv_3") is None
    assert shelf.take("dlv_2") is None


@pytest.mark.parametrize("bytes_max", [0, SHELF_BYTES_MAX])
def test_what_was_parted_is_delivered_whether_it_is_held_or_read_again(
    acme: Platform, monkeypatch: pytest.MonkeyPatch, bytes_max: int
) -> None:
    asked: list[int] = []

    def counted(warehouse: Warehouse, claimed: Claimed) -> list[Placed]:
        asked.append(claimed.remaining)
        return read_items(warehouse, claimed)

    monkeypatch.setattr(sending, "read_items", counted)
    monkeypatch.setattr(sending, "SHELF_BYTES_MAX", bytes_max)
    archive = Flaky(batch=replace(Flaky().batch, events_max=2))
    consign(acme, *(event(number, "archive") for number in range(7)))
    deliver(acme, {"archive": archive})
    assert archive.numbers == list(range(7))
    assert [len(batch.items) for batch in archive.batches] == [2, 2, 2, 1]
    assert asked == ([7] if bytes_max else [2, 2, 2, 1])
