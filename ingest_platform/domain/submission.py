"""One accepted body or one landed file, immutable; and the load, which is submissions worked together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum, unique


@unique
class Format(StrEnum):
    """How the records of a submission are written."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


@unique
class Encoding(StrEnum):
    """How the bytes lie in the landing zone. HTTP bodies are landed decoded, files as they were dropped."""

    IDENTITY = "identity"
    GZIP = "gzip"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a worker needs to know of one submission. Exactly one of `body` (in the row) and `blob` (a key) is set."""

    job_id: str
    seq: int
    workspace: str
    feed: str
    target: str | None
    format: Format
    encoding: Encoding
    origin: str
    body: bytes | None
    blob: str | None
    bytes_in: int
    # The sites that the key may write to; None means all.
    sites: tuple[str, ...] | None
    # The revision of the catalog at acceptance: what a record refers to is looked up as it was then.
    catalog_revision: int
    accepted_at: datetime
    attempts: int
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Submissions of one feed (in order of acceptance) claimed together, worked in one warehouse transaction.

    All have the same target, and then the same workspace, or none.
    `fence` grows with every claim of the platform: whoever holds a smaller one has lost.
    """

    id: str
    feed: str
    fence: int
    day: date
    submissions: Sequence[Submission]

    @property
    def target(self) -> str | None:
        """The target of all submissions."""
        return self.submissions[0].target

    @property
    def workspace(self) -> str:
        """The workspace of a target; of submissions without one, any of theirs."""
        return self.submissions[0].workspace
