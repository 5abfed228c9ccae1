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
    if '"' not in text:
        pairs = [word.partition("=") for word in text.split()]
        members = {key: value for key, _, value in pairs}
        return None if "=" not in text or "" in members else members
    return _scan(text)


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
