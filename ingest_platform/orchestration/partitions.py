"""Days of acceptance, in UTC, as Dagster's partitions: the unit of backfills and of the archive."""

from collections.abc import Iterable
from datetime import date, datetime

import dagster as dg

# Nothing was accepted before the platform existed.
FIRST_DAY = "2026-01-01"

# end_offset=1: today is a partition from its first minute on, not only once it is over.
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, timezone="UTC", end_offset=1)


def key_of(day: date) -> str:
    """Name the partition of a day.

    >>> key_of(date(2026, 5, 6))
    '2026-05-06'
    """
    return day.isoformat()


def days_of(keys: Iterable[str]) -> list[date]:
    """Read the days of some partitions, in order.

    >>> days_of(["2026-05-07", "2026-05-06"])
    [datetime.date(2026, 5, 6), datetime.date(2026, 5, 7)]
    """
    return sorted(datetime.fromisoformat(key).date() for key in keys)
