"""What tests of several folders need made: stores, workspaces, submissions, claims. Fixtures: `conftest.py`."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ingest_platform.domain.ids import new_id
from ingest_platform.domain.submission import Format, Load
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.pipeline.platform import MIB, Platform
from ingest_platform.pipeline.references import KnownCache
from ingest_platform.pipeline.sandbox import Sandbox
from ingest_platform.pipeline.shapes import ShapeCache
from ingest_platform.storage import jobs, workspaces
from ingest_platform.storage.blobs import LocalBlobs
from ingest_platform.storage.jobs import Accepted, NewJob
from ingest_platform.storage.ledger import Ledger, Transaction
from ingest_platform.storage.warehouse import Warehouse

T = TypeVar("T")


def open_stores(database_url: str, data_dir: Path, *, outbound: OutboundRules | None = None) -> Platform:
    """Open all the stores of a process with small limits, the lake and the blobs in a folder."""
    ledger = Ledger(database_url, application="test")
    return Platform(
        data_dir=data_dir,
        ledger=ledger,
        warehouse=Warehouse(database_url, lake_path=str(data_dir / "lake"), memory_bytes_max=256 * MIB),
        blobs=LocalBlobs(data_dir / "blobs"),
        sandbox=Sandbox(),
        known=KnownCache(ledger),
        shapes=ShapeCache(ledger),
        outbound=outbound or OutboundRules(),
    )


def make_workspace(ledger: Ledger, name: str = "acme") -> str:
    """Create a workspace."""
    with ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name=name))
    return name


def body_of(records: Iterable[object], *, envelope_key: str = "items") -> bytes:
    """Write records as a client sends them: under a key, or, where there is none, as a bare array."""
    return json.dumps({envelope_key: list(records)} if envelope_key else list(records)).encode()


def new_job(body: bytes = b'{"items": []}', *, workspace: str = "acme", feed: str = "machine_data") -> NewJob:
    """Make a submission of one JSON body; others are made of it with `dataclasses.replace`."""
    return NewJob(id=new_id("job_"), workspace=workspace, feed=feed, format=Format.JSON, bytes_in=len(body), body=body)


def accept(ledger: Ledger, *new: NewJob) -> list[Accepted]:
    """Accept submissions in a transaction of their own."""
    with ledger.transaction() as tx:
        return jobs.accept(tx, new)


def claim(
    ledger: Ledger, *, feed: str = "machine_data", submissions_max: int = 1_000, bytes_max: int = 1 << 30
) -> Load | None:
    """Claim what waits of a feed."""
    with ledger.transaction() as tx:
        return jobs.claim(
            tx, feed=feed, bytes_max=bytes_max, submissions_max=submissions_max, lease_seconds=60.0, run_id=None
        )


def claimed(load: Load | None) -> list[str]:
    """List the jobs of a load that is known to be one."""
    assert load is not None
    return [submission.job_id for submission in load.submissions]


def run_out(ledger: Ledger, load: Load | None) -> None:
    """Let the lease of a load run out, as if its worker had been gone for long."""
    assert load is not None
    with ledger.connection() as connection:
        connection.execute(
            "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second' WHERE load_id = %s", (load.id,)
        )


def row_of(tx: Transaction, job_id: str) -> Mapping[str, object]:
    """Read a job's whole row, whatever columns it has."""
    row = tx.execute("SELECT to_jsonb(jobs) FROM jobs WHERE id = %s", (job_id,)).fetchone()
    assert row is not None
    return row[0]


def at_once(work: Callable[[int], T], *, times: int) -> list[T]:
    """Do something in several threads at once, each told its number; their results in that order."""
    with ThreadPoolExecutor(max_workers=times) as pool:
        return list(pool.map(work, range(times)))
