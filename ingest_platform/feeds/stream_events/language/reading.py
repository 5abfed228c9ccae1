r"""Read the text of a rule as an expression: the grammar (`grammar.lark`), escapes, limits. Types: `checking.py`.

Neither the parser (LALR, a stack of its own) nor what is made of its steps calls itself, so no text is too deep for it.
"""

import functools
import math
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from importlib import resources
from typing import cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from ingest_platform.domain.timestamps import parse_instant
from ingest_platform.feeds.stream_events.language.fault import RuleFault
from ingest_platform.feeds.stream_events.language.syntax import (
    Arithmetic,
    Call,
    Comparison,
    Either,
    Every,
    Exists,
    Field,
    Function,
    ListLiteral,
    Literal,
    Matches,
    Negative,
    Node,
    Not,
    Operator,
    Path,
    Relation,
    Scalar,
    Type,
    nodes_of,
)

# A rule is written by hand; 4,096 characters are a screen full of it.
TEXT_CHARACTERS_MAX = 4096
# Whatever works on an expression may call itself for each level.
NESTING_MAX = 64

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MEMBER = re.compile(r'"((?:[^"\\]|\\.)+)"|([^."]+)')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "/": "/", "\\": "\\", '"': '"', "'": "'"}

# What people write who know other languages, or forget, by the character that is not understood.
_HINTS = {
    "=": "`=` is written `==` here",
    "&": "`&&` is written `and` here",
    "|": "`||` is written `or` here",
    "!": "`!` is written `not` here",
    '"': 'the text that begins here does not end; quotes and control characters in it are escaped (\\", \\n)',
    "'": "the text that begins here does not end; quotes and control characters in it are escaped (\\', \\n)",
    ".": 'members of a field are joined by single dots, and odd ones quoted: event."odd name"',
}
_KEYWORDS = {
    name.upper(): name
    for name in (
        *("or", "and", "not", "in", "contains", "starts_with", "ends_with", "matches", "exists"),
        *("true", "false", "null"),
    )
}
# Tokens as messages call them.
_CALLED = {
    "TEXT": "a text",
    "RAW_TEXT": "a text",
    "NUMBER": "a number",
    "PATH": "a field",
    "$END": "the end",
    "LPAR": "(",
    "RPAR": ")",
    "OPENING": "[",
    "RSQB": "]",
    "COMMA": ",",
    "EQUAL": "==",
    "UNEQUAL": "!=",
    "LESS": "<",
    "AT_MOST": "<=",
    "MORE": ">",
    "AT_LEAST": ">=",
    "PLUS": "+",
    "MINUS": "-",
    "STAR": "*",
    "SLASH": "/",
    "PERCENT": "%",
    **_KEYWORDS,
}


def read_expression(text: str) -> Node:
    """Read a rule's text. Raises RuleFault at the first fault; types are not looked at."""
    _check_text(text)
    parsing = _parser().parse_interactive(text)
    open_at_once = 0
    try:
        for token in parsing.iter_parse():
            open_at_once += (token.type in {"LPAR", "OPENING"}) - (token.type in {"RPAR", "RSQB"})
            if open_at_once > NESTING_MAX:
                raise _too_deep(_column(token))
        root = cast("Node", parsing.feed_eof())
    except UnexpectedInput as unexpected:
        raise _syntax_fault(text, unexpected) from None
    for node, depth in nodes_of(root):
        if depth > NESTING_MAX:
            raise _too_deep(node.column)
    return root


def _check_text(text: str) -> None:
    if len(text) > TEXT_CHARACTERS_MAX:
        message = f"the rule has {len(text)} characters; at most {TEXT_CHARACTERS_MAX} are allowed"
        raise RuleFault(message, TEXT_CHARACTERS_MAX + 1)
    if not text.strip():
        raise RuleFault('the rule is empty; write a condition such as event.level == "ERROR"', 1)
    for column, character in enumerate(text, start=1):
        if (ord(character) < ord(" ") and character not in "\t\r\n") or "\ud800" <= character <= "\udfff":
            raise RuleFault(f"the character U+{ord(character):04X} is not allowed; escape it in a text", column)


def _too_deep(column: int) -> RuleFault:
    return RuleFault(f"the rule is nested deeper than {NESTING_MAX} levels", column)


def _column(token: Token) -> int:
    return cast("int", token.start_pos) + 1


