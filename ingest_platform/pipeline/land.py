"""Taking a submission durably: its body and its job in one committed transaction, many submissions at a time.

Whether it may be taken was decided before (`admit.py`); what is in it is found out later (`parse.py`).
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import LiteralString

import psycopg
import structlog

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import (
    Conflict,
    Exceeded,
    InDoubt,
    IngestError,
    LedgerFault,
    QuotaExceeded,
    Unavailable,
)
from ingest_platform.pipeline.grouped import RETRY_AFTER_SECONDS, Grouped, OwnConnection, in_doubt, unavailable
from ingest_platform.storage import jobs, quotas
from ingest_platform.storage.jobs import Accepted, NewJob
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.quotas import Demand

log = structlog.get_logger(__name__)

# One transaction: enough submissions to share an fsync, few enough bytes for the rest not to wait for them.
GROUP_ITEMS_MAX = 512
GROUP_BYTES_MAX = 8 * 1024 * 1024
# A process that is stopped in the middle of a transaction would hold what others wait for (the row of a quota): the
# server ends it before they give up.
_SETTINGS: tuple[LiteralString, ...] = ("SET idle_in_transaction_session_timeout = '1s'",)
# Asking the file system costs microseconds; a disk does not fill much in a second.
_DISK_ASKED_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A submission to take, and what else is to be written in the same transaction (the answer under its key).

    `quota` is how many records it takes of its workspace's quota, reserved in that transaction too: what is not landed
    costs nothing. Without it the feed has none.
    """

    job: NewJob
    also: Callable[[Transaction, Accepted], None] | None = None
    quota: int | None = None

    @property
    def alone(self) -> bool:
        """Whether nothing else is written with it, so that it is one statement."""
        return self.also is None and self.quota is None


