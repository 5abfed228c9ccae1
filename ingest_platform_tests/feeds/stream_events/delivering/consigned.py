"""What tests of deliveries do over and over: send events that say where they go, and destinations that misbehave."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar

import polars as pl

from ingest_platform.domain.feed import Shape
from ingest_platform.feeds.stream_events import FEED
from ingest_platform.feeds.stream_events.accounts import Accounts, read_accounts
from ingest_platform.feeds.stream_events.consign import StreamConsign
from ingest_platform.feeds.stream_events.contract import STRICT
from ingest_platform.feeds.stream_events.delivering.deliverer import Deliverer
from ingest_platform.feeds.stream_events.delivering.health import Health, To
from ingest_platform.feeds.stream_events.delivering.health import read as read_health
from ingest_platform.feeds.stream_events.delivering.opening import Entry
from ingest_platform.feeds.stream_events.delivering.retrying import Patience
from ingest_platform.feeds.stream_events.destinations.destination import (
    Batch,
    BatchRule,
    Sent,
    Transient,
    all_delivered,
)
from ingest_platform.feeds.stream_events.load import TABLE
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import catalog
from ingest_platform.storage.ledger import Transaction
from ingest_platform_tests.making import accept, body_of, make_workspace, new_job

STREAM, OTHER_STREAM = "payments", "logins"
NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
# Nobody waits in a test; or for so long that it makes no difference (but once in a hundred thousand times).
HASTY = Patience(pause_seconds=0.01, pause_seconds_max=0.02)
PATIENT = Patience(pause_seconds=1e6, pause_seconds_max=1e6)
Say = Callable[[Batch], Sent]


def as_told(frame: pl.DataFrame, *, origins: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Decide about events as each says itself: {"decision", "rules", "to", "faults", "version"}."""
    del known
    told = [json.loads(event) for event in frame["event"]]
    problems = pl.DataFrame(
        schema={
            "submission": pl.UInt32,
            "record_index": pl.Int64,
            "code": pl.String,
            "field": pl.String,
            "message": pl.String,
        }
    )
    processed = frame.join(origins.select("submission", stream_id="target"), on="submission", how="left").with_columns(
        stream_version=pl.Series([each.get("version", 1) for each in told], dtype=pl.Int32),
        decision=pl.Series([each.get("decision", "routed") for each in told], dtype=pl.String),
        rules=pl.Series([each.get("rules", "") for each in told], dtype=pl.String),
        destinations=pl.Series(
            [json.dumps(each["to"]) if each.get("to") is not None else None for each in told], dtype=pl.String
        ),
        faults=pl.Series([each.get("faults") for each in told], dtype=pl.String),
        document=pl.Series(
            [row if each.get("to") is not None else None for row, each in zip(frame["document"], told, strict=True)],
            dtype=pl.String,
        ),
    )
    return processed, problems


def the_shape(tx: Transaction, *, workspace: str, target: str) -> Shape:
    """Give every stream the same shape."""
    del tx, workspace, target
    return Shape(contract=STRICT, table=TABLE)


TOLD = replace(FEED, contract=STRICT, table=TABLE, shapes=the_shape, refer=as_told, consign=StreamConsign(), kinds=())


def event(number: int, *to: str, **told: object) -> dict[str, object]:
    """Make an event for some destinations."""
    weights = dict.fromkeys(to, 1.0) if told.get("decision", "routed") == "routed" else None
    return {
        "timestamp": NOON.isoformat(),
        "source": "api",
        "event": {"number": number, "to": weights, **told},
    }


def land(platform: Platform, *events: object, stream: str = STREAM, workspace: str = "acme") -> str:
    """Have events accepted, as one submission; its job."""
    body = body_of(events, envelope_key=TOLD.envelope_key)
    job = replace(new_job(body, feed=TOLD.name, workspace=workspace), target=stream)
    (accepted,) = accept(platform.ledger, job)
    return accepted.id


def work(platform: Platform) -> None:
    """Work off what waits."""
    done = work_until_idle(platform, TOLD, day=None, run_id="run-1", linger_seconds=0.0)
    assert done.faults == []


def consign(platform: Platform, *events: object, stream: str = STREAM, workspace: str = "acme") -> str:
    """Have events accepted and worked; their job."""
    job_id = land(platform, *events, stream=stream, workspace=workspace)
    work(platform)
    return job_id


def declare(platform: Platform, *names: str, workspace: str = "acme", retired: bool = False, **body: object) -> None:
    """Declare destinations of a type that only these tests know."""
    make_workspace(platform.ledger, workspace)
    with platform.ledger.transaction() as tx:
        entries = [
            catalog.Declared(
                workspace=workspace, kind="destinations", id=name, body={"type": "flaky", **body}, retired=retired
            )
            for name in names
        ]
        catalog.put(tx, entries)


