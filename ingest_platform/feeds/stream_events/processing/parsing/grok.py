r"""Grok: patterns by name, `%{NAME}`, `%{NAME:field}`, `%{NAME:field:int}` or `:float`, between pieces of expressions.

What is captured: what has a field, and named groups of one's own, `(?<name>…)`. `field` may be `outer.inner`. The text
`%{HTTPDATE:timestamp}` stands for is in `grok_patterns.py`; what is found is looked for anywhere in a text.
"""

import functools
import re
from collections.abc import Iterator, Sequence

from ingest_platform.feeds.stream_events.processing.parsing.captures import (
    PATTERN_CHARACTERS_MAX,
    Capture,
    Captures,
    Conversion,
    WrongPattern,
    checked,
    extract,
    groups_of,
)
from ingest_platform.feeds.stream_events.processing.parsing.grok_patterns import PATTERNS
from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted

# What is written out of names: seven access logs in one. The time that a text takes grows with it.
EXPRESSION_CHARACTERS_MAX = 20_000
_REFERENCE = re.compile(r"%\{(\w*)(?::([^:{}]*))?(?::([^:{}]*))?\}")
_OPENED = re.compile(r"%\{[^}]{0,40}\}?")
_GROUP = "grok__"


class _Expansion:
    """A pattern while its names are being replaced."""

    def __init__(self) -> None:
        self.captures: list[Capture] = []

    def expand(self, pattern: str) -> str:
        expression = _REFERENCE.sub(self._replaced, pattern)
        if len(expression) > EXPRESSION_CHARACTERS_MAX:
            raise WrongPattern(f"stands for an expression of more than {EXPRESSION_CHARACTERS_MAX:,} characters")
        return expression

    def _replaced(self, reference: re.Match[str]) -> str:
        name, field, conversion = reference.groups()
        if name not in PATTERNS:
            raise WrongPattern(f"%{{{name}}} is no pattern that is known; there are {', '.join(sorted(PATTERNS))}")
        if conversion not in {None, *(each.value for each in Conversion)}:
            raise WrongPattern(f"{reference[0]} must end with :int or :float, or with the field's name")
        if field is None:
            return f"(?:{self.expand(PATTERNS[name])})"
        group = f"{_GROUP}{len(self.captures)}"
        self.captures.append(
            Capture(group=group, field=field, conversion=None if conversion is None else Conversion(conversion))
        )
        return f"(?P<{group}>{self.expand(PATTERNS[name])})"


@functools.lru_cache(maxsize=256)
def read(pattern: str) -> Captures:
    """Read a pattern. Raises WrongPattern.

    >>> [each.field for each in read("%{IP:client} took %{NUMBER:seconds:float} s").captures]
    ['client', 'seconds']
    """
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise WrongPattern(f"has {len(pattern)} characters; at most {PATTERN_CHARACTERS_MAX} are allowed")
    strange = _OPENED.search(_REFERENCE.sub("", pattern))
    if strange is not None:
        raise WrongPattern(
            f"{strange[0]} is not written as %{{NAME}}, %{{NAME:field}}, or with :int or :float after it"
        )
    expansion = _Expansion()
    expression = expansion.expand(pattern)
    own = [Capture(group=name, field=name) for name in groups_of(expression) if not name.startswith(_GROUP)]
    return checked(Captures(expression=expression, captures=(*expansion.captures, *own)))


def lift(texts: Sequence[str], pattern: str) -> Iterator[Lifted]:
    """Lift fields out of texts: texts, and numbers where they are declared as `:int` or `:float`."""
    return extract(texts, read(pattern))
