"""The accounts of streams and the state of their destinations as figures for dashboards (`Feed.gauges`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ingest_platform.domain.feed import FeedGauge
from ingest_platform.feeds.stream_events.accounts import (
    Accounts,
    DestinationCounts,
    RuleCounts,
    StreamCounts,
    read_accounts,
)
from ingest_platform.feeds.stream_events.delivering import health
from ingest_platform.feeds.stream_events.delivering.health import Health, State
from ingest_platform.storage.ledger import Transaction

Counts = TypeVar("Counts", StreamCounts, RuleCounts, DestinationCounts)
STREAM = ("workspace", "stream")
DESTINATION = (*STREAM, "destination")


def read_stream_gauges(tx: Transaction) -> Sequence[FeedGauge]:
    """Read all figures: a few for each stream, rule and destination that ever was."""
    accounts = read_accounts(tx)
    return [*_events(accounts), *_deliveries(accounts.destinations), _balance(accounts), _states(health.read(tx))]


def _events(accounts: Accounts) -> list[FeedGauge]:
    return [
        FeedGauge(
            name="ingest_stream_records",
            title="Records of streams by what became of them; received is all of them.",
            labels=(*STREAM, "outcome"),
            values=_by_name(accounts.streams, _stream, ("received", "rejected", "dropped", "sampled_out", "routed")),
        ),
        FeedGauge(
            name="ingest_stream_rule_events",
            title="Events that met a rule, those of them that were routed, and those of which it could not be judged.",
            labels=(*STREAM, "rule", "outcome"),
            values=_by_name(accounts.rules, lambda each: (*_stream(each), each.rule), ("matched", "kept", "faults")),
        ),
    ]


def _deliveries(destinations: Sequence[DestinationCounts]) -> list[FeedGauge]:
    return [
        FeedGauge(
            name="ingest_stream_deliveries",
            title="Events for destinations by where they stand; consigned is all of them.",
            labels=(*DESTINATION, "state"),
            values=_by_name(destinations, _destination, ("consigned", "delivered", "waiting", "dead")),
        ),
        FeedGauge(
            name="ingest_stream_oldest_waiting_seconds",
            title="How long ago the oldest event that waits for a destination was consigned.",
            labels=DESTINATION,
            values={_destination(each): each.oldest_waiting_seconds or 0.0 for each in destinations},
        ),
    ]


def _balance(accounts: Accounts) -> FeedGauge:
    return FeedGauge(
        name="ingest_stream_unaccounted",
        title="Records received and events consigned of which nobody knows what became of them: 0 if all is well.",
        labels=DESTINATION,
        values={
            **{(*_stream(each), ""): each.off for each in accounts.streams},
            **{_destination(each): each.off for each in accounts.destinations},
        },
    )


def _states(states: Sequence[Health]) -> FeedGauge:
    return FeedGauge(
        name="ingest_stream_destination_state",
        title="1 for the state that a destination is in, by its circuit breaker.",
        labels=("workspace", "destination", "state"),
        values={
            (each.workspace, each.destination, state.value): float(each.state is state)
            for each in states
            for state in State
        },
    )


def _stream(each: StreamCounts | RuleCounts) -> tuple[str, ...]:
    return each.workspace, each.stream_id


def _destination(each: DestinationCounts) -> tuple[str, ...]:
    return each.workspace, each.stream_id, each.destination


def _by_name(
    counts: Sequence[Counts], called: Callable[[Counts], tuple[str, ...]], names: Sequence[str]
) -> Mapping[tuple[str, ...], float]:
    return {(*called(each), name): float(getattr(each, name)) for each in counts for name in names}