def _syntax_fault(text: str, unexpected: UnexpectedInput) -> RuleFault:
    """Say what stands where the parser stopped, and what may stand there."""
    if isinstance(unexpected, UnexpectedCharacters):
        place = cast("int", unexpected.pos_in_stream)
        hint = _HINTS.get(text[place], f"`{text[place]}` has no meaning in a rule; texts stand in quotes")
        return RuleFault(hint, place + 1)
    assert isinstance(unexpected, UnexpectedToken)
    token, allowed = unexpected.token, _called(unexpected.accepts or unexpected.expected)
    if token.type == "$END":
        return RuleFault(f"the rule ends too early; what may follow is {allowed}", len(text) + 1)
    if token.lower() in _KEYWORDS.values() and not token.islower():
        return RuleFault(f"`{token}` is written `{token.lower()}` here", _column(token))
    return RuleFault(f"`{token}` can't stand here; what may is {allowed}", _column(token))


def _called(tokens: AbstractSet[str]) -> str:
    called = sorted({_CALLED[name] for name in tokens})
    return ", ".join(called[:-1]) + " or " + called[-1] if len(called) > 1 else "".join(called)


@functools.cache
def _parser() -> Lark:
    """Build the parser once, and only where rules are read."""
    grammar = (
        resources.files("ingest_platform.feeds.stream_events.language")
        .joinpath("grammar.lark")
        .read_text(encoding="utf-8")
    )
    return Lark(grammar, parser="lalr", lexer="basic", maybe_placeholders=False, transformer=_Nodes())


def _unescaped(body: str, column: int) -> str:
    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code.startswith("u") and len(code) > 1:
            return chr(int(code[1:], 16))
        if code not in _ESCAPED:
            message = (
                f"\\{code} is no escape; there are \\n, \\r, \\t, \\b, \\f, \\/, \\\\, \\\", \\' and \\uXXXX. "
                'In a raw text, r"…", a backslash is itself'
            )
            raise RuleFault(message, column + 1 + found.start())
        return _ESCAPED[code]

    try:
        # A pair of \ud83d\ude00 is one character, half of it is none.
        return _ESCAPE.sub(one, body).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise RuleFault("a \\ud800…\\udfff stands in a text without its other half", column) from None


def _path(token: Token) -> Path:
    members = list[str]()
    for found in _MEMBER.finditer(token):
        quoted, plain = found[1], found[2]
        if plain and "-" in plain:
            message = f'blanks belong around a minus; a member with a hyphen is quoted: event."{plain}"'
            raise RuleFault(message, _column(token) + found.start() + plain.index("-"))
        members.append(plain or re.sub(r"\\(.)", r"\1", quoted))
    return tuple(members)


def _number(token: Token) -> float:
    if not _NUMBER.fullmatch(token):
        raise RuleFault(f"`{token}` is no number; numbers are written 5, 0.25 or 1e6", _column(token))
    value = float(token)
    if not math.isfinite(value):
        raise RuleFault(f"{token} is beyond the numbers of JSON, which are doubles", _column(token))
    return value


# What the parser's steps hand on: nodes, and the tokens that stand between them.
_Parts = Sequence[Node | Token]


def _operands(parts: _Parts) -> tuple[Node, ...]:
    return tuple(part for part in parts if not isinstance(part, Token))


def _first_token(parts: _Parts) -> Token:
    return next(part for part in parts if isinstance(part, Token))


def _comparison(relation: Relation, operands: Sequence[Node], column: int) -> Comparison:
    left, right = operands
    if left.type is Type.TIMESTAMP:
        right = _as_instants(right)
    elif right.type is Type.TIMESTAMP:
        left = _as_instants(left)
    return Comparison(relation=relation, left=left, right=right, column=column)


def _as_instants(node: Node) -> Node:
    """Read texts that `timestamp` is compared with; whatever else stands there is for the types' check to refuse."""
    match node:
        case Literal(value=str(text)):
            return Literal(value=_instant(text, node.column), type=Type.TIMESTAMP, column=node.column)
        case ListLiteral(of=Type.STRING):
            values = tuple(_instant(cast("str", text), node.column) for text in node.values)
            return ListLiteral(values=values, of=Type.TIMESTAMP, column=node.column)
        case _:
            return node


