"""Idempotency keys: one first, everybody else hears its answer."""

import dataclasses
import random

import psycopg
import pytest

from ingest_platform.storage import idempotency
from ingest_platform.storage.idempotency import Answered, InFlight, Reserved, Scope
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import at_once

SCOPE = Scope(workspace="acme", route="POST /v1/machine-data/import-jobs", key="k-1")
ANSWER = Answered(
    body_sha256=b"\x01" * 32, status=202, headers={"Location": "/ü"}, response=b'{"job_id":"job_1"}\x00\xff'
)


def _reserve(ledger: Ledger, scope: Scope = SCOPE, *, seconds: float = 60) -> Reserved | InFlight | Answered:
    with ledger.transaction() as tx:
        return idempotency.reserve(tx, scope, seconds=seconds)


def _age(ledger: Ledger, hours: float) -> None:
    with ledger.connection() as connection:
        connection.execute(
            "UPDATE idempotency SET created_at = created_at - make_interval(mins => %s)", (round(hours * 60),)
        )


def test_the_first_answers_and_the_others_hear_it_byte_for_byte(ledger: Ledger) -> None:
    assert _reserve(ledger) == Reserved()
    assert _reserve(ledger) == InFlight()
    with ledger.transaction() as tx:
        idempotency.finish(tx, SCOPE, ANSWER)
    assert _reserve(ledger) == ANSWER
    assert _reserve(ledger) == ANSWER


@pytest.mark.parametrize(
    "other",
    [
        Scope(workspace="other", route=SCOPE.route, key=SCOPE.key),
        Scope(workspace=SCOPE.workspace, route="POST /v1/issues", key=SCOPE.key),
        Scope(workspace=SCOPE.workspace, route=SCOPE.route, key="K-1"),
    ],
)
def test_a_key_belongs_to_its_workspace_and_route(ledger: Ledger, other: Scope) -> None:
    _reserve(ledger)
    assert _reserve(ledger, other) == Reserved()


def test_only_one_of_many_at_once_is_the_first(ledger: Ledger) -> None:
    told = at_once(lambda _: _reserve(ledger), times=8)
    assert sorted(type(each).__name__ for each in told) == ["InFlight"] * 7 + ["Reserved"]


def test_keys_reserved_together_are_each_as_if_reserved_alone_and_in_their_order(ledger: Ledger) -> None:
    answered, in_flight, free, other = (Scope(workspace="acme", route="r", key=key) for key in "dcba")
    _reserve(ledger, answered)
    with ledger.transaction() as tx:
        idempotency.finish(tx, answered, ANSWER)
    _reserve(ledger, in_flight)
    with ledger.transaction() as tx:
        told = idempotency.reserve_each(tx, [free, answered, in_flight, free, other, answered], seconds=60)
    assert told == [Reserved(), ANSWER, InFlight(), InFlight(), Reserved(), ANSWER]


def test_keys_reserved_together_in_any_order_by_many_never_deadlock(ledger: Ledger) -> None:
    scopes = [Scope(workspace="acme", route="r", key=f"k-{number}") for number in range(50)]

    def reserve_all(place: int) -> list[object]:
        with ledger.transaction() as tx:
            return list(idempotency.reserve_each(tx, random.Random(place).sample(scopes, len(scopes)), seconds=60))

    told = [each for all_told in at_once(reserve_all, times=6) for each in all_told]
    assert told.count(Reserved()) == len(scopes)
    assert told.count(InFlight()) == len(scopes) * 5


def test_a_reservation_ends_by_itself_unless_it_is_extended(ledger: Ledger) -> None:
    assert _reserve(ledger, seconds=-1) == Reserved()
    # Its process was killed: the next one is the first.
    assert _reserve(ledger, seconds=-1) == Reserved()
    with ledger.transaction() as tx:
        idempotency.extend(tx, SCOPE, seconds=60)
    assert _reserve(ledger) == InFlight()


def test_of_two_whose_reservations_overlapped_only_one_takes_something(ledger: Ledger) -> None:
    """The first one slept past its reservation; the second one took its place; then both come to their end."""
    assert _reserve(ledger, seconds=-1) == Reserved()
    assert _reserve(ledger) == Reserved()
    with ledger.transaction() as tx:
        idempotency.finish(tx, SCOPE, ANSWER)
    later = dataclasses.replace(ANSWER, response=b"another job")
    with ledger.connection() as connection, pytest.raises(psycopg.errors.UniqueViolation):
        idempotency.finish(connection, SCOPE, later)
    assert _reserve(ledger) == ANSWER


def test_a_refusal_does_not_take_the_place_of_an_answer(ledger: Ledger) -> None:
    _reserve(ledger)
    with ledger.transaction() as tx:
        idempotency.finish(tx, SCOPE, ANSWER)
        idempotency.finish(tx, SCOPE, dataclasses.replace(ANSWER, status=422))
    assert _reserve(ledger) == ANSWER


def test_an_abandoned_key_is_free_and_an_answered_one_is_not_abandoned(ledger: Ledger) -> None:
    _reserve(ledger)
    with ledger.transaction() as tx:
        idempotency.abandon(tx, SCOPE)
    assert _reserve(ledger) == Reserved()
    with ledger.transaction() as tx:
        idempotency.finish(tx, SCOPE, ANSWER)
        idempotency.abandon(tx, SCOPE)
        idempotency.extend(tx, SCOPE, seconds=-1)
    assert _reserve(ledger) == ANSWER


def test_an_answer_that_is_rolled_back_was_not_given(ledger: Ledger) -> None:
    _reserve(ledger)
    with ledger.connection() as connection:
        connection.execute("BEGIN")
        idempotency.finish(connection, SCOPE, ANSWER)
        connection.execute("ROLLBACK")
    assert _reserve(ledger) == InFlight()


@pytest.mark.parametrize(("hours", "told"), [(23.9, ANSWER), (24.1, Reserved())])
def test_an_answer_is_kept_for_24_hours(ledger: Ledger, hours: float, told: object) -> None:
    _reserve(ledger)
    with ledger.transaction() as tx:
        idempotency.finish(tx, SCOPE, ANSWER)
    _age(ledger, hours)
    assert _reserve(ledger) == told


def test_what_was_kept_long_enough_is_forgotten(ledger: Ledger) -> None:
    _reserve(ledger)
    _age(ledger, 25)
    _reserve(ledger, Scope(workspace="acme", route="r", key="young"))
    with ledger.transaction() as tx:
        assert idempotency.forget_old(tx) == 1
