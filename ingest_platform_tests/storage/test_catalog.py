"""The catalog: every version is kept, and each apply is one revision."""

from ingest_platform.storage import catalog, jobs
from ingest_platform.storage.catalog import Change, ChangeKind, Declared
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, at_once, claim, make_workspace, new_job


def _declare(ledger: Ledger, *declared: tuple[str, dict[str, object]], retired: bool = False) -> list[Change]:
    with ledger.transaction() as tx:
        return catalog.put(
            tx,
            [Declared(workspace="acme", kind="sites", id=name, body=body, retired=retired) for name, body in declared],
        )


def _standing(ledger: Ledger, workspace: str = "acme") -> dict[str, object]:
    with ledger.connection() as connection:
        return {each.id: each.body for each in catalog.current(connection, workspace=workspace, kind="sites")}


def test_what_is_declared_stands_until_it_is_declared_otherwise_or_retired(ledger: Ledger) -> None:
    make_workspace(ledger)
    steps = [
        (_declare(ledger, ("north", {"factor": 1})), ChangeKind.CREATED, 1, None),
        (_declare(ledger, ("north", {"factor": 1})), ChangeKind.UNCHANGED, 1, {"factor": 1}),
        (_declare(ledger, ("north", {"factor": 2})), ChangeKind.CHANGED, 2, {"factor": 1}),
        (_declare(ledger, ("north", {}), retired=True), ChangeKind.RETIRED, 3, {"factor": 2}),
        (_declare(ledger, ("north", {}), retired=True), ChangeKind.UNCHANGED, 3, {}),
        (_declare(ledger, ("north", {"factor": 2})), ChangeKind.CREATED, 4, None),
    ]
    assert [(change.kind, change.version, change.before) for (change,), *_ in steps] == [
        (kind, version, before) for _, kind, version, before in steps
    ]
    assert _standing(ledger) == {"north": {"factor": 2}}


def test_every_version_is_kept_with_the_revision_since_which_it_stands(ledger: Ledger) -> None:
    make_workspace(ledger)
    make_workspace(ledger, "other")
    _declare(ledger, ("north", {"factor": 1}), ("south", {}))
    _declare(ledger, ("north", {"factor": 2}), ("south", {}))
    with ledger.connection() as connection:
        found = catalog.history(connection, workspaces=["acme", "other", "nobody"], kinds=["sites", "others"])
        assert [(each.id, each.version, each.revision) for each in found] == [
            ("north", 1, 1),
            ("north", 2, 2),
            ("south", 1, 1),
        ]
        assert catalog.revision(connection) == 2
        assert catalog.history(connection, workspaces=["other"], kinds=["sites"]) == []
        assert catalog.history(connection, workspaces=["acme"], kinds=["others"]) == []


def test_retired_things_do_not_stand_and_workspaces_do_not_mix(ledger: Ledger) -> None:
    make_workspace(ledger)
    make_workspace(ledger, "other")
    _declare(ledger, ("north", {}), ("south", {}))
    _declare(ledger, ("north", {}), retired=True)
    assert _standing(ledger) == {"south": {}}
    assert _standing(ledger, "other") == {}


def test_a_submission_keeps_the_revision_at_its_acceptance(ledger: Ledger) -> None:
    make_workspace(ledger)
    revisions: list[int] = []
    for factor in (1, 2):
        _declare(ledger, ("north", {"factor": factor}))
        accept(ledger, new_job())
    # Declared but not committed: whoever is accepted meanwhile is judged by what stood before.
    with ledger.transaction() as slow:
        catalog.put(slow, [Declared(workspace="acme", kind="sites", id="north", body={"factor": 3})])
        accept(ledger, new_job())
    load = claim(ledger)
    assert load is not None
    revisions = [submission.catalog_revision for submission in load.submissions]
    assert revisions == [1, 2, 2]


def test_applies_at_once_each_have_a_revision_of_their_own(ledger: Ledger) -> None:
    make_workspace(ledger)
    at_once(lambda n: _declare(ledger, ("north", {"factor": n})), times=6)
    with ledger.connection() as connection:
        found = catalog.history(connection, workspaces=["acme"], kinds=["sites"])
        assert catalog.revision(connection) == 6
    assert [each.version for each in found] == list(range(1, len(found) + 1))
    assert [each.revision for each in found] == sorted({each.revision for each in found})
    assert jobs.LANDED
