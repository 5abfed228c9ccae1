"""Regular expressions of rules, tried out when a rule is applied: Rust's syntax, as Polars evaluates it."""

import re

import polars as pl
from polars.exceptions import ComputeError

from ingest_platform.feeds.stream_events.language.fault import RuleFault

# Linear in the text, but the factor is what the counted repetitions spell out: `.{0,5000}y` took 25 µs for each
# character, 25 s for one event of a megabyte. Written out, 1,000 is ten times what addresses and ids need.
REPEATED_MAX = 1000

# An escape, a class of characters, a repetition, a parenthesis, or whatever else stands for itself.
_PART = re.compile(
    r"\\[pPx]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d*)(,?)(\d*)\}|\((?:\?(?:P?<\w+>|[a-zA-Z-]*[:)]))?|.",
    re.DOTALL,
)
_UNTRIED = pl.Series([""], dtype=pl.String)


def check_regex(pattern: str, column: int) -> None:
    """Raise RuleFault if Polars would not take the pattern, or is likely to be slow with it."""
    if _written_out(pattern) > max(REPEATED_MAX, len(pattern)):
        message = f"the repetitions of the regular expression are more than {REPEATED_MAX} characters when written out"
        raise RuleFault(message, column)
    try:
        _UNTRIED.str.contains(pattern, literal=False, strict=True)
    except ComputeError as error:
        raise RuleFault(f"the regular expression is refused: {_reason(str(error))}", column) from None


def _reason(message: str) -> str:
    """Take the one line that says what is wrong out of Rust's drawing of it."""
    found = re.search(r"^error: (.*)$", message, re.MULTILINE)
    if found:
        return found[1]
    return "it is larger than 10 MiB when compiled" if "size limit" in message else message.partition("\n")[0]


def _written_out(pattern: str) -> int:
    """Count what a pattern repeats by number: (ab{3}){10} is 40. Of patterns that are none, any number."""
    # For each open group what it has so far, and its last part; only counted parts and those around them are taken.
    waiting: list[list[int]] = []
    done, last = 0, 0
    for found in _PART.finditer(pattern):
        part = found[0]
        if part.startswith("("):
            if not part.endswith(")"):
                waiting.append([done + last])
                done, last = 0, 0
        elif part == ")" and waiting:
            inner = done + last
            done, last = waiting.pop()[0], inner
        elif found[1] is not None and (found[1] or found[3]):
            last *= int((found[3] or found[1])[:6])
        elif part not in "*+?|^$":
            done, last = done + last, 1
    return done + last
