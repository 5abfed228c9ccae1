"""The platform's processes by heartbeat: who is alive is asked here, not guessed."""

import os
import socket

from ingest_platform.storage.ledger import Transaction

BEAT_SECONDS = 5
# Three beats missed: the process is gone or stopped.
ALIVE_SECONDS = 15


def beat(tx: Transaction, *, process_id: str, part: str) -> None:
    """Say that this process is alive."""
    tx.execute(
        "INSERT INTO processes (id, part, host, pid) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp()",
        (process_id, part, socket.gethostname(), os.getpid()),
    )


def end(tx: Transaction, *, process_id: str) -> None:
    """Say that this process ends in good order."""
    tx.execute("DELETE FROM processes WHERE id = %s", (process_id,))


def alive(tx: Transaction, *, part: str) -> int:
    """Count the live processes of a part."""
    row = tx.execute(
        "SELECT count(*) FROM processes WHERE part = %s AND beat_at > clock_timestamp() - make_interval(secs => %s)",
        (part, ALIVE_SECONDS),
    ).fetchone()
    assert row is not None
    return int(row[0])


def forget_dead(tx: Transaction) -> int:
    """Delete processes that have not been heard of for an hour."""
    return tx.execute("DELETE FROM processes WHERE beat_at < clock_timestamp() - interval '1 hour'").rowcount
