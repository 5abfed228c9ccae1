"""What clients did and saw in one trial, as plain values: what was sent, what was answered, what is there afterwards.

Nothing is sent here, and nothing judged (`checking.py`).
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, unique
from typing import Protocol, TypeAlias

Shown: TypeAlias = Mapping[str, object]
EPOCH = datetime(2026, 5, 6, 10, tzinfo=UTC)
# Few instants on few data points, so that nearly every job overwrites what another one said.
SLOTS = 8
OVERLAPPING = ("mdp_" + "a" * 26, "mdp_" + "b" * 26)
# Jobs whose records share a mark, the job's own id: nobody else writes their instants.
MARKED = "mdp_" + "m" * 26
UNKNOWN = "mdp_" + "z" * 26
FACTOR = 2.0


@unique
class Form(Enum):
    """How records are sent."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    # Bytes that are no Parquet: the job must fail, and its one answer stand like any other.
    GARBAGE = "application/vnd.apache.parquet"
    FILE = "file"


@unique
class Family(Enum):
    """What records are about: where they are sent, where their job is asked for, the folder for files of them."""

    READINGS = ("/v1/machine-data/import-jobs", "/v1/machine-data/import-jobs", "machine-data")
    ISSUES = ("/v1/ingest/batch", "/v1/ingest/status", "issues")
    # Of the project's default dataset.
    DATASETS = ("/datasets/batch?on_error=continue", "/v1/jobs", "datasets")
    STREAMS = ("/v1/streams/ingest", "/v1/jobs", "streams", 200)

    def __init__(self, path: str, jobs_path: str, folder: str, accepted: int = 202) -> None:
        self.path = path
        self.jobs_path = jobs_path
        self.folder = folder
        # The status of an acknowledgement.
        self.accepted = accepted


class Record(Protocol):
    """A record as it is sent; `code` says why it must be rejected, None that it must not."""

    @property
    def code(self) -> str | None:
        """Why it must be rejected."""
        ...

    def record(self) -> dict[str, object]:
        """Write it as a client does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A reading as it is sent."""

    config: str
    slot: int
    value: object
    code: str | None = None
    timestamp: str = ""

    @property
    def instant(self) -> str:
        """The instant as the platform writes it."""
        return (EPOCH + timedelta(seconds=self.slot)).strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def record(self) -> dict[str, object]:
        """Write it as a client does."""
        return {
            "timestamp": self.timestamp or self.instant,
            "machine_data_point_config_id": self.config,
            "value": self.value,
        }


@dataclass(slots=True, kw_only=True)
class Sending:
    """A submission: what is in it, when it was first sent, and the answer that was believed."""

    number: int
    form: Form
    items: tuple[Record, ...]
    content: bytes
    name: str = ""
    family: Family = Family.READINGS
    # The dataset or stream that a file or a request is for.
    target: str = ""
    marked: bool = False
    # Its bytes were taken from the platform while they waited: nothing can be stored of it, and its job must say so.
    lost: bool = False
    # How often a retry was told that the first request under its key has not been answered yet.
    in_flight: int = 0
    first_sent: float | None = None
    acked_at: float | None = None
    answer: bytes | None = None
    # Where its job is asked for, for a family whose answers do not name it.
    location: str = ""

    @property
    def job_id(self) -> str | None:
        """The job that answers for it, as the client was told."""
        if self.answer is None:
            return None
        if self.location:
            return self.location.rpartition("/")[2]
        return json.loads(self.answer)["ingest_id" if self.family is Family.STREAMS else "job_id"]

    @property
    def good(self) -> list[Record]:
        """The records that must be accepted."""
        return [item for item in self.items if item.code is None]

    @property
    def bad(self) -> dict[int, str]:
        """The records that must be rejected: code by index."""
        return {index: item.code for index, item in enumerate(self.items) if item.code is not None}


