"""Regular expressions with named groups, `(?<name>…)`: each becomes a member. Looked for anywhere in a text."""

import functools
from collections.abc import Iterator, Sequence

from ingest_platform.feeds.stream_events.processing.parsing.captures import (
    Capture,
    Captures,
    checked,
    extract,
    groups_of,
)
from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted


@functools.lru_cache(maxsize=256)
def read(pattern: str) -> Captures:
    """Read a pattern. Raises WrongPattern.

    >>> [each.field for each in read(r"(?<level>[A-Z]+): (?<text>.*)").captures]
    ['level', 'text']
    """
    captures = tuple(Capture(group=name, field=name) for name in groups_of(pattern))
    return checked(Captures(expression=pattern, captures=captures))


def lift(texts: Sequence[str], pattern: str) -> Iterator[Lifted]:
    """Lift the named groups out of texts."""
    return extract(texts, read(pattern))
