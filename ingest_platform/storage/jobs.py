"""Jobs and their submissions, kept durably: accepted, claimed, settled. How an outcome is decided is not known here.

All times and leases are the database's, so that a worker whose clock jumps harms nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any, LiteralString

import psycopg
from msgspec.json import encode
from psycopg.rows import class_row, kwargs_row

from ingest_platform.domain.errors import LeaseLost
from ingest_platform.domain.ids import new_id
from ingest_platform.domain.job import Job, JobState, Origin
from ingest_platform.domain.outcome import Tally
from ingest_platform.domain.submission import Encoding, Format, Load, Submission
from ingest_platform.storage.ledger import Transaction, within
from ingest_platform.storage.packing import pack, unpack

LANDED = "ingest_landed"
SETTLED = "ingest_settled"
LOAD_PREFIX = "load_"
# Three attempts, then the job is failed with a reason (promise 11).
ATTEMPTS_MAX = 3
# What is read of a subject that thousands of waiting submissions speak of, for one look-up.
PENDING_BYTES_MAX = 8 * 1024 * 1024
PENDING_SUBMISSIONS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A submission that is about to be accepted, with the job that answers for it."""

    id: str
    workspace: str
    feed: str
    format: Format
    bytes_in: int
    origin: Origin = Origin.API
    encoding: Encoding = Encoding.IDENTITY
    body: bytes | None = None
    blob: str | None = None
    target: str | None = None
    received: int | None = None
    file_name: str | None = None
    file_sha256: str | None = None
    request_id: str | None = None
    sites: Sequence[str] | None = None
    parent_job_id: str | None = None
    # Key hashes of the records, for feeds whose records can be read before they are worked (`pending_of_subject`).
    subjects: Sequence[int] | None = None


# What goes into the ledger as it is.
_GIVEN = tuple(each.name for each in fields(NewJob) if each.name != "body")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What the ledger decided at acceptance."""

    id: str
    seq: int
    accepted_at: datetime
    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How much of a feed waits to be worked, and since when."""

    submissions: int
    oldest_age_seconds: float | None
    oldest_day: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How one job of a load ended: a tally, or an error when it could not be carried through."""

    job_id: str
    tally: Tally | None = None
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a load took, and when its stages ended; shared out over its jobs by their bytes.

    `bytes_written` are those of the accepted records in the warehouse's types, before the lake compresses them: what
    they take in the lake's files is known only once these are merged with others.
    """

    validated_at: datetime | None = None
    stored_at: datetime | None = None
    cpu_ms: int = 0
    bytes_written: int | None = None
    run_id: str | None = None


# One parameter for all columns but the bodies: an array for each costs psycopg ten times as much. Whoever is to hear of
# it is told by the same statement, so that an acceptance with nothing beside it is one round trip.
_ACCEPT: LiteralString = """
WITH given AS (
    SELECT * FROM ROWS FROM (
        json_to_recordset(%(jobs)s::json) AS (
            id text, workspace text, feed text, target text, origin text, received bigint, bytes_in bigint,
            file_name text, file_sha256 text, request_id text, parent_job_id text, format text, encoding text,
            packed boolean, blob text, sites text[], subjects bigint[]),
        unnest(%(bodies)b::bytea[])
    ) WITH ORDINALITY AS g (
        id, workspace, feed, target, origin, received, bytes_in, file_name, file_sha256, request_id, parent_job_id,
        format, encoding, packed, blob, sites, subjects, body, place)
), job AS (
    INSERT INTO jobs (id, workspace, feed, target, origin, received, bytes_in, file_name, file_sha256, request_id,
                      parent_job_id)
    SELECT id, workspace, feed, target, origin, received, bytes_in, file_name, file_sha256, request_id, parent_job_id
    FROM given ORDER BY place
    RETURNING id, seq, accepted_at, day
), landed AS (
    INSERT INTO submissions (job_id, day, format, encoding, body, packed, blob, sites, subjects, catalog_revision)
    SELECT id, day, format, encoding, body, packed, blob, sites, subjects, (SELECT revision FROM catalog_revision)
    FROM given JOIN job USING (id)
), told AS (
    SELECT pg_notify(%(channel)s, feed) FROM (SELECT DISTINCT feed FROM given) AS feeds
    WHERE %(channel)s::text IS NOT NULL
)
SELECT job.id, job.seq, job.accepted_at, job.day
FROM job JOIN given USING (id) CROSS JOIN (SELECT count(*) FROM told) AS heard
ORDER BY given.place
"""


