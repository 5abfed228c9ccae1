"""Rules that no event could meet are refused when they are applied, at the place of the fault."""

import pytest

from ingest_platform.feeds.stream_events.language import RuleFault, compile_expression


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ('"a" < 5', 5, "a text is never `<` a number"),
        ('lower(event.a) == 5 or event.b == "x"', 16, "a text is never `==` a number"),
        ("event.a + 1 == true", 13, "a number is never `==` true or false"),
        ('not "x"', 5, "`not` takes true or false or a field, not a text"),
        ("event.a and 5", 13, "`and` takes true or false or a field, not a number"),
        ("length(event.a) or true", 1, "`or` takes true or false or a field, not a number"),
        ('event.a + "x" > 1', 11, "`+` takes a number or a field, not a text"),
        ("-(event.a == 1) > 1", 11, "`-` takes a number or a field, not true or false"),
        ("lower(5) == event.a", 7, "`lower` takes a text or a field, not a number"),
        ("5 matches 'x'", 1, "`matches` takes a text or a field, not a number"),
        ("event.a starts_with 5", 21, "`starts_with` takes a text or a field, not a number"),
        ("event.a == null", 12, "nothing is `==` null; write exists(…) or not exists(…)"),
        ("null in event.a", 1, "nothing is `in` null"),
        ("event.a < true", 11, "true and false have no order"),
        ('event.a == ["x"]', 12, "a list of values stands only on the right of `in`"),
        ("5 in event.a + 1", 14, "on the right of `in` stands a list such as"),
        ('5 in ["a"]', 3, "a number is never in a list of which each value is a text"),
        ("timestamp > 5", 13, "timestamp is compared with a text in RFC 3339"),
        ("event.a == timestamp", 1, "timestamp is compared with a text in RFC 3339"),
        ("timestamp in event.a", 1, "a timestamp is in no list of an event"),
        (
            "5 contains event.a",
            1,
            "`contains` looks into a text, or a field that is a text or a list, not into a number",
        ),
        ("lower(event.a) contains 5", 25, "a text never contains a number"),
        ("event.a contains (event.b == 1) == true", 33, "`==` can't stand here"),
        ("event.a matches '['", 17, "the regular expression is refused: unclosed character class"),
    ],
)
def test_what_no_event_could_meet_is_refused_with_its_column(text: str, column: int, says: str) -> None:
    with pytest.raises(RuleFault) as caught:
        compile_expression(text)
    assert (caught.value.column, says in caught.value.message) == (column, True), caught.value


def test_the_first_fault_of_the_text_is_told() -> None:
    with pytest.raises(RuleFault, match="column 5: a text is never `<` a number"):
        compile_expression('"a" < 5 and not "x"')
