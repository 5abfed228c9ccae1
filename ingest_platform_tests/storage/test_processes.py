"""Who is alive is known by heartbeats, by the database's clock."""

from ingest_platform.storage import processes
from ingest_platform.storage.ledger import Ledger


def _age(ledger: Ledger, process_id: str, seconds: float) -> None:
    with ledger.connection() as connection:
        connection.execute(
            "UPDATE processes SET beat_at = beat_at - make_interval(secs => %s) WHERE id = %s", (seconds, process_id)
        )


def test_a_process_is_alive_while_it_beats(ledger: Ledger) -> None:
    with ledger.connection() as connection:
        assert processes.alive(connection, part="worker") == 0
        processes.beat(connection, process_id="w1", part="worker")
        processes.beat(connection, process_id="w2", part="worker")
        processes.beat(connection, process_id="a1", part="api")
        assert processes.alive(connection, part="worker") == 2
        _age(ledger, "w1", processes.ALIVE_SECONDS + 1)
        assert processes.alive(connection, part="worker") == 1
        processes.beat(connection, process_id="w1", part="worker")
        assert processes.alive(connection, part="worker") == 2


def test_a_process_that_ends_in_good_order_is_gone_at_once(ledger: Ledger) -> None:
    with ledger.connection() as connection:
        processes.beat(connection, process_id="w1", part="worker")
        processes.end(connection, process_id="w1")
        processes.end(connection, process_id="never")
        assert processes.alive(connection, part="worker") == 0


def test_the_long_dead_are_forgotten(ledger: Ledger) -> None:
    with ledger.connection() as connection:
        for process_id in ("w1", "w2"):
            processes.beat(connection, process_id=process_id, part="worker")
        _age(ledger, "w1", 3_700)
        assert processes.forget_dead(connection) == 1
        assert processes.forget_dead(connection) == 0


def test_missed_beats_are_forgiven_until_the_third() -> None:
    assert processes.ALIVE_SECONDS >= 3 * processes.BEAT_SECONDS
