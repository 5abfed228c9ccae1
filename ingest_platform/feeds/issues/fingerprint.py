"""The fingerprint of an issue: its wording without what varies from case to case. Grouping is `grouping.py`'s.

The wording is the title, lower-cased, with the variable parts masked; the body's first line belongs to it where the
title alone says little. It works on whole columns. The fingerprint is a digest of the wording, the same on every
machine and in every version of every library.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import polars as pl

# A wording is a line for people. The contract's titles have at most 300 characters; of bodies the first line counts.
TITLE_CHARACTERS_MAX = 1_000
LINE_CHARACTERS_MAX = 500
# A first line is looked for in the beginning of a body: bodies may have megabytes.
BODY_CHARACTERS_READ = 4_000
# A title with as many telling words is a wording by itself: people begin each body differently. One with fewer
# ("Error", "Payment failed") says too little.
TELLING_WORDS_MIN = 3
FINGERPRINT_BYTES = 8

# Words of English grammar: they are in every text, so they tell nothing about it. Not among them: words that change
# what is said, such as not, off, out, up, before, after.
_FUNCTION_WORDS = """
    a an and are as at be been being but by can could did do does for from had has have he her his i if in into is it
    its may me might my of on onto or our shall she should so than that the their them then there these they this those
    to us via was we were what when where which while who whose will with would you your
"""
FUNCTION_WORDS: Final = frozenset(_FUNCTION_WORDS.split())

_WEEKDAY = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,:]\d+)?)?(?: ?[ap]m\b|z\b|[+-]\d{2}:?\d{2}\b|\b)"
_DAY = "|".join(
    (
        r"\d{4}-\d{1,2}-\d{1,2}",
        r"\d{4}/\d{1,2}/\d{1,2}",
        r"\d{1,2}/\d{1,2}/\d{2,4}",
        rf"{_MONTH}\.? \d{{1,2}}(?:,? \d{{4}}\b)?",
        rf"\d{{1,2}}[ -]{_MONTH}[ -]\d{{2,4}}",
    )
)
# Top-level names of hosts; names of two letters are too often the ending of a file to be told by themselves.
_TOP_LEVEL = (
    "com|net|org|edu|gov|mil|int|info|biz|io|dev|app|cloud|local|localdomain|localhost|internal|lan|corp|home|arpa"
)
_UNIT = (
    r"(?:[mnuμ]?s|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|weeks?|[kmgtp]i?b|[kmgtp]|b|bytes?|[kmg]?hz|[kmg]bps)"
)


@dataclass(frozen=True, slots=True)
class Mask:
    """What is replaced by what. Expressions are those of Rust's `regex`: linear in the text, without looking round."""

    name: str
    pattern: str
    replacement: str


