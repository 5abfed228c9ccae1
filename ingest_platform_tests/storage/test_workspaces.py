"""Workspaces are created and changed by the same word."""

import psycopg
import pytest

from ingest_platform.storage import workspaces
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.workspaces import Workspace


def test_a_workspace_has_the_settings_that_it_was_given_last(ledger: Ledger) -> None:
    first = Workspace(name="acme", projects=["a"], rate_limits={"machine_data": 10}, quotas={"datasets": -1})
    with ledger.transaction() as tx:
        workspaces.put(tx, first)
        assert workspaces.find(tx, "acme") == first
        workspaces.put(tx, Workspace(name="acme", projects=["b"]))
        assert workspaces.find(tx, "acme") == Workspace(name="acme", projects=["b"])
        assert workspaces.find(tx, "other") is None


def test_workspaces_are_listed_by_name(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for name in ("b", "a", "c-1"):
            workspaces.put(tx, Workspace(name=name))
        assert workspaces.names(tx) == ["a", "b", "c-1"]


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "..", "a" * 64, "a\n"])
def test_a_name_that_could_lead_out_of_its_folder_is_refused(ledger: Ledger, name: str) -> None:
    with ledger.connection() as connection, pytest.raises(psycopg.errors.CheckViolation):
        workspaces.put(connection, Workspace(name=name))
