"""From a request's body to a landed submission: kept in its row or spilled to a blob, then taken with its job.

What records are in it, and what the answer looks like, is the feed's own.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest_platform.api.body import Bounded, Sink, decoding
from ingest_platform.api.call import Call
from ingest_platform.api.replies import Reply
from ingest_platform.api.services import Services
from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import InDoubt
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.ids import new_id
from ingest_platform.domain.job import Origin
from ingest_platform.domain.submission import Encoding, Format
from ingest_platform.pipeline.grouped import in_doubt
from ingest_platform.pipeline.land import Landing
from ingest_platform.storage.blobs import Blobs, BlobWriter
from ingest_platform.storage.jobs import Accepted, NewJob
from ingest_platform.storage.ledger import Transaction

BLOB_PREFIX = "submissions/"


class Spool:
    """Keeps a body in memory up to a size and writes a larger one to a blob, hashing that on the way."""

    def __init__(self, blobs: Blobs, *, key: str, inline_bytes_max: int) -> None:
        self._blobs = blobs
        self._key = key
        self._inline_bytes_max = inline_bytes_max
        self._kept = bytearray()
        self._writer: BlobWriter | None = None
        self._sha256 = hashlib.sha256()
        self._left = False
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Take bytes."""
        self.size += len(piece)
        if self._writer is not None:
            self._sha256.update(piece)
            self._writer.write(piece)
            return
        self._kept += piece
        if self.size > self._inline_bytes_max:
            self._writer = self._blobs.writer(self._key)
            self._sha256.update(self._kept)
            self._writer.write(bytes(self._kept))
            self._kept.clear()

    def close(self) -> None:
        """Make a blob durable, so that its row never points at nothing."""
        if self._writer is not None:
            self._writer.commit()
            reach("land.blob_written")

    def abort(self) -> None:
        """Leave nothing behind, unless the blob is to be left."""
        if self._writer is not None and not self._left:
            self._writer.abort()
            self._blobs.delete(self._key)

    def leave(self) -> None:
        """Leave the blob where it is, whatever happens: a job may need it."""
        self._left = True

    @property
    def digest(self) -> bytes:
        """Give the SHA-256 of all bytes; of those in memory only now, because most bodies are never asked for it."""
        return self._sha256.digest() if self._writer is not None else hashlib.sha256(self._kept).digest()

    @property
    def body(self) -> bytes | None:
        """Give the bytes if they are to lie in the row."""
        return None if self._writer is not None else bytes(self._kept)

    @property
    def blob(self) -> str | None:
        """Give the blob's key if they are not."""
        return self._key if self._writer is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """What is to be taken: the job's id is chosen before, because the blob is named after it."""

    feed: Feed
    job_id: str
    format: Format
    size: int
    body: bytes | None
    blob: str | None
    # What the records are held to, for feeds with targets.
    target: str | None = None
    received: int | None = None
    # Records that it takes of the workspace's quota; None where the feed has none.
    quota: int | None = None
    file_name: str | None = None
    file_sha256: str | None = None
    # Key hashes of the records that will be accepted, for feeds whose records can be read before they are worked.
    subjects: Sequence[int] | None = None
    # Keeps the blob in place once the ledger may know of it.
    leave: Callable[[], None] = lambda: None
    origin: Origin = Origin.API

    @classmethod
    def spooled(
        cls,
        feed: Feed,
        spool: Spool,
        *,
        job_id: str,
        format: Format,  # noqa: A002 - the word of the domain.
        target: str | None = None,
        received: int | None = None,
        quota: int | None = None,
        file_name: str | None = None,
        subjects: Sequence[int] | None = None,
        origin: Origin = Origin.API,
    ) -> "Taking":
        """Take what a spool holds; a body with a file's name is a file, so its hash is told too."""
        return cls(
            feed=feed,
            job_id=job_id,
            format=format,
            size=spool.size,
            body=spool.body,
            blob=spool.blob,
            target=target,
            received=received,
            quota=quota,
            file_name=file_name,
            file_sha256=spool.digest.hex() if file_name is not None else None,
            subjects=subjects,
            leave=spool.leave,
            origin=origin,
        )


class Intake:
    """Takes submissions of one process."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def spool(self, job_id: str) -> Spool:
        """Make a spool for the body of a new job."""
        return Spool(
            self._services.blobs,
            key=f"{BLOB_PREFIX}{job_id}",
            inline_bytes_max=self._services.limits.inline_bytes_max,
        )

    def new_job_id(self, feed: Feed) -> str:
        """Choose a job's id."""
        return new_id(feed.job_prefix)

    def bounded(self, spool: Sink, *, encoding: Encoding, bytes_max: int) -> Sink:
        """Put decompression and its limit before a spool."""
        return decoding(encoding, Bounded(spool, bytes_max=bytes_max))

    async def keep(self, content: bytes, spool: Spool) -> Spool:
        """Spool a body that is in memory already; only one that needs a blob needs a thread."""
        if len(content) <= self._services.limits.inline_bytes_max:
            spool.write(content)
        else:
            await self._services.run(lambda: (spool.write(content), spool.close()))
        return spool

    async def take(self, call: Call, taking: Taking, answer: Callable[[str, datetime], Reply]) -> Reply:
        """Land a submission and answer; when it returns, the answer is true whatever happens next.

        Raises QuotaExceeded if it takes more of the quota than is left.
        """
        reach("land.received")

        def reply(accepted: Accepted) -> Reply:
            return answer(accepted.id, accepted.accepted_at)

        keyed = call.keyed if call.keyed is not None and call.keyed.open else None

        def also(tx: Transaction, accepted: Accepted) -> None:
            assert keyed is not None
            keyed.finish(tx, reply(accepted))

        landing = Landing(job=self._job(call, taking), also=also if keyed is not None else None, quota=taking.quota)
        try:
            accepted = await self._services.lander.land(landing)
        except InDoubt:
            taking.leave()
            raise
        except asyncio.CancelledError:
            # The process ends; what is being committed at this moment is committed.
            taking.leave()
            raise in_doubt() from None
        self._services.metrics.accepted(feed=taking.feed.name, size=taking.size)
        reach("land.before_reply")
        return reply(accepted)

    @staticmethod
    def _job(call: Call, taking: Taking) -> NewJob:
        sites = call.who.sites
        return NewJob(
            id=taking.job_id,
            workspace=call.who.workspace,
            feed=taking.feed.name,
            format=taking.format,
            bytes_in=taking.size,
            body=taking.body,
            blob=taking.blob,
            target=taking.target,
            received=taking.received,
            file_name=taking.file_name,
            file_sha256=taking.file_sha256,
            request_id=call.request_id,
            sites=None if sites is None else sorted(sites),
            subjects=taking.subjects,
            origin=taking.origin,
        )