# In this order: what is made of several parts goes before its parts.
MASKS: Final = (
    Mask("url", r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>)\]]+", "<url>"),
    Mask("email", r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", "<email>"),
    Mask("uuid", r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    Mask("double-quoted", r'"[^"]{0,300}"|“[^”]{0,300}”|`[^`]{1,300}`', "<text>"),
    # An apostrophe inside a word opens nothing.
    Mask("single-quoted", r"(^|[\s(=:,\[{])(?:'[^']{1,300}'|‘[^’]{1,300}’)", "${1}<text>"),
    Mask("date", rf"\b(?:{_WEEKDAY},? )?(?:{_DAY})(?:(?:t|,? ){_TIME}(?: (?:[a-z]{{3,4}} )?\d{{4}}\b)?|\b)", "<date>"),
    Mask("mac", r"\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", "<host>"),
    Mask(
        "ipv6",
        r"(?:\b[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}\b"
        r"|\b(?:[0-9a-f]{1,4}:){1,7}:(?:[0-9a-f]{1,4}\b(?::[0-9a-f]{1,4}\b)*)?",
        "<host>",
    ),
    Mask("short ipv6", r"(^|[\s=(,\[/])::[0-9a-f]{1,4}\b(?::[0-9a-f]{1,4}\b)*", "${1}<host>"),
    Mask("host", rf"/?\b(?:[\w-]+\.)+(?:{_TOP_LEVEL})(?::\d+)?(\.?(?:[^\w.-]|$))", "<host>${1}"),
    Mask(
        "country's host",
        r"/?\b(?:[\w-]+\.)+(?:com?|net|org|edu|gov|ac|or|ne)\.[a-z]{2}(?::\d+)?(\.?(?:[^\w.-]|$))",
        "<host>${1}",
    ),
    # Right under a country's name, only with a digit in it: it is a machine's.
    Mask(
        "numbered host",
        r"/?\b(?:[\w-]+\.)*[a-z_-]*\d[\w-]*\.(?:[\w-]+\.)*[a-z][\w-]+\.[a-z]{2}(?::\d+)?(\.?(?:[^\w.-]|$))",
        "<host>${1}",
    ),
    Mask("ipv4", r"/?\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b(?:/\d{1,2}\b)?(?::\d+\b)?", "<host>"),
    Mask("time", rf"\b{_TIME}", "<time>"),
    Mask("windows path", r"\b[a-z]:\\[^\s\"',;<>|]*", "<path>"),
    Mask("path", r"(^|[\s=(:,\[{>@])(?:\.{1,2}|~)?/[^\s\"',;:()\[\]{}<>=]+", "${1}<path>"),
    Mask("relative path", r"\b[\w.-]+(?:/[\w.-]+){2,}", "<path>"),
    Mask("version", r"\bv?\d+(?:\.\d+){2,}[\w+-]*|\bv\d+(?:\.\d+)*\b", "<version>"),
    Mask("hexadecimal", r"\b0x[0-9a-f]+\b", "<hex>"),
    Mask("id", r"\b[a-z][a-z0-9]{1,9}-\d+\b", "<id>"),
    Mask("number", rf"\b\d+(?:[.,]\d+)*(?: ?{_UNIT}\b| ?%|\b)", "<num>"),
    Mask("digest", r"\b[0-9a-f]{8,}\b", "<hex>"),
    Mask("token", r"\b[a-z_]*\d+[a-z_]+\d\w*", "<id>"),
    Mask("digits", r"\d+(?:\.\d+)*", "<num>"),
    Mask("sign", r"(^|[\s=(:,\[_/])[+-]<num>", "${1}<num>"),
)
_BLANKS = r"[\s\x00-\x1f\x7f]+"
_TELLING = r"\b[^\W\d_]{3,}"
_NOT_TELLING = rf"<\w+>|\b(?:{'|'.join(sorted(FUNCTION_WORDS))})\b"


def masked(texts: pl.Series, *, characters_max: int) -> pl.Series:
    """Lower-case texts, cut them between words, and mask their variable parts."""
    text = pl.col(texts.name)
    frame = texts.to_frame().with_columns(
        text.str.slice(0, 4 * characters_max).str.to_lowercase().str.replace_all(_BLANKS, " ").str.strip_chars(" ")
    )
    # A number or name that was cut through would be another word in every text.
    if frame.select((text.str.len_chars() > characters_max).any()).item():
        cut = text.str.slice(0, characters_max).str.replace(r" [^ ]*$", "")
        frame = frame.with_columns(pl.when(text.str.len_chars() > characters_max).then(cut).otherwise(text))
    for mask in MASKS:
        text = text.str.replace_all(mask.pattern, mask.replacement)
    return frame.select(text).to_series()


def fingerprints(titles: pl.Series, bodies: pl.Series) -> pl.DataFrame:
    """Take the fingerprint (16 hex digits) and the wording of issues, in their order.

    >>> frame = fingerprints(pl.Series(["Order 4711 failed at 10.0.0.7"]), pl.Series([None], dtype=pl.String))
    >>> frame["wording"].to_list()
    ['order <num> failed at <host>']
    """
    title = masked(titles.cast(pl.String).fill_null("").rename("title"), characters_max=TITLE_CHARACTERS_MAX)
    texts = _with_lines(title.to_frame().with_columns(body=bodies.cast(pl.String)))
    known = texts.unique(maintain_order=True)
    wordings = [_without_repeats(text) for text in known["text"]]
    by_text = known.with_columns(
        fingerprint=pl.Series([fingerprint_of(wording) for wording in wordings], dtype=pl.String),
        wording=pl.Series(wordings, dtype=pl.String),
    )
    return texts.join(by_text, on="text", how="left", maintain_order="left").select("fingerprint", "wording")


def _with_lines(told: pl.DataFrame) -> pl.DataFrame:
    """Add to titles that say little the first line of their body; one column, `text`."""
    words = pl.col("title").str.replace_all(_NOT_TELLING, " ").str.count_matches(_TELLING)
    numbered = told.with_row_index("row").with_columns(brief=(words < TELLING_WORDS_MIN) & pl.col("body").is_not_null())
    brief = numbered.filter("brief").select("row", line=pl.col("body").str.slice(0, BODY_CHARACTERS_READ))
    if brief.height == 0:
        return told.select(text=pl.col("title"))
    lines = brief["line"].str.strip_chars().str.extract(r"^([^\r\n]*)", 1)
    line = masked(lines, characters_max=LINE_CHARACTERS_MAX)
    added = numbered.join(brief.select("row", line), on="row", how="left", maintain_order="left")
    said = pl.col("line").str.len_chars() > 0
    return added.select(text=pl.when(said).then(pl.col("title") + "\n" + pl.col("line")).otherwise(pl.col("title")))


def _without_repeats(text: str) -> str:
    """Leave one of several equal values in a row: how long a list is does not belong to the wording."""
    if "<" not in text:
        return text
    kept: list[str] = []
    last = ""
    for word in text.split(" "):
        bare = word.rstrip(",;|")
        if bare == last and "<" in bare:
            kept[-1] = word
        else:
            kept.append(word)
        last = bare
    return " ".join(kept)


def fingerprint_of(wording: str) -> str:
    """Digest a wording.

    >>> fingerprint_of("order <num> failed")
    'e0a78197bb8d42fe'
    """
    return hashlib.blake2b(wording.encode(), digest_size=FINGERPRINT_BYTES).hexdigest()
