"""Deliver what was announced: claim, sign, send, keep how it went, and try again later until it is delivered or dead.

Many at once in one thread, so many places for each receiver: one that is slow delays no other, and no load. Which URL
may be called is decided in `outbound.py`.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from ingest_platform.domain.timestamps import format_instant
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.pipeline.outbound import Outbound, Sent
from ingest_platform.pipeline.signature import HUB_PREFIX, HUB_SIGNATURE_HEADER, SIGNATURE_HEADER, sign
from ingest_platform.storage import webhooks
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.webhooks import Attempt, DeliveryState, Outgoing

log = structlog.get_logger(__name__)

# Calls of one process at once, and to one webhook: a workspace has at most 20 of those, so that even one whose
# receivers all hang leaves most places to the others.
SENT_AT_ONCE_MAX = 256
SENT_TO_ONE_MAX = 4
# A call takes at most 10 s; whoever has not told of its end in three times that is gone.
LEASE_SECONDS = 30.0
# A retry is sent at most so long after it is due, and so is an event whose notification was lost.
POLL_SECONDS = 1.0
# Calls that are under way when the process ends; what takes longer is sent again by somebody else.
GRACE_SECONDS = 5.0
GONE = 410
USER_AGENT = "ingest-platform-webhooks"
EVENT_ID_HEADER, EVENT_TYPE_HEADER, TIMESTAMP_HEADER = "Webhook-Id", "Webhook-Event", "Webhook-Timestamp"
DELIVERY_HEADER, ATTEMPT_HEADER = "Webhook-Delivery", "Webhook-Attempt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an attempt means for its delivery, and whether its receiver is gone for good."""

    state: DeliveryState
    again_seconds: float | None = None
    gone: bool = False


def verdict_of(
    sent: Sent, *, attempt: int, rules: OutboundRules, uniform: Callable[[float, float], float] = random.uniform
) -> Verdict:
    """Decide whether a delivery is done, dead, or to be tried again, and when.

    The pause is anything from nothing to a bound that doubles with each attempt (full jitter), so that a thousand
    deliveries that failed together do not come back together. A receiver may ask for a longer one.
    """
    if sent.error is None:
        return Verdict(state=DeliveryState.DELIVERED)
    if sent.response_code == GONE:
        return Verdict(state=DeliveryState.DEAD, gone=True)
    if attempt >= rules.attempts_max:
        return Verdict(state=DeliveryState.DEAD)
    bound = min(rules.pause_seconds_max, rules.pause_seconds * 2.0 ** (attempt - 1))
    asked = min(sent.retry_after_seconds or 0.0, rules.pause_seconds_max)
    return Verdict(state=DeliveryState.PENDING, again_seconds=max(uniform(0.0, bound), asked))


def headers_of(outgoing: Outgoing, *, now: datetime) -> dict[str, str]:
    """Make the headers of a delivery: signed as what comes in is, and named so that a receiver can tell repetitions."""
    signature = sign(outgoing.secret, outgoing.body)
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        SIGNATURE_HEADER: signature,
        HUB_SIGNATURE_HEADER: HUB_PREFIX + signature,
        EVENT_ID_HEADER: outgoing.event_id,
        EVENT_TYPE_HEADER: outgoing.type,
        TIMESTAMP_HEADER: str(int(now.timestamp())),
        DELIVERY_HEADER: outgoing.id,
        ATTEMPT_HEADER: str(outgoing.attempt),
    }


