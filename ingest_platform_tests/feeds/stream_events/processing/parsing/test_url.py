"""URLs are taken apart after RFC 3986, and hostile ones are none."""

from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing.parsing.url import QUERY_NAMES_MAX, lift

NAMES = st.text(min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        (
            "HTTPS://Shop.Example.COM:8443/a%20b/c?q=two+w%C3%B6rds&x=1&x=2&flag#top",
            {
                "scheme": "https",
                "host": "shop.example.com",
                "port": 8443,
                "path": "/a%20b/c",
                "query": {"q": "two wörds", "x": ["1", "2"], "flag": ""},
                "fragment": "top",
            },
        ),
        ("/search?q=1", {"path": "/search", "query": {"q": "1"}}),
        ("//cdn.example.com/x.js", {"host": "cdn.example.com", "path": "/x.js"}),
        ("http://[2001:DB8::1]:80/", {"scheme": "http", "host": "2001:db8::1", "port": 80, "path": "/"}),
        ("mailto:frank@example.com", {"scheme": "mailto", "path": "frank@example.com"}),
        ("file:///etc/passwd", {"scheme": "file", "path": "/etc/passwd"}),
        ("http://example.com?", {"scheme": "http", "host": "example.com"}),
        ("http://bücher.example:/", {"scheme": "http", "host": "bücher.example", "path": "/"}),
    ],
)
def test_parts_become_members(text: str, members: object) -> None:
    assert list(lift([text])) == [members]


def test_a_password_is_not_lifted() -> None:
    assert list(lift(["https://frank:hunter2@example.com/"])) == [
        {"scheme": "https", "host": "example.com", "path": "/"}
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "words of a sentence",
        "www.example.com/no-scheme",
        "http://example.com:99999/",
        "http://example.com:" + "9" * 10_000,
        "http://example.com:port/",
        "http://example.com:٣/",
        "http://[::1/",
        "http://[1:2:3]/",
        "http://a]b/",
        "http://a b/",
        "http://a\\b/",
        "http://user@name@host/",
        "http://example.com/\x00",
        "http://example.com/a\nHost: evil",
        "http://<script>/",
        "/?" + "&".join(f"a{number}" for number in range(QUERY_NAMES_MAX + 1)),
    ],
)
def test_what_is_no_url_is_not_lifted(text: str) -> None:
    assert list(lift([text])) == [None]


@given(st.text() | st.text(alphabet="htp:/@[]?#&=%+.a1 ").map(lambda text: f"http://{text}"))
def test_no_text_breaks_it_and_what_is_found_is_what_the_standard_library_finds(text: str) -> None:
    (lifted,) = lift([text])
    if lifted is not None:
        members, split = dict(lifted), urlsplit(text)
        assert members.get("scheme", "") == split.scheme
        assert members.get("host", "") == (split.hostname or "")
        assert members.get("port", 0) == (split.port or 0)
        assert members.get("path", "") == split.path
        assert members.get("fragment", "") == split.fragment


@given(st.dictionaries(NAMES, NAMES, min_size=1, max_size=5))
def test_the_query_is_read_as_browsers_write_it(query: dict[str, str]) -> None:
    assert list(lift([f"/?{urlencode(query)}"])) == [{"path": "/", "query": query}]
