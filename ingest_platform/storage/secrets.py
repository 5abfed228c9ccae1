"""Secrets that all processes share (the key that signs cursors), made once."""

import secrets

from ingest_platform.storage.ledger import Transaction


def get_or_create(tx: Transaction, name: str) -> bytes:
    """Read a shared secret of 32 bytes; the first caller makes it."""
    tx.execute(
        "INSERT INTO secrets (name, secret) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
        (name, secrets.token_bytes(32)),
    )
    row = tx.execute("SELECT secret FROM secrets WHERE name = %s", (name,)).fetchone()
    assert row is not None
    return bytes(row[0])
