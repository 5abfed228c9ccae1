r"""The one grammar of timestamps (contract, section 0): RFC 3339, zone required, instants of the years 0001 to 9999.

Each engine evaluates it in its own way (here for one value; on frames in `pipeline/check.py`), from `PATTERN`.
"""

import re
from datetime import UTC, datetime, timedelta

# Seconds 60, 24:00 and offsets beyond 23:59 are not in the pattern; days of a month are left to the calendar.
PATTERN = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_MATCH = re.compile(PATTERN.removesuffix("$") + r"\Z").match
_WHOLE_SECONDS = len("2026-01-01T00:00:00")
MICROSECOND_DIGITS = 6


def parse_instant(text: str) -> datetime | None:
    """Read a timestamp as an instant in UTC, truncated to microseconds; None if it is none.

    >>> parse_instant("2026-05-06T12:15:32.4419999+02:00")
    datetime.datetime(2026, 5, 6, 10, 15, 32, 441999, tzinfo=datetime.timezone.utc)
    >>> parse_instant("2026-02-30T00:00:00Z") is None
    True
    """
    found = _MATCH(text)
    if found is None:
        return None
    fraction = (found[4] or ".")[1 : 1 + MICROSECOND_DIGITS].ljust(MICROSECOND_DIGITS, "0")
    zone = found[5]
    try:
        local = datetime.fromisoformat(text[:_WHOLE_SECONDS].upper()).replace(microsecond=int(fraction), tzinfo=UTC)
        return local if zone in "zZ" else local - _offset(zone)
    except (ValueError, OverflowError):
        # A day that the month lacks, the year 0000, or an instant beyond the years 0001 to 9999.
        return None


def _offset(zone: str) -> timedelta:
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return -offset if zone[0] == "-" else offset


def format_instant(instant: datetime) -> str:
    """Write an instant as clients see it: UTC, milliseconds (truncated), Z.

    >>> format_instant(datetime(2026, 5, 6, 10, 15, 32, 441999, tzinfo=UTC))
    '2026-05-06T10:15:32.441Z'
    """
    utc = instant.astimezone(UTC)
    # strftime("%Y") does not pad years before 1000; isoformat does.
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