def accept(tx: Transaction, jobs: Sequence[NewJob]) -> list[Accepted]:
    """Write submissions and their jobs, in the order given; whoever commits has accepted them durably.

    Workers hear of it when the transaction commits. It is one statement, so it needs no transaction of its own.
    """
    return _insert(tx, jobs, channel=LANDED)


def _insert(tx: Transaction, jobs: Sequence[NewJob], *, channel: str | None = None) -> list[Accepted]:
    bodies = pack([job.body for job in jobs])
    given = [_given(job, packed=packed) for job, (_, packed) in zip(jobs, bodies, strict=True)]
    values = {"jobs": encode(given).decode(), "bodies": [body for body, _ in bodies], "channel": channel}
    with tx.cursor(row_factory=class_row(Accepted)) as cursor:
        return cursor.execute(_ACCEPT, values).fetchall()


def _given(job: NewJob, *, packed: bool) -> dict[str, object]:
    return {**{name: getattr(job, name) for name in _GIVEN}, "packed": packed}


def accept_duplicate(tx: Transaction, job: NewJob, *, of: str) -> Accepted:
    """Accept a file whose content is known: the job is finished at once and points at the first one.

    Its records count as `duplicate` where the first job has been counted, else nothing was received.
    """
    (accepted,) = _insert(tx, [job])
    tx.execute(
        """
        UPDATE jobs SET state = 'finished', verdict = 'succeeded', duplicate_of = %(of)s,
            started_at = now(), finished_at = now(),
            received = first.n, accepted = first.n, duplicate = first.n, rejected = 0, created = 0, updated = 0,
            unchanged = 0, stale = 0, superseded = 0
        FROM (SELECT coalesce((SELECT accepted FROM jobs WHERE id = %(of)s AND state = 'finished'), 0) AS n) AS first
        WHERE id = %(id)s
        """,
        {"of": of, "id": job.id},
    )
    tx.execute("SELECT pg_notify(%s, %s)", (SETTLED, job.id))
    return accepted


def accept_failed(tx: Transaction, job: NewJob, *, code: str, message: str) -> Accepted:
    """Accept a submission that can't be read for a reason that is known already, so that it is answered too."""
    (accepted,) = _insert(tx, [job])
    tx.execute(
        "UPDATE jobs SET state = 'failed', verdict = 'failed', started_at = now(), finished_at = now(),"
        " error_code = %s, error_message = %s WHERE id = %s",
        (code, message, job.id),
    )
    tx.execute("SELECT pg_notify(%s, %s)", (SETTLED, job.id))
    return accepted


_JOB_COLUMNS: LiteralString = """
    id, seq, workspace, feed, target, origin, state, verdict, received, accepted, rejected, created, updated, unchanged,
    stale, superseded, duplicate, bytes_in, file_name, file_sha256, request_id, accepted_at, started_at, validated_at,
    stored_at, finished_at, cpu_ms, bytes_written, queue_ms, run_id, load_id, attempts, parent_job_id, duplicate_of,
    error_code, error_message
"""


def _job(*, state: str, origin: str, **columns: Any) -> Job:  # noqa: ANN401 - the columns are named after the fields.
    return Job(state=JobState(state), origin=Origin(origin), **columns)


def get_job(tx: Transaction, *, workspace: str | None, job_id: str) -> Job | None:
    """Read a job of a workspace (None: of any, for our own commands)."""
    with tx.cursor(row_factory=kwargs_row(_job)) as cursor:
        return cursor.execute(
            f"SELECT {_JOB_COLUMNS} FROM jobs WHERE id = %s AND (%s::text IS NULL OR workspace = %s)",
            (job_id, workspace, workspace),
        ).fetchone()


