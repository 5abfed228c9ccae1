"""Random histories of what is consigned, sent, refused, taken over and delivered anew: the accounts always balance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ingest_platform.domain.feed import Ended
from ingest_platform.feeds.stream_events.accounts import read_accounts
from ingest_platform.feeds.stream_events.consign import StreamConsign
from ingest_platform.feeds.stream_events.delivering import deliveries
from ingest_platform.feeds.stream_events.delivering.dead_letters import Wanted, list_letters, replay
from ingest_platform.feeds.stream_events.delivering.deliveries import Claimed, DeadEvent, Ending, Place
from ingest_platform.feeds.stream_events.delivering.health import To
from ingest_platform.feeds.stream_events.delivering.items import cut
from ingest_platform.feeds.stream_events.destinations.destination import BatchRule
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.feeds.stream_events.delivering.consigned import NOON, STREAM, let_all_be_due

DESTINATIONS = ("archive", "siem")
RULE = BatchRule(events_max=4, bytes_max=100, linger_seconds=0.0, at_once=2)
SEQS = count(1)
FATES = ("delivered", "again", "dead")


@dataclass
class _World:
    """What is true, kept beside the ledger: the events of each destination by what became of them."""

    # By destination, what was consigned; in order, each event once.
    consigned: dict[str, list[Place]] = field(default_factory=lambda: {name: [] for name in DESTINATIONS})
    delivered: dict[str, Counter[Place]] = field(default_factory=lambda: {name: Counter() for name in DESTINATIONS})
    dead: dict[str, set[Place]] = field(default_factory=lambda: {name: set() for name in DESTINATIONS})


class Histories(RuleBasedStateMachine):
    """Every step is one that a worker, a destination or a person may take, in any order."""

    stores: Platform

    def __init__(self) -> None:
        super().__init__()
        self.world = _World()
        self.claimed: list[Claimed] = []
        with self.stores.ledger.transaction() as tx:
            tx.execute(
                "TRUNCATE stream_parcels, stream_deliveries, stream_dead_letters, stream_destinations, stream_counts,"
                " stream_rule_counts, stream_consigned, stream_delivered"
            )

    @rule(
        jobs=st.lists(
            st.tuples(st.integers(0, 6), st.sampled_from(["archive", "siem", "both"]), st.integers(0, 1)),
            min_size=1,
            max_size=3,
        )
    )
    def consign(self, jobs: Sequence[tuple[int, str, int]]) -> None:
        """Settle a load of some jobs, each with events for one destination or both, accepted in one hour or another."""
        rows: list[dict[str, Any]] = []
        ended: list[Ended] = []
        for submission, (events, to, hour) in enumerate(jobs):
            seq = next(SEQS)
            names = DESTINATIONS if to == "both" else (to,)
            ended.append(_ended(submission, seq, events, hour))
            if events:
                rows.append(_summary(submission, events, names))
                for name in names:
                    self.world.consigned[name] += [Place(seq, index) for index in range(events)]
        load = SimpleNamespace(id="load_1", target=STREAM, workspace="acme")
        summaries = pl.DataFrame(rows, schema=_SCHEMA) if rows else None
        with self.stores.ledger.transaction() as tx:
            StreamConsign().write(tx, load=load, summaries=summaries, ended=ended)  # type: ignore[arg-type]

    @rule(name=st.sampled_from(DESTINATIONS), late=st.booleans())
    def claim(self, name: str, *, late: bool) -> None:
        """Claim what is due, part it if need be; maybe after whoever sends was gone for long."""
        if late:
            let_all_be_due(self.stores)
        with self.stores.ledger.transaction() as tx:
            found = deliveries.claim(tx, To("acme", name), rule=RULE, declared="1", lease_seconds=60.0)
        if not isinstance(found, Claimed):
            return
        if not found.fixed:
            sized = [(place, 10) for place in self._places(found)]
            with self.stores.ledger.transaction() as tx:
                parted = deliveries.part(tx, found, list(cut(sized, RULE)))
            assert parted is not None
            found = parted.first
        assert found.remaining == len(self._places(found)) <= RULE.events_max
        self.claimed.append(found)

    def _places(self, claimed: Claimed) -> list[Place]:
        """Find the events of a delivery as the lake would."""
        chosen = claimed.items if claimed.pending is None else claimed.pending
        if chosen is not None:
            return list(chosen)
        return [
            place
            for place in sorted(self.world.consigned[claimed.to.destination])
            if place.seq in claimed.seqs
            and (claimed.first is None or claimed.first <= place)
            and (claimed.last is None or place <= claimed.last)
        ]

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), fates=st.lists(st.sampled_from(FATES), min_size=8, max_size=8))
    def end(self, data: st.DataObject, fates: Sequence[str]) -> None:
        """End an attempt; one that was taken over meanwhile changes nothing."""
        self._end(self.claimed.pop(data.draw(st.integers(0, len(self.claimed) - 1))), fates)

    @rule(name=st.sampled_from(DESTINATIONS), fates=st.lists(st.sampled_from(FATES), min_size=8, max_size=8))
    def overtake(self, name: str, fates: Sequence[str]) -> None:
        """Take over what another has in hand, who ends it before us or after us."""
        self.claim(name, late=True)
        self.claim(name, late=True)
        for claimed in self.claimed[-2:]:
            self._end(claimed, fates)
        del self.claimed[-2:]

    def _end(self, claimed: Claimed, fates: Sequence[str]) -> None:
        told = dict(zip(self._places(claimed), fates, strict=False))
        by_fate = {fate: [place for place, each in told.items() if each == fate] for fate in set(fates)}
        died = [DeadEvent(f"{place.seq}-{place.record_index}", place, "no") for place in by_fate.get("dead", [])]
        ending = Ending(delivered=len(by_fate.get("delivered", [])), again=by_fate.get("again", []), dead=died)
        with self.stores.ledger.transaction() as tx:
            kept = deliveries.end(tx, claimed, ending)
        if kept:
            name = claimed.to.destination
            self.world.delivered[name].update(by_fate.get("delivered", []))
            self.world.dead[name] |= {each.place for each in died}

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        """Give a delivery back for a fault of ours."""
        claimed = self.claimed.pop(data.draw(st.integers(0, len(self.claimed) - 1)))
        with self.stores.ledger.transaction() as tx:
            deliveries.put_back(tx, claimed, seconds=0.0, reason="the lake is away")

    @rule(name=st.sampled_from([*DESTINATIONS, None]), few=st.booleans())
    def replay(self, name: str | None, *, few: bool) -> None:
        """Deliver dead letters anew: all, those of a destination, or one."""
        wanted = Wanted(workspace="acme", destination=name)
        with self.stores.ledger.transaction() as tx:
            letters = list_letters(tx, wanted, before_id=None, limit=1 if few else 1_000)
            if few:
                wanted = Wanted(
                    workspace="acme", destination=name, event_ids=[each.event_id for each in letters] or ["none"]
                )
                letters = list_letters(tx, wanted, before_id=None, limit=1_000)
            assert replay(tx, wanted) == len(letters)
        for letter in letters:
            self.world.dead[letter.destination].discard(Place(letter.seq, letter.index))

    @invariant()
    def everything_is_accounted_for(self) -> None:
        """Compare the ledger's accounts with what is true."""
        with self.stores.ledger.connection() as tx:
            accounts = read_accounts(tx, by_hour=True)
        assert accounts.balanced, accounts
        for name in DESTINATIONS:
            rows = [each for each in accounts.destinations if each.destination == name]
            consigned, done, dead = (self.world.consigned[name], self.world.delivered[name], self.world.dead[name])
            assert sum(each.consigned for each in rows) == len(consigned)
            assert sum(each.delivered for each in rows) == sum(done.values())
            assert sum(each.dead for each in rows) == len(dead)
            # Nothing was delivered twice in the books, and what is dead is not delivered.
            assert set(done.values()) <= {1}
            assert not dead & set(done)


def _ended(submission: int, seq: int, events: int, hour: int) -> Ended:
    return Ended(
        submission=submission,
        job_id=f"evt_{seq}",
        workspace="acme",
        target=STREAM,
        accepted_seq=seq,
        accepted_at=NOON + timedelta(hours=hour),
        received=events,
        accepted=events,
        rejected=0,
    )


_SCHEMA = {
    "submission": pl.UInt32,
    "stream_version": pl.Int32,
    "decision": pl.String,
    "rules": pl.String,
    "destinations": pl.String,
    "faults": pl.String,
    "events": pl.Int64,
    "bytes": pl.Int64,
}


def _summary(submission: int, events: int, names: Sequence[str]) -> dict[str, Any]:
    return {
        "submission": submission,
        "stream_version": 1,
        "decision": "routed",
        "rules": "errors",
        "destinations": "{" + ",".join(f'"{name}":1' for name in names) + "}",
        "faults": None,
        "events": events,
        "bytes": 10 * events,
    }


@pytest.mark.usefixtures("acme")
def test_the_accounts_balance_whatever_happens(stores: Platform) -> None:
    Histories.stores = stores
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