@dataclass(eq=False)
class Flaky:
    """A destination that keeps what it took, and says what it is told to."""

    type: ClassVar[str] = "flaky"
    batch: BatchRule = field(
        default_factory=lambda: BatchRule(events_max=100, bytes_max=1 << 20, linger_seconds=0.0, at_once=1)
    )
    say: Say = all_delivered
    # In order: every batch, and by event id how often it was taken.
    batches: list[Batch] = field(default_factory=list[Batch])
    taken: Counter[str] = field(default_factory=Counter[str])
    at_once: int = 0
    at_once_most: int = 0
    twice_at_once: list[str] = field(default_factory=list[str])
    closed: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = Counter[str]()

    def send(self, batch: Batch) -> Sent:
        """Take a batch, or not."""
        with self._lock:
            self.batches.append(batch)
            self.at_once += 1
            self.at_once_most = max(self.at_once, self.at_once_most)
            self._under_way.update(item.event_id for item in batch.items)
            self.twice_at_once += [id_ for id_, times in self._under_way.items() if times > 1]
        try:
            sent = self.say(batch)
            with self._lock:
                self.taken.update(sent.delivered)
            return sent
        finally:
            with self._lock:
                self.at_once -= 1
                self._under_way.subtract(item.event_id for item in batch.items)

    def close(self) -> None:
        """Be closed."""
        self.closed += 1

    @property
    def numbers(self) -> list[int]:
        """The numbers of the events of all batches, in the order in which they came."""
        return [json.loads(item.document)["event"]["number"] for batch in self.batches for item in batch.items]


def failing(times: int, *, then: Say = all_delivered, error: Exception | None = None) -> Say:
    """Fail so many times."""
    left = [times]
    lock = threading.Lock()

    def say(batch: Batch) -> Sent:
        with lock:
            left[0] -= 1
            failed = left[0] >= 0
        if failed:
            raise error or Transient("it is away")
        return then(batch)

    return say


def in_turn(*says: Say) -> Say:
    """Say one thing after the other."""
    left = iter(says)

    def say(batch: Batch) -> Sent:
        now = next(left)
        return now(batch)

    return say


def slow(seconds: float) -> Say:
    """Take a while."""

    def say(batch: Batch) -> Sent:
        time.sleep(seconds)
        return all_delivered(batch)

    return say


def opened_from(flaky: Mapping[str, Flaky]) -> Callable[[Entry], Flaky]:
    """Open destinations by name."""
    return lambda entry: flaky[entry.to.destination]


def deliverer_of(platform: Platform, flaky: Mapping[str, Flaky], *, patience: Patience = HASTY) -> Deliverer:
    """Make a deliverer to some destinations."""
    return Deliverer(platform, open_entry=opened_from(flaky), patience=patience, lease_seconds=1.0)


def deliver(platform: Platform, flaky: Mapping[str, Flaky], *, seconds_max: float = 10.0) -> Counter[str]:
    """Deliver what is due, and nothing again; events by what became of them."""
    deliverer = deliverer_of(platform, flaky, patience=PATIENT)
    deadline = time.monotonic() + seconds_max
    deliverer.run(stop=lambda: time.monotonic() > deadline, until_idle=True)
    return deliverer.done


def deliver_until(
    platform: Platform, flaky: Mapping[str, Flaky], enough: Callable[[], bool], *, seconds_max: float = 20.0
) -> Counter[str]:
    """Deliver until it is enough."""
    deliverer = deliverer_of(platform, flaky)
    deadline = time.monotonic() + seconds_max
    deliverer.run(stop=lambda: enough() or time.monotonic() > deadline, wait=lambda _: time.sleep(0.02))
    assert enough(), "it took too long"
    return deliverer.done


def accounts_of(platform: Platform) -> Accounts:
    """Read all accounts, which balance."""
    with platform.ledger.connection() as tx:
        accounts = read_accounts(tx)
    assert accounts.balanced, accounts
    return accounts


def figures(platform: Platform, destination: str) -> tuple[int, int, int, int]:
    """Read consigned, delivered, waiting and dead of a destination."""
    rows = [each for each in accounts_of(platform).destinations if each.destination == destination]
    return (
        sum(each.consigned for each in rows),
        sum(each.delivered for each in rows),
        sum(each.waiting for each in rows),
        sum(each.dead for each in rows),
    )


def health_of(platform: Platform, destination: str) -> Health:
    """Read how a destination does."""
    with platform.ledger.connection() as tx:
        (found,) = [each for each in read_health(tx, workspace="acme") if each.destination == destination]
    return found


def rows_of_deliveries(platform: Platform, columns: str) -> list[tuple[object, ...]]:
    """Read columns of all deliveries, in their order."""
    with platform.ledger.connection() as tx:
        return _rows(tx, f"SELECT {columns} FROM stream_deliveries ORDER BY seq")


def let_all_be_due(platform: Platform, *, within_seconds: float = 0.0) -> None:
    """Let time pass for whatever waits: repetitions, leases, breakers."""
    with platform.ledger.transaction() as tx:
        moved = (within_seconds,)
        tx.execute(
            "UPDATE stream_deliveries SET due_at = clock_timestamp() + make_interval(secs => %s)"
            " WHERE state IN ('waiting', 'sending')",
            moved,
        )
        tx.execute(
            "UPDATE stream_destinations SET open_until = clock_timestamp() + make_interval(secs => %s)"
            " WHERE open_until IS NOT NULL",
            moved,
        )


def _rows(tx: Transaction, query: str) -> list[tuple[object, ...]]:
    return tx.execute(query.encode()).fetchall()


def ids_of(job_id: str, indexes: Iterable[int]) -> list[str]:
    """Name events of a job."""
    return [f"evt_{job_id[-26:]}-{index}" for index in indexes]


def to(name: str, workspace: str = "acme") -> To:
    """Name a destination."""
    return To(workspace, name)


def only(items: Sequence[Batch]) -> Batch:
    """Take the one batch there is."""
    (batch,) = items
    return batch