def read_jobs(tx: Transaction, job_ids: Sequence[str]) -> list[Job]:
    """Read jobs by their ids, in order of acceptance."""
    with tx.cursor(row_factory=kwargs_row(_job)) as cursor:
        return cursor.execute(
            f"SELECT {_JOB_COLUMNS} FROM jobs WHERE id = ANY(%s) ORDER BY seq", (list(job_ids),)
        ).fetchall()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs are meant; a field that is None does not narrow."""

    workspace: str | None = None
    feed: str | None = None
    state: JobState | None = None
    origin: Origin | None = None
    since: datetime | None = None

    def where(self) -> tuple[LiteralString, dict[str, object]]:
        """Write the filter as a condition and its parameters."""
        conditions: list[LiteralString] = ["true"]
        if self.workspace is not None:
            conditions.append("workspace = %(workspace)s")
        if self.feed is not None:
            conditions.append("feed = %(feed)s")
        if self.state is not None:
            conditions.append("state = %(state)s")
        if self.origin is not None:
            conditions.append("origin = %(origin)s")
        if self.since is not None:
            conditions.append("accepted_at >= %(since)s")
        values: dict[str, object] = {
            "workspace": self.workspace,
            "feed": self.feed,
            "state": self.state and self.state.value,
            "origin": self.origin and self.origin.value,
            "since": self.since,
        }
        return " AND ".join(conditions), values


def list_jobs(tx: Transaction, which: JobFilter, *, before_seq: int | None, limit: int) -> list[Job]:
    """List jobs, the latest accepted first, those before a place in the sequence."""
    where, values = which.where()
    with tx.cursor(row_factory=kwargs_row(_job)) as cursor:
        return cursor.execute(
            f"SELECT {_JOB_COLUMNS} FROM jobs WHERE {where} AND (%(before)s::bigint IS NULL OR seq < %(before)s)"
            " ORDER BY seq DESC LIMIT %(limit)s",
            {**values, "before": before_seq, "limit": limit},
        ).fetchall()


def count_jobs(tx: Transaction, which: JobFilter) -> int:
    """Count jobs."""
    where, values = which.where()
    row = tx.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()
    assert row is not None
    return int(row[0])


def count_jobs_within(tx: Transaction, which: JobFilter, *, seconds_max: float) -> int | None:
    """Count jobs; None where there are too many to be counted in the time."""
    try:
        with within(tx, seconds_max=seconds_max):
            return count_jobs(tx, which)
    except psycopg.errors.QueryCanceled:
        return None


# The first attempt takes whatever waits. A load that did not come to its end is split (up to 32 together), and at the
# third attempt each is worked alone: whatever kills its worker then fails alone, and its neighbours do not.
_CLAIM: LiteralString = """
WITH locked AS (
    SELECT seq, bytes_in, attempts, workspace, target FROM jobs
    WHERE feed = %(feed)s AND state IN ('accepted', 'processing')
      AND (lease_until IS NULL OR lease_until < clock_timestamp())
      AND attempts < %(attempts_max)s
      AND (%(day)s::date IS NULL OR day = %(day)s)
    ORDER BY seq LIMIT %(submissions_max)s
    FOR UPDATE SKIP LOCKED
), first AS (
    SELECT workspace, target FROM locked ORDER BY seq LIMIT 1
), alike AS (
    SELECT locked.* FROM locked, first WHERE CASE WHEN first.target IS NULL THEN locked.target IS NULL
        ELSE locked.target = first.target AND locked.workspace = first.workspace END
), ranked AS (
    SELECT seq, attempts, row_number() OVER place AS n, sum(bytes_in) OVER place AS bytes,
           first_value(attempts) OVER place AS front
    FROM alike WINDOW place AS (ORDER BY seq)
), chosen AS (
    SELECT seq FROM ranked
    WHERE n = 1 OR (bytes <= %(bytes_max)s AND attempts = front
                    AND n <= CASE front WHEN 0 THEN %(submissions_max)s WHEN 1 THEN 32 ELSE 1 END)
)
UPDATE jobs SET state = 'processing', load_id = %(load_id)s, fence = %(fence)s, attempts = jobs.attempts + 1,
    lease_until = clock_timestamp() + make_interval(secs => %(lease_seconds)s),
    started_at = coalesce(started_at, clock_timestamp()),
    queue_ms = coalesce(queue_ms, (extract(epoch FROM clock_timestamp() - accepted_at) * 1000)::bigint),
    run_id = coalesce(%(run_id)s, run_id)
FROM chosen WHERE jobs.seq = chosen.seq
RETURNING jobs.id
"""

_SUBMISSION: LiteralString = """
SELECT jobs.id AS job_id, jobs.seq, workspace, feed, target, format, encoding, origin, body, packed, blob, bytes_in,
       sites, catalog_revision, accepted_at, attempts, request_id
