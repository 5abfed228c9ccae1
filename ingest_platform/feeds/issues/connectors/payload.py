"""What the tools' payloads have in common: nested objects, times in many forms, words for how bad it is.

Which field of which tool means what is in the tool's own module.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from ingest_platform.domain.contract import WHITE_SPACE
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.issues import wire
from ingest_platform.feeds.issues.contract import (
    BODY_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX,
    WORD_CHARACTERS_MAX,
)

Record = dict[str, object]

_WORDS = {
    "p1": ("critical", "blocker", "highest", "urgent", "emergency", "immediate", "fatal"),
    "p2": ("high", "major", "severe"),
    "p3": ("medium", "normal", "moderate", "average"),
    "p4": ("low", "lowest", "minor", "trivial", "planning", "informational", "info"),
}
_SEVERITIES = {word: severity for severity, words in _WORDS.items() for word in words}
_PREFIX = re.compile(r"^(?:severity|priority|prio|sev)\s*[:/=_ -]\s*")
_NUMBERED = re.compile(r"(?:p|s|sev|sev-|priority|severity)?([1-5])(?:\s*-\s*\w.*)?")
_LEAST = 4
# 2023-05-04T10:15:00.000+0000: the zone without its colon.
_COMPACT_ZONE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d)(\d\d)")
_BLANK_BETWEEN = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Counted in seconds, this year is far off; in milliseconds it was 1971.
_SECONDS_MAX, _MILLISECONDS_MAX, _MICROSECONDS_MAX = 10**11, 10**14, 10**17


@dataclass(frozen=True, slots=True)
class Ignored:
    """A payload that is about no issue, or says nothing that is kept; `what` names it."""

    what: str


class Payload:
    """A JSON object of a payload; nested values are named by their path with dots."""

    def __init__(self, members: Mapping[str, object], *, path: str = "") -> None:
        self.members = members
        self._path = path

    def _get(self, path: str) -> object:
        found: object = self.members
        for name in path.split("."):
            if not isinstance(found, dict):
                return None
            found = found.get(name)
        return found

    def at(self, path: str) -> "Payload | None":
        """Go to a nested object; None if there is none."""
        found = self._get(path)
        if not isinstance(found, dict):
            return None
        return Payload(cast("dict[str, object]", found), path=self._full(path))

    def _full(self, path: str) -> str:
        return f"{self._path}.{path}" if self._path else path

    def require(self, path: str) -> "Payload":
        """Go to a nested object that the payload must have. Raises Malformed."""
        found = self.at(path)
        if found is None:
            raise self._missing(path)
        return found

    def text(self, *paths: str) -> str | None:
        """Read the first of some values that says something: a text, or a number as one."""
        for path in paths:
            found = self._get(path)
            if isinstance(found, int) and not isinstance(found, bool):
                return str(found)
            if isinstance(found, str) and found.strip(WHITE_SPACE):
                return found
        return None

    def require_text(self, *paths: str) -> str:
        """Read a text that the payload must have. Raises Malformed, naming the first of its places."""
        found = self.text(*paths)
        if found is None:
            raise self._missing(paths[0])
        return found

    def _missing(self, path: str) -> Exception:
        full = self._full(path)
        return wire.bad_record([Problem(code=Code.MISSING_FIELD.value, field=full, message=f"{full} is required")])

    def number(self, path: str) -> int | None:
        """Read a whole number."""
        found = self._get(path)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def objects(self, path: str) -> list["Payload"]:
        """Read a list of objects; whatever else is in it is left out."""
        found = self._get(path)
        each = cast("list[object]", found) if isinstance(found, list) else []
        return [Payload(cast("dict[str, object]", one)) for one in each if isinstance(one, dict)]

    def texts(self, path: str) -> list[str]:
        """Read a list of texts; whatever else is in it is left out."""
        found = self._get(path)
        each = cast("list[object]", found) if isinstance(found, list) else []
        return [one for one in each if isinstance(one, str) and one.strip(WHITE_SPACE)]

    def instant(self, *paths: str) -> str | None:
        """Read a time as RFC 3339; one that is in no known form is given as it is, to be refused by its field."""
        for path in paths:
            found = self._get(path)
            if isinstance(found, int) and not isinstance(found, bool):
                return _of_epoch(found)
            if isinstance(found, str) and found.strip(WHITE_SPACE):
                return instant_of(found.strip(WHITE_SPACE))
        return None


def instant_of(text: str) -> str:
    """Write a time in RFC 3339.

    >>> instant_of("2026-05-06T10:15:00.000+0200"), instant_of("2026-05-06 10:15:00")
    ('2026-05-06T10:15:00.000+02:00', '2026-05-06T10:15:00Z')
    """
    compact, between = _COMPACT_ZONE.fullmatch(text), _BLANK_BETWEEN.fullmatch(text)
    if compact is not None:
        return f"{compact[1]}:{compact[2]}"
    return f"{between[1]}T{between[2]}Z" if between is not None else text


def _of_epoch(number: int) -> str | None:
    """Write a time that is counted from 1970, in seconds, milliseconds, microseconds or nanoseconds."""
    units = ((_SECONDS_MAX, 1.0), (_MILLISECONDS_MAX, 1e3), (_MICROSECONDS_MAX, 1e6))
    per_second = next((per_second for most, per_second in units if abs(number) < most), 1e9)
    try:
        return format_instant(_EPOCH + timedelta(seconds=number / per_second))
    except OverflowError:
        return str(number)


def severity_of_word(text: str | None) -> str | None:
    """Reduce a tool's word or number for how bad it is to ours; None if it is no such word.

    >>> severity_of_word("1 - Critical"), severity_of_word("Sev2"), severity_of_word("Lowest"), severity_of_word("P5")
    ('p1', 'p2', 'p4', 'p4')
    """
    if text is None:
        return None
    word = _PREFIX.sub("", text.strip(WHITE_SPACE).lower())
    numbered = _NUMBERED.fullmatch(word)
    return f"p{min(int(numbered[1]), _LEAST)}" if numbered is not None else _SEVERITIES.get(word)


def severity_of_labels(labels: Iterable[str]) -> str | None:
    """Find the worst severity among labels. A bare number or a word like `high` may mean anything, and is none.

    >>> severity_of_labels(["bug", "priority: high", "P1", "2", "low"])
    'p1'
    """
    found: list[str] = []
    for label in labels:
        word = label.strip(WHITE_SPACE).lower()
        plain = word.isdigit() or (word in _SEVERITIES and _SEVERITIES[word] != "p1")
        severity = None if plain else severity_of_word(word)
        if severity is not None:
            found.append(severity)
    return min(found, default=None)


def record_of(**fields: object) -> Record:
    """Put a record together: what says nothing is left out, what is too long for us is cut."""
    most = {"title": TITLE_CHARACTERS_MAX, "body": BODY_CHARACTERS_MAX, "team": WORD_CHARACTERS_MAX}
    record: Record = {}
    for name, value in fields.items():
        if value is None or value in ("", [], {}):
            continue
        cut = isinstance(value, str) and name in most
        record[name] = cast("str", value)[: most[name]] if cut else value
    return record


def metadata_of(**fields: object) -> dict[str, object] | None:
    """Put an issue's metadata together from what says something; None if nothing does."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {})} or None
