"""Fingerprints: variable parts are masked, words are not, and the digest is the same wherever it is taken."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.issues.fingerprint import LINE_CHARACTERS_MAX, TITLE_CHARACTERS_MAX, fingerprints


def wording(title: str, body: str | None = None) -> str:
    frame = fingerprints(pl.Series([title]), pl.Series([body], dtype=pl.String))
    return frame["wording"].item()


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Order 4711 failed", "order <num> failed"),
        ("Timeout after 30 s, memory 1.5GB, disk 95 % full", "timeout after <num>, memory <num>, disk <num> full"),
        ("Crash at 0xDEADBEEF in 3f2a9c01b", "crash at <hex> in <hex>"),
        ("Session 550e8400-e29b-41d4-a716-446655440000 lost", "session <uuid> lost"),
        ("Broken since v1.2.3 (was 10.4.0-rc1)", "broken since <version> (was <version>)"),
        ("No answer from 10.0.0.7:8080", "no answer from <host>"),
        ("No answer from fe80::1 or 2001:db8:0:1:1:1:1:1", "no answer from <host> or <host>"),
        ("No answer from db1.internal.example.com.", "no answer from <host>."),
        ("No answer from kiln.tuw.ac.at", "no answer from <host>"),
        ("Can't open /var/log/app.log or C:\\Temp\\x.txt", "can't open <path> or <path>"),
        ("See https://example.com/a?b=1 or mail bob@example.com", "see <url> or mail <email>"),
        ("Cannot read property 'foo' of \"bar baz\"", "cannot read property <text> of <text>"),
        ("At 2026-01-01T00:00:00.123Z and 10:15:00 and Dec 10 2015", "at <date> and <time> and <date>"),
        ("PROJ-123: crash", "<id>: crash"),
        ("java.net.ConnectException: refused", "java.net.connectexception: refused"),
        ("It isn't Bob's fault, it's ours", "it isn't bob's fault, it's ours"),
        ("Deleted blk_-1 blk_22 blk_-333", "deleted blk_<num>"),
        ("  Two\t words\u0000 ", "two words"),
        ("   ", ""),
    ],
)
def test_variable_parts_are_masked_and_words_stay(title: str, expected: str) -> None:
    assert wording(title) == expected


def test_the_first_line_of_the_body_counts_where_the_title_says_little() -> None:
    assert wording("Error 5", "\n Disk 7 full\nTraceback") == "error <num>\ndisk <num> full"
    assert wording("Error", "   ") == "error"
    assert wording("The checkout page crashed again", "I was about to pay") == "the checkout page crashed again"


def test_a_long_text_is_cut_between_words() -> None:
    title = "word " * TITLE_CHARACTERS_MAX
    assert wording(title) == ("word " * (TITLE_CHARACTERS_MAX // 5)).strip()
    cut = "1" * (LINE_CHARACTERS_MAX - 3)
    assert wording("Error", f"x {cut} 12345") == "error\nx <num>"


def test_the_fingerprint_is_sixteen_hex_digits_and_never_changes() -> None:
    frame = fingerprints(pl.Series(["Order 1 failed", "ORDER 22 failed"]), pl.Series(["", None], dtype=pl.String))
    assert frame["fingerprint"].to_list() == ["e0a78197bb8d42fe"] * 2


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.none() | st.text(max_size=40)), max_size=5))
def test_a_row_has_the_same_fingerprint_alone_and_among_others(rows: list[tuple[str, str | None]]) -> None:
    titles = pl.Series([title for title, _ in rows], dtype=pl.String)
    bodies = pl.Series([body for _, body in rows], dtype=pl.String)
    together = fingerprints(titles, bodies).rows()
    alone = [fingerprints(titles[at : at + 1], bodies[at : at + 1]).row(0) for at in range(len(rows))]
    assert together == alone


@settings(deadline=None)
@given(st.integers(min_value=0), st.ip_addresses().filter(int), st.uuids(), st.dates(min_value=date(1000, 1, 1)))
def test_whatever_the_values_are_the_wording_is_one(number: int, address: object, uuid: object, day: date) -> None:
    title = f"Job {number} of {uuid} at {address} failed on {day}T10:15:00Z"
    assert wording(title) == "job <num> of <uuid> at <host> failed on <date>"