@dataclass(slots=True, kw_only=True)
class Afterwards:
    """What the outside shows once everything has come to rest. Lists of jobs are in order of acceptance."""

    jobs: Sequence[Shown] = ()
    # Two looks at each import job's answer, one after the other.
    looks: Sequence[Mapping[str, Shown]] = ()
    points: Sequence[Shown] = ()
    repeated_keys: int = 0
    issues: Sequence[Shown] = ()
    patterns: Sequence[Shown] = ()
    # In the lake itself: issues with more than one row; records that are kept, and their different places.
    repeated_issues: int = 0
    kept_records: tuple[int, int] = (0, 0)
    # Of a dataset: where each row's record was sent, and what it says; and what is counted of the quota.
    rows: Sequence[tuple[str, int, float, str]] = ()
    quota_used: int = 0
    # Of a stream (`streams.py`).
    delivered: object = None
    # Answers to the same bytes under the same key, sent again: (number, status, body).
    replays: Sequence[tuple[int, int, bytes]] = ()
    # Files that were dropped and lie neither in the archive nor in quarantine, or in more than one place there.
    not_archived_once: Sequence[str] = ()


@dataclass(slots=True)
class Journal:
    """One trial: its submissions, and what pollers saw while it went on."""

    sendings: list[Sending] = field(default_factory=list[Sending])
    # The first terminal answer that a poller got of each job.
    first_ends: dict[str, Shown] = field(default_factory=dict[str, Shown])
    # How many of a job's marked records a reader saw at once.
    sights: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    # Issues that a client was told of and that nobody could read then.
    unread: set[str] = field(default_factory=set[str])
    # Answers that no client should ever get.
    wrong_answers: list[str] = field(default_factory=list[str])


class Writer:
    """Makes submissions of one trial from its seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._count = 0

    def overlapping(self, form: Form = Form.JSON, *, size: int = 8) -> Sending:
        """Make records on instants that others write, too, some of them bad."""
        number = self._next()
        items = [
            Item(config=self._random.choice(OVERLAPPING), slot=self._random.randrange(SLOTS), value=number * 10_000 + n)
            for n in range(size)
        ]
        for index in self._random.sample(range(size), k=self._random.choice((0, 0, 1, 2))):
            items[index] = self._spoilt(items[index])
        return _sending(number, form, items)

    def marked(self, form: Form = Form.JSON, *, size: int = 200) -> Sending:
        """Make records on instants of their own."""
        number = self._next()
        items = [Item(config=MARKED, slot=number * 10_000 + n, value=number * 10_000 + n) for n in range(size)]
        items.append(self._spoilt(items[0]))
        return _sending(number, form, items, marked=True)

    def garbage(self) -> Sending:
        """Make bytes that can't be read."""
        return _sending(self._next(), Form.GARBAGE, [])

    def copy_of(self, first: Sending) -> Sending:
        """Make a file of the same content under another name."""
        number = self._next()
        return Sending(
            number=number, form=Form.FILE, items=first.items, content=first.content, name=f"copy-{number}.ndjson"
        )

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _spoilt(self, item: Item) -> Item:
        bad = {
            "invalid_type": Item(config=item.config, slot=item.slot, value="12.5", code="invalid_type"),
            "not_found": Item(config=UNKNOWN, slot=item.slot, value=item.value, code="not_found"),
            "invalid_timestamp": Item(
                config=item.config, slot=item.slot, value=item.value, code="invalid_timestamp", timestamp="yesterday"
            ),
        }
        return bad[self._random.choice(sorted(bad))]


def _sending(number: int, form: Form, items: Sequence[Item], *, marked: bool = False) -> Sending:
    records = [item.record() for item in items]
    if form is Form.JSON:
        content = json.dumps({"items": records}).encode()
    elif form is Form.GARBAGE:
        content = b"PAR1 but not really %d" % number
    else:
        content = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    name = f"drop-{number}.ndjson" if form is Form.FILE else ""
    return Sending(number=number, form=form, items=tuple(items), content=content, name=name, marked=marked)
