"""What an attempt means for the events of a delivery: done, dead, or sent again and when. Nothing is kept here."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ingest_platform.feeds.stream_events.delivering.deliveries import Claimed, DeadEvent, Ending, Place
from ingest_platform.feeds.stream_events.delivering.items import Placed
from ingest_platform.feeds.stream_events.destinations.destination import DeliveryFailed, Permanent, Sent

_Uniform = Callable[[float, float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often, how long and with what pauses a delivery is tried."""

    # The bound of the first pause, which doubles; full jitter below it.
    pause_seconds: float = 1.0
    pause_seconds_max: float = 300.0
    # What a destination may ask for.
    asked_seconds_max: float = 3600.0
    # From the first attempt on. What was never tried is never given up.
    age_seconds_max: float = 24 * 3600.0
    # Nothing gets as far within a day; against clocks that jump.
    attempts_max: int = 1_000
    # It may be what ends whoever sends it.
    lost_max: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a destination said to a batch: of each event, or why it did not take the batch."""

    sent: Sent | None = None
    failed: DeliveryFailed | None = None

    @property
    def taken(self) -> bool:
        """Whether the destination is up: it has decided about an event."""
        if self.sent is None:
            return isinstance(self.failed, Permanent)
        return bool(self.sent.delivered or self.sent.dead)

    @property
    def asked_seconds(self) -> float | None:
        """How long the destination wants to be left alone."""
        said = self.sent or self.failed
        return None if said is None else said.retry_after_seconds

    @property
    def reason(self) -> str | None:
        """Why not everything was delivered."""
        if self.sent is None:
            return None if self.failed is None else self.failed.reason
        return next(iter({**self.sent.dead, **self.sent.retry}.values()), None)


UNSAID = "the destination did not say what became of it"


@dataclass(slots=True)
class _Fates:
    delivered: int = 0
    again: list[Place] = field(default_factory=list[Place])
    dead: list[DeadEvent] = field(default_factory=list[DeadEvent])
    reason: str | None = None


def ending_of(
    claimed: Claimed,
    items: Sequence[Placed],
    attempt: Attempt,
    *,
    patience: Patience,
    uniform: _Uniform = random.uniform,
) -> Ending:
    """Decide what becomes of each event that was sent."""
    fates = _fates(items, attempt)
    spent = _spent(claimed, patience)
    if spent is not None and fates.again:
        lost = dict.fromkeys(fates.again, f"{spent}: {attempt.reason or UNSAID}")
        fates.dead += [DeadEvent(item.event_id, place, lost[place]) for place, item in items if place in lost]
        fates.again = []
    return Ending(
        delivered=fates.delivered,
        again=fates.again,
        dead=fates.dead,
        again_seconds=pause_of(claimed.attempt, attempt.asked_seconds, patience=patience, uniform=uniform),
        reason=attempt.reason if fates.again or fates.dead else None,
    )


def given_up(claimed: Claimed, items: Sequence[Placed], *, patience: Patience) -> Ending | None:
    """Give a delivery up that is not to be tried any more; None if it is."""
    if claimed.lost < patience.lost_max:
        return None
    reason = f"given up: {claimed.lost} times whoever sent it ended before the answer"
    return Ending(dead=[DeadEvent(item.event_id, place, reason) for place, item in items], reason=reason)


def pause_of(
    attempt: int, asked_seconds: float | None, *, patience: Patience, uniform: _Uniform = random.uniform
) -> float:
    """Choose a pause: anything up to a bound that doubles with each attempt, and no less than was asked for.

    >>> pause_of(3, None, patience=Patience(), uniform=lambda _, bound: bound)
    4.0
    >>> pause_of(1, 60.0, patience=Patience(), uniform=lambda _, bound: bound)
    60.0
    """
    # Doubled no more often than matters, as the number must stay finite.
    bound = min(patience.pause_seconds_max, patience.pause_seconds * 2.0 ** min(attempt - 1, 30))
    return max(uniform(0.0, bound), min(asked_seconds or 0.0, patience.asked_seconds_max))


def _spent(claimed: Claimed, patience: Patience) -> str | None:
    if claimed.attempt >= patience.attempts_max or claimed.age_seconds >= patience.age_seconds_max:
        return f"given up after {claimed.attempt} attempts in {round(claimed.age_seconds)} s"
    return None


def _fates(items: Sequence[Placed], attempt: Attempt) -> _Fates:
    """Find each event's fate. Of two that are told, the worse counts: an event is rather sent twice than lost."""
    found = _Fates()
    if attempt.sent is None:
        assert attempt.failed is not None
        if isinstance(attempt.failed, Permanent):
            found.dead = [DeadEvent(item.event_id, place, attempt.failed.reason) for place, item in items]
        else:
            found.again = [place for place, _ in items]
        return found
    delivered = set(attempt.sent.delivered)
    for place, item in items:
        if item.event_id in attempt.sent.dead:
            found.dead.append(DeadEvent(item.event_id, place, attempt.sent.dead[item.event_id]))
        elif item.event_id in attempt.sent.retry or item.event_id not in delivered:
            found.again.append(place)
        else:
            found.delivered += 1
    return found
