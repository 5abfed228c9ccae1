"""Memory for documents: bounded, and nobody waits for those who are slow."""

import threading

import pytest

from ingest_platform.feeds.stream_events.delivering.sending import Room
from ingest_platform_tests.feeds.stream_events.delivering.consigned import to


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
