"""What the verbs of the path work with, handed to them as one value. Who opens it is not known here (`opening.py`)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.pipeline.references import KnownCache
from ingest_platform.pipeline.sandbox import Sandbox
from ingest_platform.pipeline.shapes import ShapeCache
from ingest_platform.storage.blobs import Blobs
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.warehouse import Warehouse

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one load and one run."""

    # A load is in memory as frames, about sixteen times its size as bytes, and as much as eighty times if every second
    # byte of it is a record to reject: 16 MiB (150,000 readings) stay below 1.3 GiB whatever a client sends.
    load_bytes_max: int = 16 * MIB
    # Enough for twenty seconds of 100 submissions a second; a load of so many takes under a second.
    load_submissions_max: int = 2_000
    # Recovery after kill -9 takes at most the lease (promise 8: 30 s).
    lease_seconds: float = 15.0
    # A fault of ours is retried with growing pauses, in all for about an hour, before the job is given up.
    faults_max: int = 60
    # A submission whose worker died so often is poison, and is failed (promise 11).
    attempts_max: int = 3
    # A dropped file that would leave less of the disk waits where it lies.
    disk_free_bytes_min: int = 512 * MIB
    # One dropped file; larger ones are refused with the limit named.
    file_bytes_max: int = 4 * 1024 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The opened stores and limits of one process."""

    data_dir: Path
    ledger: Ledger
    warehouse: Warehouse
    blobs: Blobs
    sandbox: Sandbox
    known: KnownCache
    shapes: ShapeCache
    limits: Limits = field(default_factory=Limits)
    outbound: OutboundRules = field(default_factory=OutboundRules)
    on_close: tuple[Callable[[], None], ...] = ()

    @property
    def staging_dir(self) -> Path:
        """Where frames wait between parser and warehouse, one folder a load."""
        return self.data_dir / "run" / "staging"

    @property
    def spill_dir(self) -> Path:
        """Where DuckDB puts what does not fit into memory, one folder a process."""
        return self.data_dir / "run" / "spill"

    def close(self) -> None:
        """Close everything, the last opened first."""
        self.sandbox.close()
        self.warehouse.close()
        self.ledger.close()
        for close in self.on_close:
            close()