FROM jobs JOIN submissions ON submissions.job_id = jobs.id AND submissions.day = jobs.day
"""


def _submission(
    *,
    format: str,  # noqa: A002 - the columns are named after the fields.
    encoding: str,
    body: bytes | None,
    packed: bool,
    sites: list[str] | None,
    **columns: Any,  # noqa: ANN401
) -> Submission:
    return Submission(
        format=Format(format),
        encoding=Encoding(encoding),
        body=unpack(body) if packed and body is not None else body,
        sites=None if sites is None else tuple(sites),
        **columns,
    )


def claim(
    tx: Transaction,
    *,
    feed: str,
    day: date | None = None,
    bytes_max: int,
    submissions_max: int,
    lease_seconds: float,
    run_id: str | None = None,
    attempts_max: int = ATTEMPTS_MAX,
) -> Load | None:
    """Claim what waits of a feed, in order of acceptance, as one load with a lease and a fence; None if nothing waits.

    A load is of one target, the one that has waited longest, or of submissions without any.
    Rows that another worker is claiming at this moment are passed over, so two workers never wait for each other.
    """
    row = tx.execute("SELECT nextval('fences'), (now() AT TIME ZONE 'UTC')::date").fetchone()
    assert row is not None
    fence, today = row
    load_id = new_id(LOAD_PREFIX)
    values = {
        "feed": feed,
        "day": day,
        "bytes_max": bytes_max,
        "submissions_max": submissions_max,
        "lease_seconds": lease_seconds,
        "attempts_max": attempts_max,
        "load_id": load_id,
        "fence": fence,
        "run_id": run_id,
    }
    ids = [job_id for (job_id,) in tx.execute(_CLAIM, values)]
    if not ids:
        return None
    return Load(id=load_id, feed=feed, fence=fence, day=day or today, submissions=submissions(tx, ids))


def known_ids(tx: Transaction, ids: Sequence[str]) -> set[str]:
    """Tell which of some ids are those of jobs."""
    return {job_id for (job_id,) in tx.execute("SELECT id FROM jobs WHERE id = ANY(%s)", (list(ids),))}


def claim_exhausted(
    tx: Transaction, *, feed: str, lease_seconds: float, attempts_max: int = ATTEMPTS_MAX
) -> Load | None:
    """Claim one submission whose attempts are used up and whose last worker is gone; it is to be ended, not tried."""
    fence = next_fence(tx)
    load_id = new_id(LOAD_PREFIX)
    row = tx.execute(
        """
        UPDATE jobs SET load_id = %s, fence = %s, lease_until = clock_timestamp() + make_interval(secs => %s)
        WHERE seq = (SELECT seq FROM jobs WHERE feed = %s AND state = 'processing' AND attempts >= %s
                     AND lease_until < clock_timestamp() ORDER BY seq LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id, day
        """,
        (load_id, fence, lease_seconds, feed, attempts_max),
    ).fetchone()
    if row is None:
        return None
    return Load(id=load_id, feed=feed, fence=fence, day=row[1], submissions=submissions(tx, [row[0]]))


def holds(tx: Transaction, load: Load) -> bool:
    """Tell whether every job of a load is still this load's."""
    row = tx.execute(
        "SELECT count(*) FROM jobs WHERE load_id = %s AND fence = %s AND state = 'processing'", (load.id, load.fence)
    ).fetchone()
    assert row is not None
    return int(row[0]) == len(load.submissions)


def submissions(tx: Transaction, job_ids: Sequence[str]) -> list[Submission]:
    """Read submissions with their bodies, in order of acceptance."""
    with tx.cursor(row_factory=kwargs_row(_submission), binary=True) as cursor:
        return cursor.execute(_SUBMISSION + " WHERE jobs.id = ANY(%s) ORDER BY seq", (list(job_ids),)).fetchall()


def pending_of_subject(
    tx: Transaction,
    *,
    workspace: str,
    feed: str,
    subject: int,
    bytes_max: int = PENDING_BYTES_MAX,
    submissions_max: int = PENDING_SUBMISSIONS_MAX,
) -> list[Submission]:
    """Read the submissions that say something of a subject and whose jobs have not ended, in order of acceptance.

    The first ones only where there are more than the limits; one is always read.
    """
    # Only what is open is looked at: an index of all subjects would cost every acceptance more than this read.
    rows = tx.execute(
        """
        SELECT id FROM (
            SELECT jobs.id, row_number() OVER place AS n, sum(bytes_in) OVER place AS bytes
            FROM jobs JOIN submissions ON submissions.job_id = jobs.id AND submissions.day = jobs.day
            WHERE jobs.feed = %s AND jobs.workspace = %s AND jobs.state IN ('accepted', 'processing')
              AND %s = ANY(submissions.subjects)
            WINDOW place AS (ORDER BY seq)) AS ranked
        WHERE n = 1 OR (bytes <= %s AND n <= %s)
        """,
        (feed, workspace, subject, bytes_max, submissions_max),
    ).fetchall()
    return submissions(tx, [job_id for (job_id,) in rows]) if rows else []


def submissions_of_day(
    tx: Transaction, *, feed: str, day: date, after_seq: int, bytes_max: int, limit: int
) -> list[Submission]:
    """Read the submissions of a day whose jobs have ended, in order of acceptance, behind a place in it."""
    rows = tx.execute(
        """
        SELECT id FROM (
            SELECT id, row_number() OVER place AS n, sum(bytes_in) OVER place AS bytes
            FROM (SELECT id, seq, bytes_in FROM jobs
                  WHERE feed = %(feed)s AND day = %(day)s AND seq > %(after)s
                    AND state IN ('finished', 'failed') ORDER BY seq LIMIT %(limit)s) AS page
            WINDOW place AS (ORDER BY seq)) AS ranked
        WHERE n = 1 OR bytes <= %(bytes_max)s
        """,
        {"feed": feed, "day": day, "after": after_seq, "bytes_max": bytes_max, "limit": limit},
    ).fetchall()
    return submissions(tx, [job_id for (job_id,) in rows])


def extend(tx: Transaction, load: Load, *, lease_seconds: float) -> bool:
    """Hold a load for longer; False if any of it is not ours any more."""
    held = tx.execute(
        "UPDATE jobs SET lease_until = clock_timestamp() + make_interval(secs => %s)"
        " WHERE load_id = %s AND fence = %s AND state = 'processing'",
        (lease_seconds, load.id, load.fence),
    ).rowcount
    return held == len(load.submissions)


def mark_validated(tx: Transaction, load: Load) -> bool:
    """Note that all records of a load have been judged, before they are stored; False if any of it is not ours.

    It is for whoever watches a job that takes long; the first mark stays, whoever works on the job afterwards.
    """
    held = tx.execute(
        "UPDATE jobs SET validated_at = coalesce(validated_at, clock_timestamp())"
        " WHERE load_id = %s AND fence = %s AND state = 'processing'",
        (load.id, load.fence),
    ).rowcount
    return held == len(load.submissions)


_COUNTS = ("received", "accepted", "rejected", "created", "updated", "unchanged", "stale", "superseded", "duplicate")

_SETTLE: LiteralString = """
UPDATE jobs SET state = given.state, verdict = given.verdict, received = coalesce(given.received, jobs.received),
    accepted = given.accepted, rejected = given.rejected, created = given.created, updated = given.updated,
    unchanged = given.unchanged, stale = given.stale, superseded = given.superseded, duplicate = given.duplicate,
    error_code = given.error_code, error_message = given.error_message,
    validated_at = %(validated_at)s, stored_at = %(stored_at)s, finished_at = clock_timestamp(), lease_until = NULL,
    cpu_ms = given.cpu_ms, bytes_written = given.bytes_written, run_id = coalesce(%(run_id)s, run_id)
FROM unnest(%(id)s::text[], %(state)s::text[], %(verdict)s::text[], %(received)s::bigint[], %(accepted)s::bigint[],
            %(rejected)s::bigint[], %(created)s::bigint[], %(updated)s::bigint[], %(unchanged)s::bigint[],
            %(stale)s::bigint[], %(superseded)s::bigint[], %(duplicate)s::bigint[], %(error_code)s::text[],
            %(error_message)s::text[], %(cpu_ms)s::bigint[], %(bytes_written)s::bigint[]) AS given (
    id, state, verdict, received, accepted, rejected, created, updated, unchanged, stale, superseded, duplicate,
    error_code, error_message, cpu_ms, bytes_written)
WHERE jobs.id = given.id AND jobs.fence = %(fence)s AND jobs.load_id = %(load_id)s AND jobs.state = 'processing'
"""


def settle(tx: Transaction, load: Load, settlements: Sequence[Settlement], costs: Costs) -> None:
    """End jobs of a load. Raises LeaseLost, changing nothing, unless every one of them is still this load's."""
    values: dict[str, object] = {
        "id": [each.job_id for each in settlements],
        "state": [JobState.FINISHED if each.tally else JobState.FAILED for each in settlements],
        "verdict": [each.tally.verdict if each.tally else "failed" for each in settlements],
        "error_code": [each.error_code for each in settlements],
        "error_message": [each.error_message for each in settlements],
        "validated_at": costs.validated_at,
        "stored_at": costs.stored_at,
        "run_id": costs.run_id,
        "fence": load.fence,
        "load_id": load.id,
        **_shared_out(load, settlements, costs),
    }
    for name in _COUNTS:
        values[name] = [getattr(each.tally, name) if each.tally else None for each in settlements]
    settled = tx.execute(_SETTLE, values).rowcount
    if settled != len(settlements):
        raise LeaseLost(f"{load.id}: {settled} of {len(settlements)} jobs were still ours")
    tx.execute("SELECT pg_notify(%s, id) FROM unnest(%s::text[]) AS id", (SETTLED, values["id"]))


def _shared_out(load: Load, settlements: Sequence[Settlement], costs: Costs) -> Mapping[str, Sequence[int | None]]:
    sizes = {submission.job_id: submission.bytes_in for submission in load.submissions}
    whole = sum(sizes.values()) or 1
    shares = [sizes[each.job_id] / whole for each in settlements]
    return {
        "cpu_ms": [round(costs.cpu_ms * share) for share in shares],
        "bytes_written": [
            None if costs.bytes_written is None else round(costs.bytes_written * share) for share in shares
        ],
    }


_RELEASE: LiteralString = """
UPDATE jobs SET lease_until = NULL, attempts = attempts - 1 WHERE load_id = %s AND fence = %s AND state = 'processing'
"""


def release(tx: Transaction, load: Load) -> None:
    """Give a load back untouched, as when a worker is asked to end: nobody is to blame, others may take it at once."""
    tx.execute(_RELEASE, (load.id, load.fence))


def defer(
    tx: Transaction, load: Load, *, seconds: float, seconds_max: float, faults_max: int, blamed: str | None = None
) -> None:
    """Put a load back after a fault of ours, for a while that grows with each fault up to a longest.

    It costs no attempt, but faults are not forgiven for ever. If it happened over one job, only that one waits, and the
    others may be taken at once.
    """
    if blamed is not None:
        tx.execute(f"{_RELEASE} AND id <> %s", (load.id, load.fence, blamed))
    tx.execute(
        """
        UPDATE jobs SET faults = faults + 1,
            lease_until = clock_timestamp() + make_interval(secs => least(%s * (faults + 1), %s)),
            attempts = CASE WHEN faults + 1 < %s THEN attempts - 1 ELSE %s END
        WHERE load_id = %s AND fence = %s AND state = 'processing' AND id = coalesce(%s, id)
        """,
        (seconds, seconds_max, faults_max, ATTEMPTS_MAX, load.id, load.fence, blamed),
    )


def waiting(tx: Transaction, feed: str) -> Waiting:
    """Tell how much of a feed waits for a worker (claimed loads do not, unless their lease ran out)."""
    with tx.cursor(row_factory=class_row(Waiting)) as cursor:
        found = cursor.execute(
            """
            SELECT count(*) AS submissions, extract(epoch FROM clock_timestamp() - min(accepted_at))::float8
                AS oldest_age_seconds, min(day) AS oldest_day
            FROM jobs WHERE feed = %s AND state IN ('accepted', 'processing')
              AND (lease_until IS NULL OR lease_until < clock_timestamp())
            """,
            (feed,),
        ).fetchone()
    assert found is not None
    return found


def first_open(tx: Transaction) -> int | None:
    """Tell the place, in the order of acceptance, of the first job that has not ended; None if all have."""
    row = tx.execute("SELECT min(seq) FROM jobs WHERE state IN ('accepted', 'processing')").fetchone()
    assert row is not None
    return row[0]


def next_fence(tx: Transaction) -> int:
    """Draw a fence for work that no job is claimed for, such as a backfill."""
    row = tx.execute("SELECT nextval('fences')").fetchone()
    assert row is not None
    return int(row[0])


def with_effect(tx: Transaction, job_ids: Sequence[str]) -> set[str]:
    """Pick the jobs that put something into the warehouse: finished ones that are no duplicate of another."""
    rows = tx.execute(
        "SELECT id FROM jobs WHERE id = ANY(%s) AND state = 'finished' AND duplicate_of IS NULL", (list(job_ids),)
    )
    return {job_id for (job_id,) in rows}
