"""Admission: each request of a group is decided as if it were alone, in the order in which they came."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ingest_platform.domain.errors import Forbidden, RateLimited, Refusal, Unauthenticated, Unavailable
from ingest_platform.pipeline.admit import Admission, Admitter, Ask, RateRule, decide
from ingest_platform.storage import idempotency, keys, workspaces
from ingest_platform.storage.idempotency import InFlight, Reserved
from ingest_platform.storage.ledger import Ledger, Transaction

RATE = RateRule(name="machine_data", per_minute=3)
API = frozenset({"api"})


def _token(ledger: Ledger, *, workspace: str = "acme", kind: str = "api", expires_in_seconds: float = 600) -> str:
    new = keys.NewKey(workspace=workspace, scopes=("a:write",), kind=kind, expires_in_seconds=expires_in_seconds)
    with ledger.transaction() as tx:
        if workspaces.find(tx, workspace) is None:
            workspaces.put(tx, workspaces.Workspace(name=workspace))
        return keys.issue(tx, new).token


def _ask(token: str | None, *scopes: str) -> Ask:
    return Ask(token=token, kinds=API, scopes=scopes or ("a:write",))


def _decide(ledger: Ledger, *asks: Ask) -> list[Admission]:
    with ledger.transaction() as tx:
        return decide(tx, asks)


def _refusals(decided: list[Admission]) -> list[type[Refusal] | None]:
    return [None if each.refusal is None else type(each.refusal) for each in decided]


def test_a_good_token_is_whom_it_was_issued_for(ledger: Ledger) -> None:
    (admission,) = _decide(ledger, _ask(_token(ledger)))
    assert admission.principal is not None
    assert (admission.principal.workspace, admission.principal.scopes) == ("acme", {"a:write"})
    assert admission.principal.sites is None


def test_whatever_is_wrong_with_a_token_is_told_in_the_same_words(ledger: Ledger) -> None:
    good = _token(ledger)
    wrong_secret = good[:-1] + ("0" if good[-1] != "0" else "1")
    renamed = good.replace("ing_live_", "pat_")
    wrong = [wrong_secret, renamed, "ing_live_nonsense", "Ünsinn", _token(ledger, expires_in_seconds=-1)]
    decided = _decide(ledger, *(_ask(token) for token in wrong))
    assert _refusals(decided) == [Unauthenticated] * len(wrong)
    assert len({str(each.refusal) for each in decided}) == 1


def test_no_token_a_token_of_the_wrong_kind_and_a_missing_scope_are_refused(ledger: Ledger) -> None:
    asks = [_ask(None), _ask(_token(ledger, kind="pat")), _ask(_token(ledger), "other:write", "third:write")]
    decided = _decide(ledger, *asks)
    assert _refusals(decided) == [Unauthenticated, Unauthenticated, Forbidden]
    assert all(each.principal is None for each in decided)


def test_any_one_of_a_routes_scopes_is_enough(ledger: Ledger) -> None:
    assert _refusals(_decide(ledger, _ask(_token(ledger), "other:write", "a:write"))) == [None]


@pytest.mark.parametrize("together", [True, False])
def test_a_rate_is_shared_by_a_workspace_whether_decided_together_or_not(ledger: Ledger, *, together: bool) -> None:
    asks = [replace(_ask(_token(ledger)), rate=RATE) for _ in range(5)]
    asks.insert(2, replace(_ask(_token(ledger, workspace="globex")), rate=RATE))
    decided = _decide(ledger, *asks) if together else [each for ask in asks for each in _decide(ledger, ask)]
    assert _refusals(decided) == [None, None, None, None, RateLimited, RateLimited]
    assert [each.rate.remaining for each in decided if each.rate] == [2, 1, 2, 0, 0, 0]
    refusal = decided[-1].refusal
    assert refusal is not None
    assert 1 <= int(refusal.headers["Retry-After"]) <= 20


def test_a_workspaces_own_rate_counts_before_the_feeds(ledger: Ledger) -> None:
    token = _token(ledger)
    with ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", rate_limits={"machine_data": 1}))
    decided = _decide(ledger, *[replace(_ask(token), rate=RATE)] * 2)
    assert _refusals(decided) == [None, RateLimited]
    assert decided[0].rate is not None
    assert decided[0].rate.limit == 1


def test_a_stranger_costs_his_address_something_and_the_workspace_nothing(ledger: Ledger) -> None:
    token = _token(ledger)
    stranger = replace(_ask("ing_live_nonsense"), rate=RATE, address="192.0.2.1", address_per_minute=2)
    assert _refusals(_decide(ledger, stranger, stranger, stranger)) == [Unauthenticated, Unauthenticated, RateLimited]
    assert _refusals(_decide(ledger, replace(_ask(token), rate=RATE))) == [None]


def test_a_key_is_reserved_for_the_first_of_those_who_may_use_it(ledger: Ledger) -> None:
    token = _token(ledger)
    keyed = replace(_ask(token), idempotency_route="r", idempotency_key="k")
    refused = replace(keyed, scopes=("other:write",))
    decided = _decide(ledger, refused, keyed, keyed, replace(keyed, token=None))
    assert [type(each.kept) for each in decided] == [type(None), Reserved, InFlight, type(None)]
    with ledger.transaction() as tx:
        idempotency.abandon(tx, idempotency.Scope(workspace="acme", route="r", key="k"))
    (again,) = _decide(ledger, keyed)
    assert isinstance(again.kept, Reserved)


def test_a_process_that_stops_in_the_middle_does_not_hold_up_the_others(
    ledger: Ledger, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(_ask(_token(ledger)), rate=RATE, idempotency_route="r", idempotency_key="k")

    def stop(tx: Transaction, asks: Sequence[Ask]) -> list[Admission]:
        decided = decide(tx, asks)
        time.sleep(1.5)
        return decided

    monkeypatch.setattr("ingest_platform.pipeline.admit.decide", stop)
    stopped = Admitter(database_url)
    try:
        with pytest.raises(Unavailable):
            asyncio.run(stopped.admit(asked))
    finally:
        stopped.close()
    # Its connection was ended before those who wait for the workspace's rate had to give up.
    (admission,) = _decide(ledger, asked)
    assert isinstance(admission.kept, Reserved)
