r"""logfmt: `level=info msg="took long" slow`, pairs between blanks; the values are texts.

A value in quotes has the escapes of Go: `\"`, `\\`, `\n`, `\t`, `\x1b`, `\u00e9` and so on. A word alone is a member
without value: an empty text. Of a key that stands twice the last value counts. A text without a single pair is no
logfmt: else every sentence were some. Keys are as they are written: `http.status=200` gives a member of that name.
"""

import re
import sys
from collections.abc import Iterator, Sequence

from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted

_QUOTED = r'"((?:[^"\\]|\\.)*+)"'
_PAIR = re.compile(rf'\s*+([^\s="]++)(?:=(?:{_QUOTED}|([^\s"]*+)))?+(?=\s|$)', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_REPLACEMENT = "\ufffd"
_SURROGATES = range(0xD800, 0xE000)


def lift(texts: Sequence[str]) -> Iterator[Lifted]:
    """Read the pairs of texts; None for a text without any, or with something between them."""
    return (_read(text) for text in texts)


def _read(text: str) -> Lifted:
    """Read a text quickly: cut at its quotes, and what is outside of them at its blanks."""
    if '"' not in text:
        members = _bare(text.split())
        return None if "=" not in text or "" in members else members
    if "\\" in text:
        return _scan(text)
    *outside, last = text.split('"')[::2]
    inside = text.split('"')[1::2]
    if len(inside) != len(outside):
        return None
    members = dict[str, str]()
    for words, value in zip(outside, inside, strict=True):
        *before, name = words.split() or [""]
        key = name[:-1]
        # Right before a quote stands the end of `key=`, right behind one a blank.
        if words[-1:] != "=" or "=" in key or (members and words[:1].strip()):
            return None
        members |= _bare(before)
        members[key] = value
    if last[:1].strip():
        return None
    members |= _bare(last.split())
    return None if "" in members else members


def _bare(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in [word.partition("=") for word in words]}


def _scan(text: str) -> Lifted:
    members: dict[str, str] = {}
    text = text.rstrip()
    at, end = 0, len(text)
    pairs = False
    while at < end:
        pair = _PAIR.match(text, at)
        if pair is None:
            return None
        key, quoted, bare = pair.groups()
        if quoted is None:
            members[key] = bare or ""
        else:
            members[key] = _ESCAPE.sub(_unescaped, quoted) if "\\" in quoted else quoted
        pairs = pairs or quoted is not None or bare is not None
        at = pair.end()
    return members if pairs else None


def _unescaped(escape: re.Match[str]) -> str:
    *codes, character = escape.groups()
    code = next((code for code in codes if code), None)
    if code is None:
        return _ESCAPED.get(character, character)
    number = int(code, 16)
    # Half of a pair is no character, and no text may have one.
    return _REPLACEMENT if number in _SURROGATES or number > sys.maxunicode else chr(number)
