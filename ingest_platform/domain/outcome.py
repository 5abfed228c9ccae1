"""The one fate of a record, and the sums of fates."""

from dataclasses import dataclass
from enum import IntEnum, unique


@unique
class Outcome(IntEnum):
    """What became of a record. The numbers are stored (one byte a record), so they never change."""

    REJECTED = 0
    CREATED = 1
    UPDATED = 2
    UNCHANGED = 3
    # Something newer was there before: nothing was overwritten.
    STALE = 4
    # A later record of the same load (or an already stored later one) has the same key.
    SUPERSEDED = 5
    DUPLICATE = 6

    @property
    def word(self) -> str:
        """The outcome as clients read it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many records of a job had which outcome. The sum is checked where the tally is made.

    >>> Tally.of(received=3, created=2, rejected=1).verdict
    'partial'
    """

    received: int
    rejected: int
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0
    superseded: int = 0
    duplicate: int = 0

    def __post_init__(self) -> None:
        assert self.received == self.accepted + self.rejected, self

    @classmethod
    def of(cls, **counts: int) -> "Tally":
        """Make a tally from named counts; the ones not named are 0."""
        return cls(received=counts.pop("received"), rejected=counts.pop("rejected", 0), **counts)

    @property
    def accepted(self) -> int:
        """Records that were not rejected."""
        return self.created + self.updated + self.unchanged + self.stale + self.superseded + self.duplicate

    @property
    def verdict(self) -> str:
        """`succeeded` (nothing rejected), `partial`, or `failed` (nothing accepted)."""
        if self.rejected == 0:
            return "succeeded"
        return "partial" if self.accepted else "failed"