class DiskReserve:
    """Knows whether there is room: intake stops while there still is some, so that what was taken can be worked."""

    def __init__(self, folder: Path, *, free_bytes_min: int) -> None:
        self._folder = folder
        self._free_bytes_min = free_bytes_min
        self._asked_at = float("-inf")
        self._enough = True

    def enough(self) -> bool:
        """Tell whether the reserve is still free."""
        now = time.monotonic()
        if now - self._asked_at >= _DISK_ASKED_SECONDS:
            self._enough = self._free_bytes() >= self._free_bytes_min
            self._asked_at = now
        return self._enough

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self._folder).free
        except OSError as error:
            log.warning("disk away", reason=str(error))
            return -1

    def require(self) -> None:
        """Raise Unavailable unless the reserve is free."""
        if not self.enough():
            message = "Nothing was taken: the disk is nearly full, or away."
            raise Unavailable(message, code="disk_full", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class Lander:
    """Lands the submissions of one process: one thread, one connection, group commit."""

    def __init__(self, database_url: str, reserve: DiskReserve) -> None:
        self.reserve = reserve
        self._own = OwnConnection(database_url, application="ingest-land", settings=_SETTINGS)
        self._grouped: Grouped[Landing, Accepted] = Grouped(
            self._write,
            name="land",
            items_max=GROUP_ITEMS_MAX,
            weight_max=GROUP_BYTES_MAX,
            weigh=lambda landing: len(landing.job.body or b""),
            late=in_doubt,
        )

    async def land(self, landing: Landing) -> Accepted:
        """Take a submission; when this returns, it survives kill -9 and power loss.

        Raises QuotaExceeded if it has more records than are left; Unavailable when that can't be promised; InDoubt if
        it may have been taken nevertheless.
        """
        self.reserve.require()
        return await self._grouped.ask(landing)

    def _write(self, landings: Sequence[Landing]) -> Sequence[Accepted | IngestError]:
        try:
            return self._accept(landings)
        except (psycopg.DataError, psycopg.IntegrityError):
            # One of them can't be stored; the others must not suffer for it.
            return [self._accept_alone(landing) for landing in landings]

    def _accept(self, landings: Sequence[Landing]) -> list[Accepted | IngestError]:
        refused: dict[int, IngestError] = {}

        def work(tx: Transaction) -> list[Accepted]:
            refused.clear()
            refused.update(_over_quota(tx, landings))
            return _accept(tx, _without(landings, refused))

        try:
            # Without an answer to be kept it is one statement; done twice, it fails for its ids (`_accept_alone`).
            accepted = self._own.run(work, one_by_one=all(landing.alone for landing in landings))
        except LedgerFault:
            if not self._own.in_doubt:
                raise
            # The connection broke between the commit and its confirmation: ask what came of it.
            left = _without(landings, refused)
            accepted = self._accepted_before(left)
            if len(accepted) != len(left):
                raise
        reach("land.after_commit")
        told = iter(accepted)
        return [refused[place] if place in refused else next(told) for place in range(len(landings))]

    def _accepted_before(self, landings: Sequence[Landing]) -> list[Accepted]:
        try:
            return self._own.run(lambda tx: _accepted_before(tx, landings))
        except LedgerFault as fault:
            raise in_doubt() from fault

    def _accept_alone(self, landing: Landing) -> Accepted | IngestError:
        try:
            return self._accept([landing])[0]
        except psycopg.errors.UniqueViolation:
            return self._taken_before(landing)
        except InDoubt as doubt:
            return doubt
        except (psycopg.DataError, psycopg.IntegrityError, LedgerFault):
            return unavailable("Nothing was taken: the ledger refused the submission.")

    def _taken_before(self, landing: Landing) -> Accepted | IngestError:
        try:
            found = self._accepted_before([landing])
        except InDoubt as doubt:
            return doubt
        if found:
            # A commit whose confirmation was lost was done after all, while it was begun again.
            return found[0]
        return answered_meanwhile()

    def close(self) -> None:
        """Let the connection go."""
        self._grouped.close(self._own.close)


def answered_meanwhile() -> Conflict:
    """Word the refusal of a request under whose key another was answered while it outlived its reservation."""
    return Conflict("Another request with this Idempotency-Key was answered meanwhile.")


def _over_quota(tx: Transaction, landings: Sequence[Landing]) -> dict[int, IngestError]:
    """Reserve what the submissions take of their quotas; the refusals of those that do not fit, by place."""
    wanted = [
        (place, Demand(workspace=landing.job.workspace, feed=landing.job.feed, records=landing.quota))
        for place, landing in enumerate(landings)
        if landing.quota is not None
    ]
    told = quotas.reserve_each(tx, [demand for _, demand in wanted])
    return {
        place: over_quota(each) for (place, _), each in zip(wanted, told, strict=True) if isinstance(each, Exceeded)
    }


def over_quota(exceeded: Exceeded) -> QuotaExceeded:
    """Word the refusal of records of which there are more than is left of the quota."""
    left = f"{exceeded.remaining} of {exceeded.limit} are left in {exceeded.period}"
    return QuotaExceeded(
        f"The quota is exceeded: these are {exceeded.requested} records, and {left}.", exceeded=exceeded
    )


def _without(landings: Sequence[Landing], refused: Mapping[int, IngestError]) -> Sequence[Landing]:
    if not refused:
        return landings
    return [landing for place, landing in enumerate(landings) if place not in refused]


def _accept(tx: Transaction, landings: Sequence[Landing]) -> list[Accepted]:
    if not landings:
        return []
    new = [landing.job for landing in landings]
    if all(landing.also is None for landing in landings):
        # It is one statement; unless quotas were reserved before it, its end is the commit.
        reach("land.before_commit")
        return jobs.accept(tx, new)
    accepted = jobs.accept(tx, new)
    # What is written beside is sent together, not answer by answer.
    with tx.pipeline():
        for landing, each in zip(landings, accepted, strict=True):
            if landing.also is not None:
                landing.also(tx, each)
    reach("land.before_commit")
    return accepted


def _accepted_before(tx: Transaction, landings: Sequence[Landing]) -> list[Accepted]:
    found = [jobs.get_job(tx, workspace=landing.job.workspace, job_id=landing.job.id) for landing in landings]
    return [
        Accepted(id=job.id, seq=job.seq, accepted_at=job.accepted_at, day=job.accepted_at.astimezone(UTC).date())
        for job in found
        if job is not None
    ]
