"""The warm worker: threads that notice work and make runs of it at once. What a run does is not known here.

One thread listens to PostgreSQL, one watches the landing folder, one a feed drains what waits, one delivers to
webhooks, one answers the launcher, one sends the heartbeat. An expected fault (the database is away) is logged and
tried again; any other ends the process, so that the supervisor starts a fresh one.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import structlog
import watchfiles
from dagster_postgres.utils import DagsterPostgresException
from dagster_shared.error import DagsterError
from psycopg import OperationalError, sql
from sqlalchemy.exc import SQLAlchemyError

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import Fault
from ingest_platform.domain.feed import Feed, FeedService
from ingest_platform.domain.ids import new_id
from ingest_platform.orchestration.handover import Message, Switchboard
from ingest_platform.orchestration.runs import LocalRuns
from ingest_platform.orchestration.sensors import WORKER_PART
from ingest_platform.orchestration.warming import warm_up
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.deliver import Deliverer
from ingest_platform.pipeline.files import collect
from ingest_platform.pipeline.filing import file_outcomes
from ingest_platform.storage import processes
from ingest_platform.storage.jobs import LANDED, waiting
from ingest_platform.storage.ledger import connect
from ingest_platform.storage.webhooks import ANNOUNCED

log = structlog.get_logger()

# A notification that was lost (the listener was reconnecting) costs at most this.
POLL_SECONDS = 2.0
# How soon the listener sees that the worker ends.
LISTEN_SECONDS = 0.5
# A file is complete only some time after the last change that the kernel tells of, and filed after its job has ended.
FILES_POLL_MS = 1000
RECONCILE_SECONDS = 30.0
BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
# `ingest up` gives each part 15 s to end; the rest is for closing.
STOP_SECONDS_MAX = 9.0
# Upkeep and what the safety net started; more than that gets processes of their own.
LAUNCHED_MAX = 4

EXPECTED = (Fault, OperationalError, SQLAlchemyError, DagsterError, DagsterPostgresException, OSError)


class Worker:
    """The threads of one worker process. `run` returns when `stop` is set or a thread met what it did not expect."""

    def __init__(
        self, place: Workplace, feeds: Sequence[Feed], runs: LocalRuns, *, run_dir: Path, stop: threading.Event
    ) -> None:
        self._place = place
        self._feeds = feeds
        self._runs = runs
        self._stop = stop
        self._wake = place.wake
        self._services = [service for feed in feeds for service in feed.services]
        self._heard = {service.channel: threading.Event() for service in self._services}
        self._launched = threading.BoundedSemaphore(LAUNCHED_MAX)
        self._deliverer = Deliverer(place.platform.ledger, place.platform.outbound)
        self._switchboard = Switchboard(run_dir, self._answer)
        self._id = new_id("wrk_")
        self._broken = False

    def run(self) -> bool:
        """Work until told to stop; tell whether it ended in good order."""
        started = time.monotonic()
        for feed in self._feeds:
            warm_up(self._place, feed)
        failed = self._runs.reconcile()
        if failed:
            log.warning("runs reconciled", run_ids=failed)
        threads = [self._thread(f"drain {feed.name}", lambda feed=feed: self._drain(feed)) for feed in self._feeds]
        threads += [
            self._thread(service.name, lambda service=service: self._serve(service)) for service in self._services
        ]
        threads += [
            self._thread("listen", self._listen),
            self._thread("watch", self._watch),
            self._thread("deliver", self._deliver),
            self._thread("heartbeat", self._beat),
        ]
        self._switchboard.start()
        log.info("worker ready", worker=self._id, seconds=round(time.monotonic() - started, 3))
        self._stop.wait()
        return self._end(threads)

    def _end(self, threads: Sequence[threading.Thread]) -> bool:
        """Let the loads in hand come to their end or be released; what does not manage in time comes back by lease."""
        self._switchboard.close()
        for event in (*self._wake.values(), *self._heard.values()):
            event.set()
        self._deliverer.wake()
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        while self._runs.active and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self._runs.active
        log.info("worker ended", worker=self._id, runs_left=sorted(left))
        return not self._broken and not left

    def _thread(self, name: str, body: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                body()
            except BaseException:
                # A worker with a thread less would look alive and do half of its work.
                log.exception("worker thread died", thread=name)
                self._broken = True
                self._stop.set()
                raise

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _again(self, name: str, step: Callable[[], bool]) -> None:
        """Repeat a step until the end; after a step that failed, wait for longer each time."""
        failures = 0
        while not self._stop.is_set():
            try:
                succeeded = step()
            except EXPECTED as error:
                log.exception("worker step failed", step=name, error=type(error).__name__)
                succeeded = False
            failures = 0 if succeeded else failures + 1
            if failures:
                self._stop.wait(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1])

    def _drain(self, feed: Feed) -> None:
        self._again(f"drain {feed.name}", lambda: self._drain_once(feed))

    def _drain_once(self, feed: Feed) -> bool:
        """Execute a run if something waits, else wait for something; tell whether that went well."""
        wake = self._wake[feed.name]
        # Cleared before the look, so that what lands after the look is not slept over.
        wake.clear()
        with self._place.platform.ledger.connection() as tx:
            day = waiting(tx, feed.name).oldest_day
        if day is None:
            wake.wait(POLL_SECONDS)
            return True
        reach("worker.before_claim")
        succeeded = self._runs.execute_live(feed, day)
        if not succeeded:
            log.error("run failed", feed=feed.name, day=day.isoformat())
        return succeeded

    def _listen(self) -> None:
        self._again("listen", self._listen_once)

    def _listen_once(self) -> bool:
        """Wake whoever something was landed or announced for, until the connection or the worker ends."""
        with connect(self._place.platform.ledger.database_url, application="ingest-worker-listen") as connection:
            connection.execute(f"LISTEN {LANDED}")
            connection.execute(f"LISTEN {ANNOUNCED}")
            for channel in self._heard:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            for event in (*self._wake.values(), *self._heard.values()):
                event.set()
            self._deliverer.wake()
            while not self._stop.is_set():
                for notification in connection.notifies(timeout=LISTEN_SECONDS):
                    if notification.channel == ANNOUNCED:
                        self._deliverer.wake()
                    elif notification.channel in self._heard:
                        self._heard[notification.channel].set()
                    elif notification.payload in self._wake:
                        self._wake[notification.payload].set()
        return True

    def _deliver(self) -> None:
        self._again("deliver", self._deliver_once)

    def _deliver_once(self) -> bool:
        """Deliver to webhooks until the ledger is away or the worker ends."""
        self._deliverer.run(stop=self._stop.is_set)
        return True

    def _serve(self, service: FeedService) -> None:
        self._again(service.name, lambda: self._serve_once(service))

    def _serve_once(self, service: FeedService) -> bool:
        """Do a feed's own work until the ledger is away or the worker ends."""
        heard = self._heard[service.channel]

        def wait(seconds: float) -> None:
            heard.wait(seconds)
            # Cleared before the caller looks for work, so that what comes after the look is not slept over.
            if not self._stop.is_set():
                heard.clear()

        service.run(self._place.platform, self._stop.is_set, wait)
        return True

    def _watch(self) -> None:
        self._place.landing.mkdir(parents=True, exist_ok=True)
        self._again("watch", self._watch_once)

    def _watch_once(self) -> bool:
        """Land dropped files as soon as they are complete, and file them once their jobs have ended."""
        changes = watchfiles.watch(
            self._place.landing,
            watch_filter=None,
            debounce=200,
            step=50,
            rust_timeout=FILES_POLL_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            raise_interrupt=False,
        )
        for _ in changes:
            taken = collect(self._place.platform, self._feeds)
            filed = file_outcomes(self._place.platform)
            if taken or filed:
                log.info("files looked at", taken=len(taken), filed=len(filed))
        return True

    def _beat(self) -> None:
        self._again("heartbeat", self._beat_once)
        with self._place.platform.ledger.connection() as tx:
            processes.end(tx, process_id=self._id)

    def _beat_once(self) -> bool:
        with self._place.platform.ledger.connection() as tx:
            processes.beat(tx, process_id=self._id, part=WORKER_PART)
        now = time.monotonic()
        if now > self._reconcile_at:
            self._reconcile_at = now + RECONCILE_SECONDS
            self._runs.reconcile()
        self._stop.wait(processes.BEAT_SECONDS)
        return True

    _reconcile_at = 0.0

    def _answer(self, message: Message) -> Message:
        """Answer the launcher: whether this worker does what it asks."""
        run_id = message.get("run_id", "")
        match message.get("ask"):
            case "run":
                return {"answer": "yes" if self._take_over(run_id) else "no"}
            case "terminate":
                if run_id in self._runs.active:
                    self._place.cancelled.add(run_id)
                    return {"answer": "yes"}
            case _:
                pass
        return {"answer": "no"}

    def _take_over(self, run_id: str) -> bool:
        """Execute a run on a thread of its own, unless there are too many already."""
        if self._stop.is_set() or not self._launched.acquire(blocking=False):
            return False
        if not self._runs.knows(run_id):
            self._launched.release()
            return False
        threading.Thread(target=self._execute_launched, args=(run_id,), name=f"run {run_id}", daemon=True).start()
        return True

    def _execute_launched(self, run_id: str) -> None:
        try:
            self._runs.execute_launched(run_id)
        except EXPECTED:
            # The run stays unfinished in Dagster's tables; the next reconciliation reports it as failed.
            log.exception("launched run failed", run_id=run_id)
        finally:
            self._place.cancelled.discard(run_id)
            self._launched.release()


def run_worker(
    *,
    place: Workplace,
    feeds: Sequence[Feed],
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    run_dir: Path,
    stop: threading.Event,
) -> bool:
    """Be a warm worker until `stop` is set; tell whether it ended in good order."""
    return Worker(place, feeds, LocalRuns(instance, definitions), run_dir=run_dir, stop=stop).run()
