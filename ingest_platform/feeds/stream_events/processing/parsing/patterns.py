"""What is said of the patterns of a declaration when it is applied: whether they can be used."""

from collections.abc import Callable, Mapping

from ingest_platform.feeds.stream_events.processing.parsing import grok, regex
from ingest_platform.feeds.stream_events.processing.parsing.captures import (
    PATTERN_CHARACTERS_MAX,
    Captures,
    WrongPattern,
)

_READERS: Mapping[str, Callable[[str], Captures]] = {"regex": regex.read, "grok": grok.read}


def check_pattern(kind: str, pattern: str | None) -> str | None:
    """Say what is wrong with the pattern of a parse step (None: it has none); None if nothing is.

    >>> check_pattern("grok", "%{WORD:verb} %{INT:count:int}")
    >>> check_pattern("regex", "(?<level>[A-Z]+")
    'unclosed group'
    """
    if kind not in _READERS:
        return None if pattern is None else f"belongs to {' and '.join(sorted(_READERS))}, not to {kind}"
    if not pattern:
        return f"is missing: {kind} needs one"
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        return f"has {len(pattern)} characters; at most {PATTERN_CHARACTERS_MAX} are allowed"
    try:
        _READERS[kind](pattern)
    except WrongPattern as wrong:
        return str(wrong)
    return None
