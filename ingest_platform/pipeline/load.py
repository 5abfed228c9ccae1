"""Load: accepted records into the warehouse, in one transaction that also remembers which jobs it has taken in.

Loading a job twice gives the same rows and the same outcomes. What the records of a key make of its row
is decided in `dedupe.py`, `fold.py` and `append.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ingest_platform.domain.crashpoint import reach
from ingest_platform.domain.errors import WarehouseFault
from ingest_platform.domain.feed import AppendTable, Feed, FoldedTable, Table
from ingest_platform.pipeline.append import append, is_spread
from ingest_platform.pipeline.dedupe import merge
from ingest_platform.pipeline.fold import Deriving, fold
from ingest_platform.pipeline.given import Given, Withdrawn
from ingest_platform.pipeline.staging import FRAME, JOBS, UNSTAGE, Fates, StagingStatements, staging_statements
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.warehouse import LakeSession, LakeTransaction, Rows, Warehouse

# Frames are staged together up to about this many rows: a thousand frames of one row must not be a thousand statements.
STAGED_TOGETHER_ROWS = 100_000
# DuckDB's own row group size; larger batches use more memory and are no quicker.
PARQUET_BATCH_ROWS = 122_880


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedJob:
    """A job of the load, by the ordinal under which its records are staged."""

    submission: int
    job_id: str
    workspace: str
    accepted_seq: int
    accepted_at: datetime
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedJob:
    """What became of a job's accepted records: their indexes, ascending, and the outcome of each."""

    job_id: str
    record_index: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]


def deriving(feed: Feed, ledger: Ledger) -> Deriving | None:
    """Give a feed's `derive` the ledger that it works with."""
    return None if feed.derive is None else partial(feed.derive, ledger=ledger)


def load_records(
    warehouse: Warehouse,
    *,
    table: Table,
    load_id: str,
    fence: int,
    staged: Sequence[StagedJob],
    frames: Iterable[Given],
    derive: Deriving | None = None,
    again: bool = False,
    still_ours: Callable[[], bool] | None = None,
) -> dict[str, LoadedJob]:
    """Merge accepted records into a table; what became of them by job id.

    `frames` are typed frames, or Parquet and Arrow files of them: `submission`, `record_index` and the table's columns.
    They are staged as they come, before the table's turn is taken; what is withdrawn is unstaged.
    `derive` works out the derived columns of a folded table's rows. `again` is for jobs that were settled long ago:
    they are neither looked up nor remembered. `still_ours` asks the ledger whether the load is ours, once nobody can
    take it away unnoticed. Raises LeaseLost or WarehouseFault, and has changed nothing then.
    """
    warehouse.ensure([table])
    statements = staging_statements(table)
    with closing(warehouse.session()) as session:
        _stage(session, statements, staged, frames)
        reach("load.staged")
        with (
            _parting(warehouse, session, table),
            warehouse.writing(table.name, fence=fence, session=session, still_ours=still_ours) as lake,
        ):
            known = {} if again else _applied(lake, statements, staged)
            fresh = [job for job in staged if job.job_id not in known]
            if known:
                lake.execute(UNSTAGE, [[job.submission for job in staged if job.job_id in known]])
            loaded = _split(fresh, _merged(lake, table, derive, again=again)) if fresh else {}
            if not again and fresh:
                _remember(lake, statements, load_id=load_id, jobs=fresh, loaded=loaded)
            reach("load.merged")
    return known | loaded


def recall(warehouse: Warehouse, *, table: Table, fence: int, staged: Sequence[StagedJob]) -> dict[str, LoadedJob]:
    """Tell which jobs were loaded, and what became of their records.

    A worker that was stopped while it loaded them can't commit after this, so the answer is final for jobs that are not
    claimed again. To be asked before a job is given up: its rows may be stored although its worker never settled it.
    """
    warehouse.ensure([table])
    with closing(warehouse.session()) as session:
        _name_jobs(session, staged)
        with warehouse.writing(table.name, fence=fence, session=session) as lake:
            return _applied(lake, staging_statements(table), staged)


def _stage(
    session: LakeSession,
    statements: StagingStatements,
    staged: Sequence[StagedJob],
    frames: Iterable[Given],
) -> None:
    """Fill the staging table, whose types and checks are DuckDB's part of the enforcement."""
    _name_jobs(session, staged)
    session.execute(statements.create_staged)
    for rows in _gathered(frames):
        if isinstance(rows, Withdrawn):
            session.execute(UNSTAGE, [[rows.submission]])
            continue
        with session.seeing(FRAME, rows):
            session.execute(statements.fill_staged)


def _name_jobs(session: LakeSession, staged: Sequence[StagedJob]) -> None:
    jobs = pa.table(
        {
            "submission": pa.array([job.submission for job in staged], pa.uint32()),
            "job_id": pa.array([job.job_id for job in staged], pa.string()),
            "workspace": pa.array([job.workspace for job in staged], pa.string()),
            "accepted_seq": pa.array([job.accepted_seq for job in staged], pa.int64()),
            "accepted_at": pa.array([job.accepted_at for job in staged], pa.timestamp("us", tz="UTC")),
            "request_id": pa.array([job.request_id for job in staged], pa.string()),
        }
    )
    with session.seeing(FRAME, jobs):
        session.execute(f"CREATE TEMP TABLE {JOBS} AS FROM {FRAME}")


