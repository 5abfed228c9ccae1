"""Patterns in a declaration, read: each is compiled as it will be used, so that none fails on an event."""

from ingest_platform.feeds.stream_events.declaration.pipeline import ParseKind
from ingest_platform.feeds.stream_events.declaration.place import Place
from ingest_platform.feeds.stream_events.processing.parsing.captures import WrongPattern, groups_of
from ingest_platform.feeds.stream_events.processing.parsing.patterns import check_pattern


def read_pattern(place: Place, kind: ParseKind) -> str | None:
    """Read the pattern of a step of `parse`: a regular expression with named groups, or a grok pattern."""
    pattern = place.text()
    why = None if pattern is None else check_pattern(kind.value, pattern)
    if why is None:
        return pattern
    place.wrong(why)
    return None


def read_regex(place: Place) -> str | None:
    """Read a regular expression that needs no groups."""
    pattern = place.text()
    if pattern is None:
        return None
    try:
        groups_of(pattern)
    except WrongPattern as wrong:
        place.wrong(str(wrong))
        return None
    return pattern
