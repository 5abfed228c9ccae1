"""Syslog messages of both RFCs are taken apart, and no text breaks it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing.parsing.syslog import FACILITIES, SEVERITIES, lift

# The first three are the examples of RFC 5424, section 6.5.
NEW = [
    (
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed on /dev/pts/8",
        {
            "facility": "auth",
            "severity": "crit",
            "timestamp": "2003-10-11T22:14:15.003Z",
            "hostname": "mymachine.example.com",
            "appname": "su",
            "msgid": "ID47",
            "message": "'su root' failed on /dev/pts/8",
        },
    ),
    (
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
        {
            "facility": "local4",
            "severity": "notice",
            "timestamp": "2003-08-24T05:14:15.000003-07:00",
            "hostname": "192.0.2.1",
            "appname": "myproc",
            "procid": "8710",
            "message": "%% It's time to make the do-nuts.",
        },
    ),
    (
        (
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 "
            '[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]'
        ),
        {
            "facility": "local4",
            "severity": "notice",
            "timestamp": "2003-10-11T22:14:15.003Z",
            "hostname": "mymachine.example.com",
            "appname": "evntslog",
            "msgid": "ID47",
            "structured_data": {
                "exampleSDID@32473": {"iut": "3", "eventSource": "Application", "eventID": "1011"},
                "examplePriority@32473": {"class": "high"},
            },
        },
    ),
    (
        r'<0>1 - - - - - [a b="\"\\\]" b="[x" c="\n"] two' + "\nlines",
        {
            "facility": "kern",
            "severity": "emerg",
            "structured_data": {"a": {"b": ['"\\]', "[x"], "c": r"\n"}},
            "message": "two\nlines",
        },
    ),
]
OLD = [
    (
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        {
            "facility": "auth",
            "severity": "crit",
            "timestamp": "Oct 11 22:14:15",
            "hostname": "mymachine",
            "appname": "su",
            "message": "'su root' failed for lonvick on /dev/pts/8",
        },
    ),
    (
        "Dec  1 06:55:46 LabSZ sshd[24200]: Invalid user webmaster from 173.234.31.186",
        {
            "timestamp": "Dec  1 06:55:46",
            "hostname": "LabSZ",
            "appname": "sshd",
            "procid": "24200",
            "message": "Invalid user webmaster from 173.234.31.186",
        },
    ),
    (
        "<13>2026-11-21T13:00:00.123456+01:00 web-1 nginx: GET /",
        {
            "facility": "user",
            "severity": "notice",
            "timestamp": "2026-11-21T13:00:00.123456+01:00",
            "hostname": "web-1",
            "appname": "nginx",
            "message": "GET /",
        },
    ),
    (
        "<34>Oct 11 22:14:15 su: no host",
        {
            "facility": "auth",
            "severity": "crit",
            "timestamp": "Oct 11 22:14:15",
            "appname": "su",
            "message": "no host",
        },
    ),
    ("<191>Use the BFG!", {"facility": "local7", "severity": "debug", "message": "Use the BFG!"}),
    ("<6>", {"facility": "kern", "severity": "info"}),
]
NEITHER = [
    "",
    "words of a sentence",
    "<192>too high",
    "<034>a zero in front",
    "<>",
    "<1",
    "<34>1 not the header of RFC 5424",
    "<34>1 2003-10-11T22:14:15Z host app - - [open",
    '<34>1 2003-10-11T22:14:15Z host app - - [a b="c]',
    "<999>1 - - - - - -",
]


@pytest.mark.parametrize(("text", "members"), [*NEW, *OLD])
def test_messages_are_taken_apart(text: str, members: object) -> None:
    assert list(lift([text])) == [members]


@pytest.mark.parametrize("text", NEITHER)
def test_what_is_no_syslog_is_not_lifted(text: str) -> None:
    assert list(lift([text])) == [None]


def test_messages_of_all_kinds_keep_their_order() -> None:
    told = [*NEW, *OLD, *((text, None) for text in NEITHER), *NEW]
    assert list(lift([text for text, _ in told])) == [members for _, members in told]


def test_every_priority_has_its_names() -> None:
    told = list(lift([f"<{number}>x" for number in range(192)]))
    assert [(each["facility"], each["severity"]) for each in told if isinstance(each, dict)] == [
        (facility, severity) for facility in FACILITIES for severity in SEVERITIES
    ]


@given(st.text() | st.text(alphabet='<>1 -[]="\\a:\n').map(lambda text: f"<34>1 - - - - - {text}"))
def test_no_text_breaks_it(text: str) -> None:
    assert len(list(lift([text, "<34>1 - - - - - -"]))) == 2


VALUES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.dictionaries(st.sampled_from(["a", "b@1", "ö"]), st.dictionaries(st.sampled_from(["x", "y"]), VALUES)))
def test_structured_data_that_is_written_is_read(data: dict[str, dict[str, str]]) -> None:
    elements = [
        f"[{name}" + "".join(f' {key}="{_escaped(value)}"' for key, value in params.items()) + "]"
        for name, params in data.items()
    ]
    (lifted,) = lift([f"<34>1 - - - - - {''.join(elements) or '-'}"])
    assert isinstance(lifted, dict)
    assert lifted.get("structured_data", {}) == data


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
