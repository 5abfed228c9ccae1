"""Shared secrets are made once, whoever asks first."""

from ingest_platform.storage import secrets
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import at_once


def _get(ledger: Ledger, name: str) -> bytes:
    with ledger.transaction() as tx:
        return secrets.get_or_create(tx, name)


def test_all_who_ask_at_once_get_the_same_secret(ledger: Ledger) -> None:
    (secret,) = set(at_once(lambda _: _get(ledger, "cursors"), times=6))
    assert len(secret) == 32
    assert _get(ledger, "cursors") == secret
    assert _get(ledger, "others") != secret
