"""Grok's names stand for what is commonly documented, and find what Python's own expressions find."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing.parsing.captures import TEXT_BYTES_MAX, Captures
from ingest_platform.feeds.stream_events.processing.parsing.grok import lift, read
from ingest_platform.feeds.stream_events.processing.parsing.grok_patterns import PATTERNS

LOGHUB = Path(__file__).parents[6] / "shared" / "data" / "loghub"
ACCESS = (
    '203.0.113.9 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif?x=1 HTTP/1.0" 200 2326 '
    '"http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"'
)
LINES = [
    ACCESS,
    '::1 - - [01/Jan/2026:00:00:00 +0000] "-" 408 - "-" "-"',
    "2015-07-29 17:41:44,747 - INFO [main:QuorumPeer@913] - tickTime set to 3000",
    "Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user webmaster from 173.234.31.186",
    "[Sun Dec 04 04:47:44 2005] [error] [client 1.2.3.4] mod_jk child workerEnv in error state 6",
    "user=a.b@example.com id=0b1c2d3e-1111-2222-3333-444455556666 mac=00:1A:2b:3c:4d:5e took -12.5 ms",
    'fe80::1%eth0 https://u:p@example.com:8080/a/b?q=1#f C:\\Windows\\x /var/log/x "a \\" b" été 0xFF',
    "",
]
PIECES = [f"%{{{name}:value}}" for name in PATTERNS]


def found(text: str, pattern: str) -> object:
    (lifted,) = lift([text], pattern)
    return None if lifted is None else dict(lifted)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("WORD", "  naïve_1!", "naïve_1"),
        ("NUMBER", "x=-12.50s", "-12.50"),
        ("INT", "+7", "+7"),
        ("IP", "from 2001:db8::7 to", "2001:db8::7"),
        ("IP", "from 173.234.31.186:80", "173.234.31.186"),
        ("IPV6", "::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("IPV6", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("IPV6", "x 1:: y", "1::"),
        ("HOSTNAME", "web-1.example.com", "web-1.example.com"),
        ("TIMESTAMP_ISO8601", "at 2026-11-21T13:00:00.123+01:00!", "2026-11-21T13:00:00.123+01:00"),
        ("TIMESTAMP_ISO8601", "2015-07-29 17:41:44,747 -", "2015-07-29 17:41:44,747"),
        ("LOGLEVEL", "[WARNING]", "WARNING"),
        ("HTTPDATE", "[10/Oct/2000:13:55:36 -0700]", "10/Oct/2000:13:55:36 -0700"),
        ("SYSLOGTIMESTAMP", "Dec  1 06:55:46 x", "Dec  1 06:55:46"),
        ("QUOTEDSTRING", r'a "b \" c" d', r'"b \" c"'),
        ("UUID", "id 0b1c2d3e-1111-2222-3333-444455556666.", "0b1c2d3e-1111-2222-3333-444455556666"),
        ("PATH", "in /var/log/x.log or", "/var/log/x.log"),
        ("PATH", r"C:\Windows\x.exe", r"C:\Windows\x.exe"),
        ("URI", "see https://u:p@example.com:8080/a?q=1.", "https://u:p@example.com:8080/a?q=1."),
        ("EMAILADDRESS", "by a.b+c@example.com ok", "a.b+c@example.com"),
        ("MAC", "00:1A:2b:3c:4d:5e", "00:1A:2b:3c:4d:5e"),
        ("NOTSPACE", " ab c", "ab"),
        ("USER", "frank.t-1 x", "frank.t-1"),
        ("MONTHNUM", "12", "12"),
        ("BASE16NUM", "0xFF", "0xFF"),
    ],
)
def test_a_name_finds_its_form(name: str, text: str, value: str) -> None:
    assert found(text, f"%{{{name}:value}}") == {"value": value}


@pytest.mark.parametrize(
    ("name", "text"),
    [("IPV4", "256.1.1.1"), ("IPV4", "1.2.3"), ("UUID", "0b1c2d3e"), ("LOGLEVEL", "all good"), ("POSINT", "0")],
)
def test_a_name_finds_no_other_form(name: str, text: str) -> None:
    assert found(text, f"^%{{{name}:value}}$") is None


def test_an_access_log_has_its_usual_fields() -> None:
    assert found(ACCESS, "%{COMBINEDAPACHELOG}") == {
        "clientip": "203.0.113.9",
        "ident": "-",
        "auth": "frank",
        "timestamp": "10/Oct/2000:13:55:36 -0700",
        "verb": "GET",
        "request": "/apache_pb.gif?x=1",
        "httpversion": "1.0",
        "response": "200",
        "bytes": "2326",
        "referrer": '"http://www.example.com/start.html"',
        "agent": '"Mozilla/4.08 [en] (Win98; I ;Nav)"',
    }


def test_groups_that_take_no_part_give_no_members() -> None:
    lifted = found(LINES[1], "%{COMMONAPACHELOG}")
    assert isinstance(lifted, dict)
    assert (lifted["rawrequest"], "verb" in lifted, "bytes" in lifted) == ("-", False, False)


def test_values_are_converted_as_declared() -> None:
    pattern = "%{WORD:verb} %{NUMBER:http.seconds:float} %{INT:http.status:int} (?<rest>.*)"
    assert found("GET -0.50 +200 ok", pattern) == {
        "verb": "GET",
        "http": {"seconds": -0.5, "status": 200},
        "rest": "ok",
    }


@pytest.mark.parametrize("number", ["9223372036854775808", "1.5", "words", "٣"])
def test_a_text_that_is_not_the_declared_number_is_not_lifted(number: str) -> None:
    lifted = list(lift([f"n={number} x", "n=1 x"], "n=%{NOTSPACE:n:int} %{WORD:word}"))
    assert [each if each is None else dict(each) for each in lifted] == [None, {"n": 1, "word": "x"}]


@pytest.mark.parametrize("number", ["inf", "NaN", "1e999", "-infinity"])
def test_a_number_that_json_does_not_have_is_not_lifted(number: str) -> None:
    assert found(number, "%{NOTSPACE:n:float}") is None


def test_of_two_places_for_one_field_the_one_that_took_part_counts() -> None:
    pattern = "^(?:took %{INT:ms:int}|%{INT:ms:int} ms)$"
    assert [found("took 5", pattern), found("7 ms", pattern)] == [{"ms": 5}, {"ms": 7}]


def test_a_text_too_long_for_patterns_is_not_lifted() -> None:
    texts = ["a" * TEXT_BYTES_MAX, "a" * (TEXT_BYTES_MAX + 1)]
    assert [each is None for each in lift(texts, "%{WORD:word}")] == [False, True]


def test_there_may_be_no_text_at_all() -> None:
    assert list(lift([], "%{WORD:word}")) == []


def _python(captures: Captures) -> re.Pattern[str]:
    return re.compile(captures.expression)


@pytest.mark.parametrize("piece", PIECES)
def test_python_finds_the_same_in_sample_lines(piece: str) -> None:
    captures = read(piece)
    for line in LINES:
        match = _python(captures).search(line)
        expected = (
            None
            if match is None
            else {each.field: text for each in captures.captures if (text := match[each.group]) is not None}
        )
        assert found(line, piece) == expected, line


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3), st.text(alphabet='a1 .:-/"[<@é', max_size=30))
def test_python_finds_the_same_in_any_line(pieces: list[str], line: str) -> None:
    pattern = " ".join(piece.replace("value", f"value_{place}") for place, piece in enumerate(pieces))
    captures = read(pattern)
    match = _python(captures).search(line)
    assert (found(line, pattern) is None) == (match is None)
    if match is not None and len({each.field for each in captures.captures}) == len(captures.captures):
        named = {each.field: match[each.group] for each in captures.captures if match[each.group] is not None}
        assert found(line, pattern) == named


# As the originals of the structured files were written: the columns, and how a line was made of them.
LOG_FILES = [
    (
        "Apache_2k.log_structured.csv",
        "[{Time}] [{Level}] {Content}",
        r"^\[%{HTTPDERROR_DATE:Time}\] \[%{LOGLEVEL:Level}\] %{GREEDYDATA:Content}$",
    ),
    (
        "HDFS_2k.log_structured.csv",
        "{Date} {Time} {Pid} {Level} {Component}: {Content}",
        (
            r"^(?<Date>[0-9]{6}) (?<Time>[0-9]{6}) %{INT:Pid} %{LOGLEVEL:Level} %{JAVACLASS:Component}: "
            r"%{GREEDYDATA:Content}$"
        ),
    ),
    (
        "OpenSSH_2k.log_structured.csv",
        "{Date} {Day} {Time} {Component} sshd[{Pid}]: {Content}",
        (
            r"^%{MONTH:Date} %{MONTHDAY:Day} %{TIME:Time} %{SYSLOGHOST:Component} sshd\[%{POSINT:Pid}\]: "
            r"%{GREEDYDATA:Content}$"
        ),
    ),
    (
        "Zookeeper_2k.log_structured.csv",
        "{Date} {Time} - {Level}  [{Node}:{Component}@{Id}] - {Content}",
        (
            r"^(?<Date>%{YEAR}-%{MONTHNUM}-%{MONTHDAY}) %{TIME:Time} - %{LOGLEVEL:Level}  "
            r"\[(?<Node>[^:]*):%{DATA:Component}@%{INT:Id}\] - %{GREEDYDATA:Content}$"
        ),
    ),
]


@pytest.mark.parametrize(("name", "form", "pattern"), LOG_FILES, ids=lambda part: part[:9])
def test_real_logs_are_read_as_those_who_published_them_did(name: str, form: str, pattern: str) -> None:
    if not (LOGHUB / name).is_file():
        pytest.skip("the files of loghub are not beside the checkout")
    with (LOGHUB / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [each.field for each in read(pattern).captures]
    lifted = list(lift([form.format_map(row) for row in rows], pattern))
    assert len(rows) == 2_000
    assert [None if each is None else dict(each) for each in lifted] == [
        {column: row[column] for column in row if column in names} for row in rows
    ]