class Deliverer:
    """Delivers in the thread that calls `run`; `wake` may be called from any other."""

    def __init__(self, ledger: Ledger, rules: OutboundRules) -> None:
        self._ledger = ledger
        self._rules = rules
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard = asyncio.Event()
        self._busy: Counter[str] = Counter()
        self.done: Counter[DeliveryState] = Counter()

    def wake(self) -> None:
        """Look for work at once: something was announced, or the end has come."""
        loop = self._loop
        if loop is not None:
            # It may have ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._heard.set)

    def run(self, *, stop: Callable[[], bool], until_idle: bool = False) -> None:
        """Deliver until told to stop, or until nothing is due. Raises LedgerFault when PostgreSQL is away."""
        asyncio.run(self._run(stop=stop, until_idle=until_idle))

    async def _run(self, *, stop: Callable[[], bool], until_idle: bool) -> None:
        self._loop, self._heard = asyncio.get_running_loop(), asyncio.Event()
        tasks = set[asyncio.Task[None]]()
        async with Outbound(self._rules) as outbound:
            try:
                while not stop():
                    self._heard.clear()
                    claimed = await asyncio.to_thread(self._claim, dict(self._busy), SENT_AT_ONCE_MAX - len(tasks))
                    tasks |= {self._begin(outbound, each) for each in claimed}
                    if until_idle and not tasks:
                        return
                    if not claimed:
                        tasks = await self._wait(tasks)
                await _finish(tasks, seconds_max=GRACE_SECONDS)
            finally:
                self._loop = None
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _claim(self, busy: Mapping[str, int], room: int) -> Sequence[Outgoing]:
        if room <= 0:
            return ()
        with self._ledger.connection() as tx:
            return webhooks.claim(tx, busy=busy, each_max=SENT_TO_ONE_MAX, limit=room, lease_seconds=LEASE_SECONDS)

    def _begin(self, outbound: Outbound, outgoing: Outgoing) -> asyncio.Task[None]:
        self._busy[outgoing.webhook_id] += 1
        return asyncio.create_task(self._deliver(outbound, outgoing))

    async def _wait(self, tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Wait until a call has ended, something was announced, or it is time to look; the calls still under way."""
        hearing = asyncio.create_task(self._heard.wait())
        try:
            done, _ = await asyncio.wait({hearing, *tasks}, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hearing.cancel()
        for task in done & tasks:
            task.result()
        return tasks - done

    async def _deliver(self, outbound: Outbound, outgoing: Outgoing) -> None:
        try:
            now = datetime.now(UTC)
            if outgoing.attempt > self._rules.attempts_max:
                # Each time whoever sent it ended; it may be what ends them.
                sent = Sent(duration_ms=0, error="given up: its attempts are used up")
            else:
                sent = await outbound.post(outgoing.url, headers=headers_of(outgoing, now=now), body=outgoing.body)
            kept = await asyncio.to_thread(self._keep, outgoing, sent, now)
            if kept is not None:
                self.done[kept] += 1
        finally:
            self._busy[outgoing.webhook_id] -= 1
            if not self._busy[outgoing.webhook_id]:
                del self._busy[outgoing.webhook_id]

    def _keep(self, outgoing: Outgoing, sent: Sent, at: datetime) -> DeliveryState | None:
        verdict = verdict_of(sent, attempt=outgoing.attempt, rules=self._rules)
        attempt = Attempt(
            at=format_instant(at),
            duration_ms=sent.duration_ms,
            response_code=sent.response_code,
            error=sent.error,
            again_seconds=verdict.again_seconds,
        )
        with self._ledger.transaction() as tx:
            kept = webhooks.finish(tx, outgoing, attempt, verdict.state)
            if kept and verdict.gone:
                webhooks.disable(tx, outgoing.webhook_id)
        if verdict.state is DeliveryState.DEAD:
            # The URL may have a secret of the receiver's in it, so it is not told.
            log.warning(
                "delivery given up",
                delivery=outgoing.id,
                webhook=outgoing.webhook_id,
                workspace=outgoing.workspace,
                attempts=outgoing.attempt,
                reason=sent.error,
            )
        return verdict.state if kept else None


async def _finish(tasks: set[asyncio.Task[None]], *, seconds_max: float) -> None:
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=seconds_max)
        for task in done:
            task.result()


def deliver_due(
    ledger: Ledger, rules: OutboundRules, *, seconds_max: float, stop: Callable[[], bool] = lambda: False
) -> Counter[DeliveryState]:
    """Deliver what is due now, for so long at most; how many were delivered, put off and given up."""
    deliverer = Deliverer(ledger, rules)
    over = threading.Event()
    timer = threading.Timer(seconds_max, over.set)
    timer.daemon = True
    timer.start()
    try:
        deliverer.run(stop=lambda: over.is_set() or stop(), until_idle=True)
    finally:
        timer.cancel()
    return deliverer.done
