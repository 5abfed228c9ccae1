"""logfmt is read in one pass, with or without quotes, and no text breaks it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing.parsing.logfmt import _read, _scan, lift

KEYS = st.text(alphabet="abcö.-_/{}:", min_size=1, max_size=6)
BARE = st.text(alphabet="abcö=.:-\\", max_size=6)
QUOTED = st.text(max_size=10)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("level=info latency_ms=12", {"level": "info", "latency_ms": "12"}),
        ('  msg="took long"  slow ', {"msg": "took long", "slow": ""}),
        ("http.status=200 url=/x?a=b c=", {"http.status": "200", "url": "/x?a=b", "c": ""}),
        (r'msg="said \"no\"\n\tC:\\tmp é\x1b\u00e9\U0001f600"', {"msg": 'said "no"\n\tC:\\tmp é\x1bé😀'}),
        (r'half="\ud800" far="\Uffffffff" odd="\q"', {"half": "�", "far": "�", "odd": "q"}),
        ('a=1 a="2"', {"a": "2"}),
        ('empty=""', {"empty": ""}),
    ],
)
def test_pairs_become_members(text: str, members: object) -> None:
    assert list(lift([text])) == [members]


@pytest.mark.parametrize(
    "text", ["", " ", "just some words", "=1", "a=1 =2", 'a="open', 'a="b"c', 'a=b"c" d=1', '"a"=1', 'a=""b', '"words"']
)
def test_what_is_no_logfmt_is_not_lifted(text: str) -> None:
    assert list(lift([text])) == [None]


@given(st.text() | st.text(alphabet='ab=" \\\n\x1c'))
def test_the_quick_way_and_the_exact_one_agree_on_any_text(text: str) -> None:
    assert _read(text) == _scan(text)


@given(st.lists(st.tuples(KEYS, BARE | QUOTED.map(lambda text: (text,))), min_size=1, max_size=6))
def test_what_is_written_is_read(pairs: list[tuple[str, str | tuple[str]]]) -> None:
    text = " ".join(f"{key}={value if isinstance(value, str) else _quote(*value)}" for key, value in pairs)
    assert list(lift([text])) == [{key: value if isinstance(value, str) else value[0] for key, value in pairs}]


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def test_a_long_hostile_text_takes_no_time() -> None:
    assert (
        list(lift(["a" * 100_000 + '"', 'a="' + "\\" * 100_001, "=" * 100_000, 'a="b" ' * 50_000 + '"'])) == [None] * 4
    )
