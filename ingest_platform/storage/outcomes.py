"""The fate of every record of every job: one byte a record, and the rejected ones whole, with all their reasons."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import zstandard

from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.storage.ledger import Ledger, Transaction

# A block is what a status page shows at most, and small enough to be read whole for one page of a list.
BLOCK_REJECTIONS_MAX = 1_000
# A block ends earlier when its raw records are large, so that reading one never takes much memory.
BLOCK_BYTES_MAX = 4 * 1024 * 1024


class _Stored(msgspec.Struct, array_like=True):
    record_index: int
    problems: list[tuple[str, str | None, str]]
    raw: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Stored])


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcomes:
    """The outcomes of a job: `codes` has one byte a record in input order, `rejections` are ordered by index."""

    job_id: str
    codes: bytes
    rejections: Sequence[Rejection] = ()


def put(tx: Transaction, outcomes: Sequence[JobOutcomes]) -> None:
    """Keep the outcomes of jobs, all in one statement: a load may have thousands of small ones."""
    tx.execute(
        "INSERT INTO outcomes (job_id, records, codes) SELECT * FROM unnest(%s::text[], %s::bigint[], %b::bytea[])",
        (
            [each.job_id for each in outcomes],
            [len(each.codes) for each in outcomes],
            [zstandard.compress(each.codes, 3) for each in outcomes],
        ),
    )
    blocks = [
        (each.job_id, place, block[0].record_index, block[-1].record_index, len(block), _pack(block))
        for each in outcomes
        for place, block in enumerate(_blocks(each.rejections))
    ]
    if blocks:
        with tx.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO rejections (job_id, block, first_index, last_index, count, data)"
                " VALUES (%s, %s, %s, %s, %s, %b)",
                blocks,
            )


def _blocks(rejections: Sequence[Rejection]) -> Iterator[list[Rejection]]:
    block: list[Rejection] = []
    size = 0
    for rejection in rejections:
        if block and (len(block) == BLOCK_REJECTIONS_MAX or size + len(rejection.raw) > BLOCK_BYTES_MAX):
            yield block
            block, size = [], 0
        block.append(rejection)
        size += len(rejection.raw)
    if block:
        yield block


def _pack(block: Sequence[Rejection]) -> bytes:
    stored = [
        _Stored(
            record_index=each.record_index,
            # A client's text may hold lone surrogates, which no encoding writes; the raw bytes are kept beside it.
            problems=[
                (problem.code, problem.field and _sound(problem.field), _sound(problem.message))
                for problem in each.problems
            ],
            raw=each.raw,
        )
        for each in block
    ]
    return zstandard.compress(_encoder.encode(stored), 3)


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _unpack(data: bytes) -> list[Rejection]:
    return [
        Rejection(
            submission=0,
            record_index=each.record_index,
            problems=tuple(Problem(code=code, field=field, message=message) for code, field, message in each.problems),
            raw=each.raw,
        )
        for each in _decoder.decode(zstandard.decompress(data))
    ]


def codes(tx: Transaction, job_id: str) -> bytes | None:
    """Read the outcomes of a job, one byte a record in input order; None before it is finished."""
    row = tx.execute("SELECT codes FROM outcomes WHERE job_id = %s", (job_id,)).fetchone()
    return None if row is None else zstandard.decompress(row[0])


def rejections(tx: Transaction, job_id: str, *, first_index: int = 0, limit: int) -> list[Rejection]:
    """Read rejections of a job from a record index on, in order of the index (their `submission` is 0)."""
    found: list[Rejection] = []
    blocks = tx.execute(
        "SELECT block FROM rejections WHERE job_id = %s AND last_index >= %s ORDER BY block", (job_id, first_index)
    ).fetchall()
    for (block,) in blocks:
        row = tx.execute("SELECT data FROM rejections WHERE job_id = %s AND block = %s", (job_id, block)).fetchone()
        assert row is not None
        found.extend(each for each in _unpack(row[0]) if each.record_index >= first_index)
        if len(found) >= limit:
            break
    return found[:limit]


def iter_rejections(ledger: Ledger, job_id: str) -> Iterator[Rejection]:
    """Read all rejections of a job block by block, so that memory does not grow with their number."""
    next_index = 0
    while True:
        with ledger.connection() as connection:
            page = rejections(connection, job_id, first_index=next_index, limit=BLOCK_REJECTIONS_MAX)
        if not page:
            return
        yield from page
        next_index = page[-1].record_index + 1
