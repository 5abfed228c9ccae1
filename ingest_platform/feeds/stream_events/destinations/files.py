"""Files below the data folder's `exports/`, or below the platform's bucket where it has one.

A file is visible whole or not at all (`storage/blobs.py`), and a repetition replaces it by the same bytes.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from ingest_platform.domain.errors import Fault, Unavailable
from ingest_platform.feeds.stream_events.destinations import objects, s3
from ingest_platform.feeds.stream_events.destinations.connecting import Deadline
from ingest_platform.feeds.stream_events.destinations.destination import (
    MIB,
    Batch,
    BatchRule,
    Body,
    DeclaredField,
    DestinationFault,
    DestinationType,
    Sent,
    Site,
    Transient,
    batch_fields,
    batch_rule,
)
from ingest_platform.storage.blobs import Blobs, LocalBlobs

TOP = "exports"
RULE = BatchRule(events_max=100_000, bytes_max=64 * MIB, linger_seconds=5.0, at_once=2)
PATH_CHARACTERS_MAX = 300
# What is not written by then is left to the next attempt: hostile sources may be a partition each.
_WRITING_SECONDS_MAX = 20.0
_FOLDER = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.-]*")


def _check(body: Body) -> list[DestinationFault]:
    path = str(body.get("path", TOP))
    parts = path.rstrip("/").split("/")
    if parts[0] != TOP or len(path) > PATH_CHARACTERS_MAX or not all(_FOLDER.fullmatch(part) for part in parts):
        allowed = f"must be {TOP}/ or a folder below, of letters, digits, “_”, “-” and “.”, not beginning with “.”"
        return [DestinationFault(path="path", message=f"{allowed}, of at most {PATH_CHARACTERS_MAX} characters")]
    return []


@dataclass(slots=True)
class Files:
    """Files of one destination."""

    type: ClassVar[str] = "files"
    batch: BatchRule
    store: Blobs
    # Where the folders of the workspaces are in the store, and the declared folder in each; end with "/" or are empty.
    top: str
    below: str
    form: str
    partition: tuple[str, ...]
    swept: bool = False

    def send(self, batch: Batch) -> Sent:
        """Write a file for each partition; those there was no time for are told to be sent again."""
        deadline = Deadline(_WRITING_SECONDS_MAX)
        self._sweep()
        delivered, retry = list[str](), dict[str, str]()
        for file in objects.divide(batch, form=self.form, partition=self.partition):
            ids = [item.event_id for item in file.items]
            # One at least in every attempt, so that there is an end.
            if delivered and deadline.left <= 0:
                retry |= dict.fromkeys(ids, "not written yet: there are many partitions")
                continue
            content = objects.encode(file.items, batch, form=self.form)
            self._write(f"{self.top}{batch.workspace}/{self.below}{file.path}", content)
            delivered += ids
        return Sent(delivered=delivered, retry=retry, retry_after_seconds=0.0 if retry else None)

    def _sweep(self) -> None:
        """Delete, once, the temporary files of processes that died."""
        if not self.swept and isinstance(self.store, LocalBlobs):
            self.store.sweep()
        self.swept = True

    def _write(self, key: str, content: bytes) -> None:
        try:
            with self.store.writer(key) as writer:
                writer.write(content)
                writer.commit()
        except Unavailable:
            raise Transient("there is no room for more data at the moment") from None
        except (Fault, OSError) as fault:
            raise Transient(f"not written: {_reason(fault)}") from fault

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _reason(fault: Exception) -> str:
    """Say what was wrong, without where the platform keeps its files: reasons are shown to clients."""
    cause = fault if isinstance(fault, OSError) else fault.__cause__
    words = cause.strerror if isinstance(cause, OSError) else None
    return words if words and "AWS Error" not in words else s3.reason_of(str(fault))


def _open(body: Body, site: Site) -> Files:
    below = str(body.get("path", TOP)).rstrip("/").removeprefix(TOP).lstrip("/")
    local = isinstance(site.blobs, LocalBlobs)
    return Files(
        batch=batch_rule(body, RULE),
        store=LocalBlobs(site.data_dir / TOP) if local else site.blobs,
        top="" if local else f"{TOP}/",
        below=f"{below}/" if below else "",
        form=objects.read_format(body),
        partition=objects.read_partition(body),
    )


KIND = DestinationType(
    type=Files.type,
    fields=(
        DeclaredField(
            name="path",
            meaning="Folder, `exports/` or below; the files lie in the workspace's folder of `exports/`.",
            default=f"{TOP}/",
        ),
        objects.FORMAT_FIELD,
        objects.PARTITION_FIELD,
        *batch_fields(RULE),
    ),
    check=_check,
    opened=_open,
)
