r"""Paths of fields, as text and as members. What may be done with a field is not known here."""

import re

from ingest_platform.feeds.stream_events.declaration.pipeline import Path

# An event is no deeper than the platform reads JSON; nobody writes a path of so many members by hand.
MEMBERS_MAX = 20
_QUOTED = r'"(?:[^"\\\x00-\x1f]|\\["\\])+"'
_PLAIN = r'[^\s."\'\\\[\](){},:\x00-\x1f]+'
_MEMBER = re.compile(f"{_QUOTED}|{_PLAIN}")
_NEEDS_NO_QUOTES = re.compile(_PLAIN)
ALLOWED = 'members joined by dots, such as event.card_number; a member with odd characters in quotes: event."odd.name"'


class WrongPath(Exception):
    """A text that is no path; the message says what is allowed."""


def read_path(text: str) -> Path:
    r"""Split a path into its members. Raises WrongPath.

    >>> read_path('event."odd.name".x')
    ('event', 'odd.name', 'x')
    """
    members, at = list[str](), 0
    while True:
        found = _MEMBER.match(text, at)
        if found is None:
            raise WrongPath(f"column {at + 1}: a path is {ALLOWED}")
        members.append(_unquoted(found[0]))
        at = found.end()
        if at == len(text):
            break
        if text[at] != ".":
            raise WrongPath(f"column {at + 1}: a path is {ALLOWED}")
        at += 1
    if len(members) > MEMBERS_MAX:
        raise WrongPath(f"has {len(members)} members; at most {MEMBERS_MAX} are allowed")
    return tuple(members)


def _unquoted(member: str) -> str:
    return re.sub(r"\\(.)", r"\1", member[1:-1]) if member.startswith('"') else member


def write_path(path: Path) -> str:
    r"""Write a path so that `read_path` reads it.

    >>> write_path(("event", "odd.name"))
    'event."odd.name"'
    """
    return ".".join(_quoted(member) for member in path)


def _quoted(member: str) -> str:
    if _NEEDS_NO_QUOTES.fullmatch(member):
        return member
    return '"' + re.sub(r'(["\\])', r"\\\1", member) + '"'