def _instant(text: str, column: int) -> datetime:
    instant = parse_instant(text)
    if instant is None:
        message = 'timestamp is compared with a text in RFC 3339 such as "2026-05-06T10:15:00Z"'
        raise RuleFault(message, column)
    return instant


class _Nodes(Transformer[Token, Node]):
    """Make a node of each rule of the grammar, as the parser completes it."""

    def disjunction(self, parts: _Parts) -> Node:
        if len(parts) == 1:
            return _operands(parts)[0]
        return Either(operands=_operands(parts), column=_column(_first_token(parts)))

    def conjunction(self, parts: _Parts) -> Node:
        if len(parts) == 1:
            return _operands(parts)[0]
        return Every(operands=_operands(parts), column=_column(_first_token(parts)))

    def group(self, parts: _Parts) -> Node:
        return _operands(parts)[0]

    def not_(self, parts: _Parts) -> Node:
        return Not(operand=_operands(parts)[0], column=_column(_first_token(parts)))

    def compared(self, parts: _Parts) -> Node:
        operator = _first_token(parts)
        return _comparison(Relation(operator), _operands(parts), _column(operator))

    contains = affix = in_ = compared

    def not_in(self, parts: _Parts) -> Node:
        column = _column(_first_token(parts))
        return Not(operand=_comparison(Relation.IN, _operands(parts), column), column=column)

    def matches(self, parts: _Parts) -> Node:
        text, pattern = _operands(parts)
        if not (isinstance(pattern, Literal) and isinstance(pattern.value, str)):
            raise RuleFault("on the right of `matches` stands a regular expression in quotes", pattern.column)
        return Matches(text=text, pattern=pattern.value, column=pattern.column)

    def arithmetic(self, parts: _Parts) -> Node:
        left, right = _operands(parts)
        operator = _first_token(parts)
        return Arithmetic(operator=Operator(operator), left=left, right=right, column=_column(operator))

    def negative(self, parts: _Parts) -> Node:
        return Negative(operand=_operands(parts)[0], column=_column(_first_token(parts)))

    def exists(self, parts: _Parts) -> Node:
        path = next(part for part in parts if isinstance(part, Token) and part.type == "PATH")
        return Exists(field=Field(path=_path(path), column=_column(path)), column=_column(_first_token(parts)))

    postfix_exists = exists

    def call(self, parts: _Parts) -> Node:
        name, argument = _first_token(parts), _operands(parts)[0]
        if name not in set(Function):
            functions = ", ".join(Function)
            raise RuleFault(f"there is no function `{name}`; there are {functions} and exists", _column(name))
        return Call(function=Function(name), argument=argument, column=_column(name))

    def field(self, parts: _Parts) -> Node:
        token = _first_token(parts)
        return Field(path=_path(token), column=_column(token))

    def text(self, parts: _Parts) -> Node:
        token = _first_token(parts)
        column = _column(token)
        return Literal(value=_unescaped(token[1:-1], column), type=Type.STRING, column=column)

    def raw_text(self, parts: _Parts) -> Node:
        token = _first_token(parts)
        return Literal(value=token[2:-1], type=Type.STRING, column=_column(token))

    def number(self, parts: _Parts) -> Node:
        token = _first_token(parts)
        return Literal(value=_number(token), type=Type.NUMBER, column=_column(token))

    def negative_number(self, parts: _Parts) -> Node:
        minus, token = cast("tuple[Token, Token]", parts)
        return Literal(value=-_number(token), type=Type.NUMBER, column=_column(minus))

    def boolean(self, parts: _Parts) -> Node:
        token = _first_token(parts)
        return Literal(value=str(token) == "true", type=Type.BOOLEAN, column=_column(token))

    def null(self, parts: _Parts) -> Node:
        return Literal(value=None, type=Type.NULL, column=_column(_first_token(parts)))

    def list(self, parts: _Parts) -> Node:
        column, items = _column(_first_token(parts)), cast("tuple[Literal, ...]", _operands(parts))
        if not items:
            raise RuleFault("a list has at least one value", column)
        for item in items:
            if item.type is Type.NULL:
                raise RuleFault("null is in no list; ask for it by `not exists(…)`", item.column)
            if item.type is not items[0].type:
                message = f"the values of a list are of one type; this is {item.type}, the first is {items[0].type}"
                raise RuleFault(message, item.column)
        values = tuple(cast("Scalar", item.value) for item in items)
        return ListLiteral(values=values, of=items[0].type, column=column)
