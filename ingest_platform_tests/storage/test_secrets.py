"""Shared secrets are made once, whoever asks first; declared ones belong to what stands in the catalog."""

from ingest_platform.storage import catalog, secrets
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import at_once, make_workspace


def _get(ledger: Ledger, name: str) -> bytes:
    with ledger.transaction() as tx:
        return secrets.get_or_create(tx, name)


def test_all_who_ask_at_once_get_the_same_secret(ledger: Ledger) -> None:
    (secret,) = set(at_once(lambda _: _get(ledger, "cursors"), times=6))
    assert len(secret) == 32
    assert _get(ledger, "cursors") == secret
    assert _get(ledger, "others") != secret


def test_a_secret_that_is_replaced_is_gone(ledger: Ledger) -> None:
    before = _get(ledger, "masks")
    with ledger.transaction() as tx:
        after = secrets.replace(tx, "masks")
    assert before != after == _get(ledger, "masks")


def test_a_declared_secret_is_found_by_its_id_alone_while_its_holder_stands(ledger: Ledger) -> None:
    make_workspace(ledger)
    make_workspace(ledger, "globex")
    door = catalog.Declared(workspace="acme", kind="doors", id="front", body={"colour": "red"})
    with ledger.transaction() as tx:
        # A secret without a holder, and a holder without a secret, open nothing.
        assert secrets.keep(tx, workspace="acme", kind="doors", id="front", secret="first")
        assert secrets.declared(tx, kind="doors", id="front") is None
        catalog.put(tx, [door, catalog.Declared(workspace="acme", kind="doors", id="back", body={})])
        assert secrets.declared(tx, kind="doors", id="back") is None
        found = secrets.declared(tx, kind="doors", id="front")
        assert found == secrets.Holder(workspace="acme", id="front", body={"colour": "red"}, secret="first")
        assert "first" not in repr(found)
        assert not secrets.keep(tx, workspace="globex", kind="doors", id="front", secret="stolen")
        assert secrets.keep(tx, workspace="acme", kind="doors", id="front", secret="second")
        assert secrets.secret_of(tx, workspace="acme", kind="doors", id="front") == "second"
        assert secrets.secret_of(tx, workspace="globex", kind="doors", id="front") is None
        secrets.drop(tx, workspace="globex", kind="doors", id="front")
        catalog.put(tx, [catalog.Declared(workspace="acme", kind="doors", id="front", body={}, retired=True)])
        assert secrets.declared(tx, kind="doors", id="front") is None
        secrets.drop(tx, workspace="acme", kind="doors", id="front")
        assert secrets.secret_of(tx, workspace="acme", kind="doors", id="front") is None
