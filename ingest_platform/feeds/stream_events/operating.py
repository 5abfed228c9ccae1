"""How each destination stands, for whoever runs the platform (`ingest status`)."""

from collections import defaultdict

from ingest_platform.domain.feed import Standing
from ingest_platform.feeds.stream_events.accounts import DestinationCounts, read_accounts
from ingest_platform.feeds.stream_events.delivering import health
from ingest_platform.feeds.stream_events.looks import OVERDUE_SECONDS
from ingest_platform.storage.ledger import Transaction

_STATES = ("delivered", "waiting", "dead")


def standing(tx: Transaction) -> Standing:
    """Tell how each destination does (`Feed.standing`)."""
    counts = defaultdict[tuple[str, str], list[DestinationCounts]](list)
    for each in read_accounts(tx).destinations:
        counts[each.workspace, each.destination].append(each)
    rows, problems = list[dict[str, str | int | float | None]](), list[str]()
    for state in health.read(tx):
        own = counts[state.workspace, state.destination]
        waited = max((each.oldest_waiting_seconds or 0.0 for each in own), default=0.0)
        rows.append(
            {
                "workspace": state.workspace,
                "destination": state.destination,
                "state": state.state.value,
                **{name: sum(int(getattr(each, name)) for each in own) for name in _STATES},
                "oldest_waiting_seconds": round(waited, 1),
                "reason": state.reason,
            }
        )
        if waited > OVERDUE_SECONDS:
            why = f": {state.reason}" if state.reason else ""
            problems.append(f"Events for {state.destination} ({state.workspace}) have waited for {waited:.0f} s{why}.")
    return Standing(title="destinations", rows=rows, problems=problems)
