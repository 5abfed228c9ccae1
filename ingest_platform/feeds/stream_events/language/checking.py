"""The types of an expression, looked at once when a rule is applied. How values are compared: `frames.py`."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from ingest_platform.feeds.stream_events.language.fault import RuleFault
from ingest_platform.feeds.stream_events.language.regexes import check_regex
from ingest_platform.feeds.stream_events.language.syntax import (
    Arithmetic,
    Call,
    Comparison,
    Either,
    Every,
    ListLiteral,
    Matches,
    Negative,
    Node,
    Not,
    Relation,
    Type,
    nodes_of,
    operands_of,
)

_TEXT_OR_FIELD = frozenset({Type.STRING, Type.ANY})
# A list in an event has elements of these types; its timestamps are texts, only `timestamp` itself is read as one.
_ELEMENTS = frozenset({Type.STRING, Type.NUMBER, Type.BOOLEAN, Type.ANY})


def check_types(root: Node) -> None:
    """Raise RuleFault for whatever no event could meet, at the place that comes first in the text."""
    for node in sorted((node for node, _ in nodes_of(root)), key=lambda node: node.column):
        match node:
            case Comparison():
                _COMPARISONS[node.relation](node)
            case Not():
                _check_operands(node, wanted={Type.BOOLEAN, Type.NULL}, who="`not`")
            case Every():
                _check_operands(node, wanted={Type.BOOLEAN, Type.NULL}, who="`and`")
            case Either():
                _check_operands(node, wanted={Type.BOOLEAN, Type.NULL}, who="`or`")
            case Arithmetic():
                _check_operands(node, wanted={Type.NUMBER}, who=f"`{node.operator}`")
            case Negative():
                _check_operands(node, wanted={Type.NUMBER}, who="`-`")
            case Call():
                _check_operands(node, wanted={Type.STRING}, who=f"`{node.function}`")
            case Matches():
                _check_operands(node, wanted={Type.STRING}, who="`matches`")
                check_regex(node.pattern, node.column)
            case _:
                pass


def _check_operands(node: Node, *, wanted: AbstractSet[Type], who: str) -> None:
    for operand in operands_of(node):
        if operand.type not in {*wanted, Type.ANY}:
            allowed = next(iter(wanted - {Type.NULL}))
            raise RuleFault(f"{who} takes {allowed} or a field, not {operand.type}", operand.column)


def _check_null(node: Comparison) -> None:
    for operand in (node.left, node.right):
        if operand.type is Type.NULL:
            message = f"nothing is `{node.relation}` null; write exists(…) or not exists(…)"
            raise RuleFault(message, operand.column)


def _check_scalars(node: Comparison) -> None:
    """Of one type, or one of them a field."""
    _check_null(node)
    left, right = node.left, node.right
    for operand in (left, right):
        if operand.type is Type.LIST:
            raise RuleFault("a list of values stands only on the right of `in`", operand.column)
    types = {left.type, right.type}
    if Type.TIMESTAMP in types and types != {Type.TIMESTAMP}:
        message = 'timestamp is compared with a text in RFC 3339 such as "2026-05-06T10:15:00Z"'
        raise RuleFault(message, right.column if left.type is Type.TIMESTAMP else left.column)
    if len(types - {Type.ANY}) > 1:
        raise RuleFault(f"{left.type} is never `{node.relation}` {right.type}", node.column)


def _check_order(node: Comparison) -> None:
    _check_scalars(node)
    for operand in (node.left, node.right):
        if operand.type is Type.BOOLEAN:
            raise RuleFault("true and false have no order; numbers, texts and timestamps have", operand.column)


def _check_contains(node: Comparison) -> None:
    _check_null(node)
    if node.left.type not in _TEXT_OR_FIELD:
        message = f"`contains` looks into a text, or a field that is a text or a list, not into {node.left.type}"
        raise RuleFault(message, node.left.column)
    allowed = _TEXT_OR_FIELD if node.left.type is Type.STRING else _ELEMENTS
    if node.right.type not in allowed:
        raise RuleFault(f"{node.left.type} never contains {node.right.type}", node.right.column)


def _check_affix(node: Comparison) -> None:
    _check_null(node)
    _check_operands(node, wanted={Type.STRING}, who=f"`{node.relation}`")


def _check_in(node: Comparison) -> None:
    _check_null(node)
    left, right = node.left, node.right
    if isinstance(right, ListLiteral):
        if left.type not in {right.of, Type.ANY}:
            raise RuleFault(f"{left.type} is never in a list of which each value is {right.of}", node.column)
    elif right.type is not Type.ANY:
        message = f'on the right of `in` stands a list such as ["a", "b"] or a field that is one, not {right.type}'
        raise RuleFault(message, right.column)
    elif left.type not in _ELEMENTS:
        raise RuleFault(f"{left.type} is in no list of an event", left.column)


_COMPARISONS: Mapping[Relation, Callable[[Comparison], None]] = {
    Relation.EQUAL: _check_scalars,
    Relation.UNEQUAL: _check_scalars,
    Relation.LESS: _check_order,
    Relation.AT_MOST: _check_order,
    Relation.MORE: _check_order,
    Relation.AT_LEAST: _check_order,
    Relation.CONTAINS: _check_contains,
    Relation.STARTS_WITH: _check_affix,
    Relation.ENDS_WITH: _check_affix,
    Relation.IN: _check_in,
}
