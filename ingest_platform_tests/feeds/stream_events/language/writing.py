"""Random expressions of the rule language: their text, and what they mean in plain Python. Random events for them."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from ingest_platform_tests.feeds.stream_events.language import row_by_row as rows

# How tightly the outermost operator binds, weakest first.
OR, AND, NOT, COMPARISON, SUM, PRODUCT, UNARY, ATOM = range(8)


@dataclass(frozen=True, slots=True)
class Written:
    """An expression's text, how tightly it binds, and what it is for a document."""

    text: str
    binds: int
    run: rows.Run

    def at(self, binds: int) -> str:
        """Write it where something that binds so tightly is wanted."""
        return self.text if self.binds >= binds else f"({self.text})"


# Characters that this Python knows; in what it does not know, Rust may already see capital letters.
_characters = st.characters(exclude_categories=("Cs", "Cn"))
texts = st.one_of(
    st.sampled_from(
        ["", "a", "ab", "A", "ERROR", "error", "5", "true", "ß", "İ", "ΑΣ", "👩‍👧", "\u0000", "a\nb", '"', "\\"]
    ),
    st.text(_characters, max_size=5),
)
_few = st.integers(min_value=-2, max_value=3)
numbers = st.one_of(
    _few,
    _few,
    st.sampled_from([0.5, -0.0, 2**53, 2**53 + 1, 2**63, 2**64 + 2**11 + 1, 10**400, -(10**400), 1e308, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
)
_scalars = st.one_of(texts, numbers, st.booleans(), st.none())
values = st.one_of(
    _scalars,
    _scalars,
    st.lists(st.one_of(_scalars, st.just(value=[]), st.just({})), max_size=4),
    st.dictionaries(st.sampled_from(["x", "in"]), _scalars, max_size=2),
)
_instants = st.sampled_from(
    ["2026-05-06T12:15:32.441Z", "2026-05-06T14:15:32.441999+02:00", "2026-05-07T00:00:00Z", "0001-01-01T00:00:00Z"]
)
_lists = st.lists(st.one_of(texts, _few, st.booleans(), st.none(), st.just({})), max_size=4)
# Each member is mostly of one type, or most comparisons would be of two.
_objects = st.fixed_dictionaries(
    {
        "a": st.one_of(numbers, numbers, values),
        "b": st.one_of(texts, texts, values),
        "odd name": st.one_of(_lists, _lists, values),
    },
    optional={"o": values},
)
documents = st.fixed_dictionaries(
    {"event": st.one_of(_objects, _objects, _objects, values)},
    optional={
        "timestamp": st.one_of(_instants, _instants, values),
        "source": texts,
        "metadata": st.one_of(_objects, values),
    },
)

PATHS = {
    "event.a": ("event", "a"),
    "event.b": ("event", "b"),
    'event."odd name"': ("event", "odd name"),
    "event.o.x": ("event", "o", "x"),
    "event.o.in": ("event", "o", "in"),
    "metadata.a": ("metadata", "a"),
    "source": ("source",),
    "metadata": ("metadata",),
    "event.missing": ("event", "missing"),
}
_path_texts = st.sampled_from(sorted(PATHS))
fields = _path_texts.map(lambda text: Written(text, ATOM, rows.field(PATHS[text])))
_number_fields, _text_fields, _list_fields = (
    st.one_of(st.just(Written(text, ATOM, rows.field(PATHS[text]))), fields)
    for text in ("event.a", "event.b", 'event."odd name"')
)
_timestamp = Written("timestamp", ATOM, rows.field(("timestamp",)))


def _quoted(text: str) -> str:
    # JSON escapes all control characters but DEL.
    return json.dumps(text).replace("\x7f", "\\u007f")


def _literal(value: object) -> Written:
    text = _quoted(value) if isinstance(value, str) else json.dumps(value)
    binds = UNARY if text.startswith("-") else ATOM
    return Written(text, binds, rows.literal(rows.double(value)))


_finite = numbers.filter(lambda number: abs(number) <= 1e308)
_text_literals = texts.map(_literal)
_number_literals = _finite.map(_literal)
_boolean_literals = st.booleans().map(_literal)


def _instant_literal(text: str) -> Written:
    document: rows.Document = {"timestamp": text}
    return Written(json.dumps(text), ATOM, rows.literal(_timestamp.run(document).value))


def _called(name: str) -> Callable[[Written], Written]:
    return lambda argument: Written(f"{name}({argument.text})", ATOM, rows.call(name, argument.run))


text_values: st.SearchStrategy[Written] = st.deferred(
    lambda: st.one_of(
        _text_fields, _text_fields, _text_literals, text_values.map(_called("lower")), text_values.map(_called("upper"))
    )
)


@st.composite
def _arithmetic(draw: st.DrawFn) -> Written:
    word = draw(st.sampled_from("+-*/%"))
    left, right = draw(number_values), draw(number_values)
    binds = SUM if word in "+-" else PRODUCT
    run = rows.arithmetic(word, left.run, right.run)
    return Written(f"{left.at(binds)} {word} {right.at(binds + 1)}", binds, run)


number_values: st.SearchStrategy[Written] = st.deferred(
    lambda: st.one_of(
        _number_fields,
        _number_fields,
        _number_literals,
        _arithmetic(),
        text_values.map(_called("length")),
        number_values.map(lambda each: Written(f"-{each.at(UNARY)}", UNARY, rows.negative(each.run))),
    )
)


@st.composite
def _compared(draw: st.DrawFn) -> Written:
    word = draw(st.sampled_from(sorted(rows.COMPARED)))
    sides = [(text_values, text_values), (number_values, number_values)]
    if word in {"==", "!="}:
        sides.append((st.one_of(fields, _boolean_literals), st.one_of(fields, _boolean_literals)))
    one, other = draw(st.sampled_from(sides))
    left, right = draw(one), draw(other)
    if draw(st.integers(0, 9)) == 0:
        left, right = _timestamp, draw(_instants.map(_instant_literal))
    return Written(f"{left.at(SUM)} {word} {right.at(SUM)}", COMPARISON, rows.comparison(word, left.run, right.run))


@st.composite
def _affix(draw: st.DrawFn) -> Written:
    word = draw(st.sampled_from(["starts_with", "ends_with"]))
    left, right = draw(text_values), draw(text_values)
    return Written(f"{left.at(SUM)} {word} {right.at(SUM)}", COMPARISON, rows.affix(word, left.run, right.run))


_plain = st.one_of(_number_fields, _text_fields, _text_literals, _few.map(_literal), _boolean_literals)


@st.composite
def _contains(draw: st.DrawFn) -> Written:
    left = draw(st.one_of(_list_fields, _list_fields, text_values))
    right = draw(_plain if left.text in PATHS else text_values)
    return Written(f"{left.at(SUM)} contains {right.at(SUM)}", COMPARISON, rows.contains(left.run, right.run))


@st.composite
def _in(draw: st.DrawFn) -> Written:
    word = draw(st.sampled_from(["in", "not in"]))
    if draw(st.booleans()):
        left, right = draw(st.one_of(_plain, _plain, text_values, number_values)), draw(_list_fields)
        run, text = rows.contained(left.run, right.run), right.text
    else:
        of, choices = draw(st.sampled_from([(text_values, texts), (number_values, _finite), (fields, st.booleans())]))
        left, chosen = draw(of), draw(st.lists(choices, min_size=1, max_size=4))
        run = rows.among(left.run, [rows.double(each) for each in chosen])
        text = f"[{', '.join(_literal(each).text for each in chosen)}]"
    run = rows.negation(run) if word == "not in" else run
    return Written(f"{left.at(SUM)} {word} {text}", COMPARISON, run)


# Written alike and with one meaning in Python and Rust.
_PATTERNS = ["^a", "[a-c]+R?", "(?i)error", "ERR|WARN", r"\\", "é|ß", "(a|b)*b", r"^\d+"]


@st.composite
def _matches(draw: st.DrawFn) -> Written:
    left, pattern = draw(text_values), draw(st.sampled_from(_PATTERNS))
    written = f"r'{pattern}'" if draw(st.booleans()) else _quoted(pattern)
    return Written(f"{left.at(SUM)} matches {written}", COMPARISON, rows.matches(left.run, pattern))


_exists = st.one_of(
    _path_texts.map(lambda text: Written(f"exists({text})", ATOM, rows.exists(PATHS[text]))),
    _path_texts.map(lambda text: Written(f"{text} exists", COMPARISON, rows.exists(PATHS[text]))),
)


def _joined(word: str, binds: int, join: Callable[[list[rows.Run]], rows.Run]) -> Callable[[list[Written]], Written]:
    def written(operands: list[Written]) -> Written:
        text = f" {word} ".join(each.at(binds + 1) for each in operands)
        return Written(text, binds, join([each.run for each in operands]))

    return written


_compound: Callable[[st.SearchStrategy[Written]], st.SearchStrategy[Written]] = lambda inner: st.one_of(  # noqa: E731
    st.lists(inner, min_size=2, max_size=3).map(_joined("and", AND, rows.every)),
    st.lists(inner, min_size=2, max_size=3).map(_joined("or", OR, rows.either)),
    inner.map(lambda each: Written(f"not {each.at(NOT)}", NOT, rows.negation(each.run))),
)
_simple = st.one_of(
    _compared(),
    _compared(),
    _contains(),
    _in(),
    _affix(),
    _matches(),
    _exists,
    fields,
    _boolean_literals,
    st.just(Written("null", ATOM, rows.literal(None))),
)
conditions = st.recursive(_simple, _compound, max_leaves=6)
# Each in a test of its own; among the others they would be rare.
about_lists = st.one_of(_contains(), _in())
calculated = _arithmetic()
derived = st.one_of(number_values, text_values).filter(lambda each: each.text not in PATHS)
