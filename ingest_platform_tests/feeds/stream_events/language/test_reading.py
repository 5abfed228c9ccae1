"""What a rule's text says, and what is said of one that is wrong: with its column, and never by a crash."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.language import RuleFault, compile_expression
from ingest_platform.feeds.stream_events.language.reading import NESTING_MAX, TEXT_CHARACTERS_MAX, read_expression
from ingest_platform.feeds.stream_events.language.syntax import Literal, nodes_of


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "the rule is empty"),
        ("  \n", 1, "the rule is empty"),
        ("event.level = 5", 13, "`=` is written `==` here"),
        ("event.a && event.b", 9, "`&&` is written `and` here"),
        ("event.a || event.b", 9, "`||` is written `or` here"),
        ("!event.a", 1, "`!` is written `not` here"),
        ("event.a AND event.b", 9, "`AND` is written `and` here"),
        ("event.a <", 10, "the rule ends too early; what may follow is (, -, [, a field, a number, a text,"),
        ("event.a < 5 < 6", 13, "`<` can't stand here"),
        ("event.a == not event.b", 12, "`not` can't stand here"),
        ("(event.a", 9, "the rule ends too early; what may follow is )"),
        ("event.a)", 8, "`)` can't stand here"),
        ("event.tags[0] == 5", 11, "`[` can't stand here"),
        ('event.a == "abc', 12, "the text that begins here does not end"),
        ('event.a == "a\tb"', 12, "the text that begins here does not end"),
        ("event.a == “abc”", 12, "`“` has no meaning in a rule; texts stand in quotes"),
        ('event.a == "\\d"', 13, "\\d is no escape; there are \\n,"),
        ('event.a == "\\ud800"', 12, "without its other half"),
        ("event.a == 5ms", 12, "`5ms` is no number"),
        ("event.a == 1_000", 12, "`1_000` is no number"),
        ("event.a == 1e999", 12, "1e999 is beyond the numbers of JSON"),
        ("event..a", 6, "members of a field are joined by single dots"),
        ('event.user-agent == "x"', 11, 'a member with a hyphen is quoted: event."user-agent"'),
        ("event.a-1 > 5", 8, "blanks belong around a minus"),
        ("round(event.a) > 5", 1, "there is no function `round`; there are lower, upper, length and exists"),
        ("event.a in []", 12, "a list has at least one value"),
        ('event.a in [1, "x"]', 16, "the values of a list are of one type; this is a text, the first is a number"),
        ("event.a in [1, null]", 16, "null is in no list"),
        ("event.a matches event.b", 17, "on the right of `matches` stands a regular expression in quotes"),
        ('timestamp > "yesterday"', 13, "timestamp is compared with a text in RFC 3339"),
        ('timestamp in ["2026-05-06T10:15:00Z", "x"]', 14, "timestamp is compared with a text in RFC 3339"),
        ("event.a > 1 and\n event.b ==", 28, "the rule ends too early"),
        ("event.a == 5 \x00", 14, "the character U+0000 is not allowed"),
        ("event.a == '\ud800'", 13, "the character U+D800 is not allowed"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_column(text: str, column: int, says: str) -> None:
    with pytest.raises(RuleFault) as caught:
        read_expression(text)
    assert (caught.value.column, says in caught.value.message) == (column, True), caught.value


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1000 + "true" + ")" * 1000,
        "(" * (NESTING_MAX + 1),
        "not " * 1000 + "true",
        "- " * 1000 + "1 > 0",
        "1" + " + 1" * 1000 + " > 0",
        "length(" * 500 + "source" + ")" * 500 + " > 0",
        "[" * 2000,
    ],
)
def test_what_is_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(RuleFault, match=r"nested deeper than 64 levels|`\[` can't stand here"):
        read_expression(text)


def test_what_is_nested_as_deep_as_is_allowed_is_read() -> None:
    read_expression("(" * NESTING_MAX + "true" + ")" * NESTING_MAX)
    read_expression("not " * (NESTING_MAX - 1) + "true")
    # However many there are, they stand beside each other.
    read_expression(" or ".join(["event.a"] * 370))


def test_a_rule_is_no_longer_than_its_limit() -> None:
    read_expression("true".ljust(TEXT_CHARACTERS_MAX))
    with pytest.raises(RuleFault, match="the rule has 4097 characters; at most 4096 are allowed"):
        read_expression("true".ljust(TEXT_CHARACTERS_MAX + 1))


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (r'"a\"b\\c\/d\n\t"', 'a"b\\c/d\n\t'),
        (r"'it\'s'", "it's"),
        (r'"\u00e9\ud83d\ude00\u0000"', "é😀\0"),
        (r'r"\d+\.\w"', r"\d+\.\w"),
        ("r'\"'", '"'),
        ('"größe 👩‍👧"', "größe 👩‍👧"),
        ("0.25", 0.25),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
    ],
)
def test_a_literal_is_what_is_written(written: str, means: object) -> None:
    node = read_expression(written)
    assert isinstance(node, Literal)
    assert node.value == means


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("event.level", ("event", "level")),
        ("event.in", ("event", "in")),
        ("event.404", ("event", "404")),
        ("@timestamp.x", ("@timestamp", "x")),
        ('event."odd.name".größe', ("event", "odd.name", "größe")),
        (r'event."a \"b\" \\"', ("event", 'a "b" \\')),
        ('event."user-agent"', ("event", "user-agent")),
        ("inner", ("inner",)),
    ],
)
def test_a_field_is_members_joined_by_dots(text: str, path: tuple[str, ...]) -> None:
    assert compile_expression(text).copies == path


_WORDS = (
    *(
        "event.a",
        'event."x y"',
        "metadata",
        "timestamp",
        '"a"',
        "'b'",
        'r"["',
        '"2026-01-01T00:00:00Z"',
        "5",
        "1e9",
        "-",
    ),
    *("and", "or", "not", "in", "contains", "matches", "starts_with", "exists", "true", "null", "lower", "length"),
    *(
        "(",
        ")",
        "[",
        "]",
        ",",
        "==",
        "!=",
        "<",
        ">=",
        "+",
        "*",
        "/",
        "%",
        "=",
        "&",
        "\\",
        '"',
        "\n",
        "\x00",
        "é",
        "\ud800",
    ),
)


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(_WORDS), max_size=12).map(" ".join)))
@example("\ufeff")
@example("event.a == \u2028 5")
@example("٣ > 2")
@example("event.²")
def test_any_text_is_an_expression_or_refused_in_a_place_of_it(text: str) -> None:
    columns, message = _columns_of(text)
    assert all(1 <= column <= len(text) + 1 for column in columns)
    assert message != ""


def _columns_of(text: str) -> tuple[list[int], str | None]:
    """List the columns that are told of a text: of its fault (with its message), or of its parts."""
    try:
        expression = compile_expression(text)
    except RuleFault as fault:
        return [fault.column], fault.message
    return [node.column for node, _ in nodes_of(expression.root)], None
