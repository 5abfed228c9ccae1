"""Keys: shown once, stored as a hash, ended by the database's clock."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.errors import NotFound
from ingest_platform.storage import keys
from ingest_platform.storage.keys import SCOPES, IssuedKey, KeyRecord, NewKey
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import make_workspace


@pytest.fixture(autouse=True)
def _workspaces(ledger: Ledger) -> None:
    make_workspace(ledger)
    make_workspace(ledger, "other")


def _issue(
    ledger: Ledger,
    *,
    workspace: str = "acme",
    kind: str = "api",
    sites: Sequence[str] | None = None,
    expires_in_seconds: float | None = None,
) -> IssuedKey:
    new = NewKey(
        workspace=workspace,
        scopes=("jobs:read", "machine-data:write"),
        kind=kind,
        sites=sites,
        expires_in_seconds=expires_in_seconds,
    )
    with ledger.transaction() as tx:
        return keys.issue(tx, new)


def _find(ledger: Ledger, issued: IssuedKey) -> KeyRecord:
    with ledger.connection() as connection:
        return keys.find(connection, [issued.record.key_id])[issued.record.key_id]


@pytest.mark.parametrize(("kind", "prefix"), [("api", "ing_live_"), ("pat", "pat_")])
@pytest.mark.parametrize("sites", [None, (), ("north", "south")])
def test_a_token_leads_to_its_key_and_its_secret_matches(
    ledger: Ledger, kind: str, prefix: str, sites: tuple[str, ...] | None
) -> None:
    issued = _issue(ledger, kind=kind, sites=sites)
    assert issued.token.startswith(prefix)
    taken = keys.split_token(issued.token)
    assert taken is not None
    assert taken[:2] == (kind, issued.record.key_id)
    found = _find(ledger, issued)
    assert found == issued.record
    assert found.active
    assert keys.matches(found, taken[2])
    assert not keys.matches(found, taken[2][:-1] + ("0" if taken[2][-1] != "0" else "1"))
    assert found.sites == (None if sites is None else frozenset(sites))
    assert found.scopes == {"jobs:read", "machine-data:write"}


def test_the_secret_is_nowhere_in_the_ledger(ledger: Ledger) -> None:
    issued = _issue(ledger)
    secret = issued.token.rpartition("_")[2]
    with ledger.connection() as connection:
        row = connection.execute("SELECT to_jsonb(keys)::text FROM keys").fetchone()
    assert row is not None
    assert secret not in row[0]
    assert secret not in repr(issued.record)


def test_unknown_keys_are_absent_and_known_ones_of_all_workspaces_are_found_together(ledger: Ledger) -> None:
    issued = [_issue(ledger), _issue(ledger, workspace="other")]
    ids = [each.record.key_id for each in issued]
    with ledger.connection() as connection:
        assert set(keys.find(connection, [*ids, "0" * 16])) == set(ids)
        assert keys.find(connection, []) == {}
        assert [each.key_id for each in keys.list_keys(connection, workspace="acme")] == ids[:1]


def test_no_key_for_a_workspace_that_does_not_exist(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="nobody"):
        _issue(ledger, workspace="nobody")


def test_a_key_ends_by_the_databases_clock(ledger: Ledger) -> None:
    ended, going = _issue(ledger, expires_in_seconds=-1), _issue(ledger, expires_in_seconds=600)
    assert not ended.record.active
    assert not _find(ledger, ended).active
    assert _find(ledger, going).active


def test_a_revoked_key_ends_at_once_and_is_revoked_once(ledger: Ledger) -> None:
    issued = _issue(ledger)
    with ledger.connection() as connection:
        assert keys.revoke(connection, issued.record.key_id)
        assert not _find(ledger, issued).active
        assert not keys.revoke(connection, issued.record.key_id)
        assert not keys.revoke(connection, "0" * 16)


@pytest.mark.parametrize(("grace_seconds", "active"), [(0, False), (600, True)])
def test_a_rotated_key_lives_for_its_grace_beside_the_new_one(
    ledger: Ledger, grace_seconds: float, *, active: bool
) -> None:
    old = _issue(ledger, sites=("north",))
    with ledger.transaction() as tx:
        new = keys.rotate(tx, old.record.key_id, grace_seconds=grace_seconds)
    assert _find(ledger, old).active is active
    assert _find(ledger, new).active
    assert new.token != old.token
    for name in ("workspace", "scopes", "sites", "kind", "slot", "project"):
        assert getattr(new.record, name) == getattr(old.record, name)


def test_a_grace_never_lengthens_a_life_and_the_new_key_ends_when_the_old_one_would_have(ledger: Ledger) -> None:
    old = _issue(ledger, expires_in_seconds=60)
    with ledger.transaction() as tx:
        new = keys.rotate(tx, old.record.key_id, grace_seconds=3_600)
    before, after = old.record.expires_at, _find(ledger, old).expires_at
    assert before == after
    assert before is not None
    assert new.record.expires_at is not None
    assert abs((new.record.expires_at - before).total_seconds()) < 5


def test_a_key_that_has_ended_is_not_rotated(ledger: Ledger) -> None:
    ended = _issue(ledger, expires_in_seconds=-1)
    for key_id in (ended.record.key_id, "0" * 16):
        with pytest.raises(NotFound), ledger.transaction() as tx:
            keys.rotate(tx, key_id)


def test_the_scopes_are_the_contracts() -> None:
    assert len(set(SCOPES)) == len(SCOPES) == 12


@given(text=st.text(max_size=80))
def test_no_text_breaks_the_taking_apart_of_tokens(text: str) -> None:
    for token in (text, "ing_live_" + text, "pat_" + text):
        taken = keys.split_token(token)
        if taken is not None:
            kind, key_id, secret = taken
            assert token == f"{keys.PREFIXES[kind]}{key_id}_{secret}"


LETTERS = st.text(alphabet="0123456789abcdefghjkmnpqrstvwxyz", min_size=1, max_size=50)


@given(kind=st.sampled_from(["api", "pat"]), key_id=LETTERS, secret=LETTERS)
def test_a_token_is_taken_apart_into_what_it_was_made_of_if_the_lengths_are_right(
    kind: str, key_id: str, secret: str
) -> None:
    taken = keys.split_token(f"{keys.PREFIXES[kind]}{key_id}_{secret}")
    assert taken == ((kind, key_id, secret) if (len(key_id), len(secret)) == (16, 40) else None)
