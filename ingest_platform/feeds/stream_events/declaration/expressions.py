"""Expressions of the rule language in a declaration, read. The language is in `language/`."""

from collections.abc import Callable

from ingest_platform.feeds.stream_events.declaration.place import Place, quoted
from ingest_platform.feeds.stream_events.language import Expression, RuleFault, compile_expression, compile_rule


def read_expression(place: Place) -> Expression | None:
    """Read an expression of whatever type."""
    return _read(place, compile_expression)


def read_rule(place: Place) -> Expression | None:
    """Read an expression that is true or false."""
    return _read(place, compile_rule)


def _read(place: Place, compiled: Callable[[str], Expression]) -> Expression | None:
    if not isinstance(place.value, str):
        place.wrong(f"must be an expression, written as a text, not {quoted(place.value)}")
        return None
    try:
        return compiled(place.value)
    except RuleFault as fault:
        place.wrong(str(fault))
        return None