def _gathered(frames: Iterable[Given]) -> Iterator[Rows | Withdrawn]:
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        if isinstance(frame, Path):
            yield _file_rows(frame)
            continue
        if isinstance(frame, Withdrawn):
            if waiting:
                yield _arrow(waiting)
                waiting = []
            yield frame
            continue
        if frame.height == 0:
            continue
        waiting.append(frame)
        if sum(each.height for each in waiting) >= STAGED_TOGETHER_ROWS:
            yield _arrow(waiting)
            waiting = []
    if waiting:
        yield _arrow(waiting)


def _arrow(frames: Sequence[pl.DataFrame]) -> pa.Table:
    # One batch, because each costs half a millisecond; in the layout of strings that Polars has, so without a copy.
    return pl.concat(frames, rechunk=True).to_arrow(compat_level=pl.CompatLevel.newest())


def _file_rows(path: Path) -> Rows:
    """Open a staged file so that only a batch of it is in memory at a time."""
    try:
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(PARQUET_BATCH_ROWS))
        mapped = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [mapped.get_batch(number) for number in range(mapped.num_record_batches)]
        for batch in batches:
            # Whoever wrote it had a client's bytes in hand, and offsets that point elsewhere would be followed here.
            batch.validate(full=True)
        return pa.RecordBatchReader.from_batches(mapped.schema, batches)
    except (pa.ArrowException, OSError) as error:
        raise WarehouseFault(f"the staged file {path.name} can't be read") from error


def _applied(lake: LakeTransaction, statements: StagingStatements, staged: Sequence[StagedJob]) -> dict[str, LoadedJob]:
    """Look up which of the jobs were loaded before, with their outcomes."""
    if not staged:
        return {}
    places = [job.accepted_seq for job in staged]
    found = lake.fetch(statements.find_applied, [min(places), max(places)])
    rows = zip(*(found.column(name).to_pylist() for name in ("job_id", "records", "codes")), strict=True)
    return {job_id: _unpack(job_id, records, codes) for job_id, records, codes in rows}


def _parting(warehouse: Warehouse, session: LakeSession, table: Table) -> AbstractContextManager[None]:
    """Write no file for each day if there are too many."""
    if isinstance(table, AppendTable) and is_spread(session, table):
        return warehouse.unparted(table)
    return nullcontext()


def _merged(lake: LakeTransaction, table: Table, derive: Deriving | None, *, again: bool) -> Fates:
    if isinstance(table, AppendTable):
        return append(lake, table, again=again)
    if isinstance(table, FoldedTable):
        return fold(lake, table, derive)
    return merge(lake, table)


def _split(jobs: Sequence[StagedJob], fates: Fates) -> dict[str, LoadedJob]:
    """Part the outcomes by job, each in order of the record index."""
    order = np.lexsort((fates.record_index, fates.submission))
    submission, record_index, outcome = fates.submission[order], fates.record_index[order], fates.outcome[order]
    ordinals = np.array([job.submission for job in jobs], dtype=np.uint32)
    begins = np.searchsorted(submission, ordinals, side="left").tolist()
    ends = np.searchsorted(submission, ordinals, side="right").tolist()
    return {
        job.job_id: LoadedJob(job_id=job.job_id, record_index=record_index[begin:end], outcome=outcome[begin:end])
        for job, begin, end in zip(jobs, begins, ends, strict=True)
    }


def _remember(
    lake: LakeTransaction,
    statements: StagingStatements,
    *,
    load_id: str,
    jobs: Sequence[StagedJob],
    loaded: dict[str, LoadedJob],
) -> None:
    compressor = zstandard.ZstdCompressor(level=1)
    rows = pa.table(
        {
            "job_id": pa.array([job.job_id for job in jobs], pa.string()),
            "accepted_seq": pa.array([job.accepted_seq for job in jobs], pa.int64()),
            "records": pa.array([len(loaded[job.job_id].outcome) for job in jobs], pa.int64()),
            "codes": pa.array([_pack(compressor, loaded[job.job_id]) for job in jobs], pa.binary()),
        }
    )
    with lake.seeing(FRAME, rows):
        lake.execute(statements.remember, [load_id])


def _pack(compressor: zstandard.ZstdCompressor, job: LoadedJob) -> bytes:
    # Distances between indexes are nearly all 1, so that they compress to nothing.
    steps = np.diff(job.record_index, prepend=0).astype("<i8")
    return compressor.compress(steps.tobytes() + job.outcome.tobytes())


def _unpack(job_id: str, records: int, codes: bytes) -> LoadedJob:
    content = zstandard.ZstdDecompressor().decompress(codes)
    steps = np.frombuffer(content, dtype="<i8", count=records)
    outcome = np.frombuffer(content, dtype=np.uint8, offset=steps.nbytes)
    return LoadedJob(job_id=job_id, record_index=np.cumsum(steps), outcome=outcome)
