"""Expressions as Polars evaluates them over the columns of `columns.py`: values of three kinds, and type faults.

The laws (docs/rules.md) are for each event:

- A field that is missing or null is null, and so is whatever is compared with it or calculated of it. `and`, `or` and
  `not` are Kleene's: `false and null` is false, `true or null` is true, else null stays null.
- A value of a type that the operation does not take makes its result null too, and **faulty**. A result is faulty if it
  is null and something that it was made of is faulty. So what is decided either way (`faulty and false`) is not.

What can't be in these columns, by their kinds, is left out of the Polars expression, so that a field that is always a
text costs one comparison and no look for faults.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from ingest_platform.feeds.stream_events.language.columns import ELEMENT_KINDS, INSTANT, Kind, column_name
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
    Type,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """A node's values by kind, each null where the value is of another kind or null, and where it is faulty.

    `fault` None means that nothing can be. `elements` are those of lists, by kind.
    """

    kinds: Mapping[Kind, pl.Expr]
    fault: pl.Expr | None = None
    elements: Mapping[Kind, pl.Expr] = field(default_factory=dict[Kind, pl.Expr])


_Operation = Callable[[pl.Expr, pl.Expr], pl.Expr]
_Pairs = Mapping[tuple[Kind, Kind], _Operation]

_KINDS_OF_TYPES: Mapping[Type, tuple[Kind, pl.DataType]] = {
    Type.BOOLEAN: (Kind.BOOLEAN, pl.Boolean()),
    Type.NUMBER: (Kind.NUMBER, pl.Float64()),
    Type.STRING: (Kind.STRING, pl.String()),
    Type.TIMESTAMP: (Kind.TIMESTAMP, INSTANT),
}
_EQUAL_KINDS = (Kind.STRING, Kind.NUMBER, Kind.BOOLEAN, Kind.TIMESTAMP)
_ORDERED_KINDS = (Kind.STRING, Kind.NUMBER, Kind.TIMESTAMP)
_UNKNOWN = pl.lit(None, dtype=pl.Boolean)


def values_of(node: Node, columns: pl.DataFrame) -> Values:
    """Translate an expression whose types are checked, for a frame that has columns of all its paths."""
    match node:
        case Literal() | ListLiteral():
            values = _literal(node)
        case Field():
            values = _field(node.path, columns)
        case Exists():
            values = Values(kinds={Kind.BOOLEAN: _present(_field(node.field.path, columns).kinds)})
        case Not():
            truth = truth_of(values_of(node.operand, columns))
            values = Values(kinds={Kind.BOOLEAN: ~truth.kinds[Kind.BOOLEAN]}, fault=truth.fault)
        case Every() | Either():
            values = _junction(node, [truth_of(values_of(operand, columns)) for operand in node.operands])
        case Comparison():
            values = _comparison(node, columns)
        case Arithmetic() | Negative():
            values = _calculated(node, columns)
        case Matches():
            look = {Kind.STRING: lambda text: text.str.contains(node.pattern, literal=False, strict=True)}
            values = _single(values_of(node.text, columns), look, gives=Kind.BOOLEAN)
        case Call():
            gives = Kind.NUMBER if node.type is Type.NUMBER else Kind.STRING
            values = _single(values_of(node.argument, columns), _FUNCTIONS[node.function], gives=gives)
    return values


def truth_of(values: Values) -> Values:
    """Take values as true or false; whatever else they are is a fault."""
    made = _single(values, {Kind.BOOLEAN: lambda truth: truth}, gives=Kind.BOOLEAN)
    return made if made.kinds else Values(kinds={Kind.BOOLEAN: _UNKNOWN}, fault=made.fault)


def _literal(node: Literal | ListLiteral) -> Values:
    assert isinstance(node, Literal), "a list is translated with the `in` that it belongs to"
    if node.type is Type.NULL:
        return Values(kinds={})
    kind, dtype = _KINDS_OF_TYPES[node.type]
    return Values(kinds={kind: pl.lit(node.value, dtype=dtype)})


def _field(path: Path, columns: pl.DataFrame) -> Values:
    names = {kind: column_name(path, kind) for kind in Kind}
    elements = {kind: column_name(path, f"{Kind.LIST}.{kind}") for kind in ELEMENT_KINDS}
    return Values(
        kinds={kind: pl.col(name) for kind, name in names.items() if name in columns.columns},
        elements={kind: pl.col(name) for kind, name in elements.items() if name in columns.columns},
    )


def _present(kinds: Mapping[Kind, pl.Expr]) -> pl.Expr:
    present = _any([each.is_not_null() for each in kinds.values()])
    return pl.lit(value=False) if present is None else present


def _any(parts: Sequence[pl.Expr | None]) -> pl.Expr | None:
    return _joined([part for part in parts if part is not None], operator.or_)


def _joined(parts: Sequence[pl.Expr], join: _Operation) -> pl.Expr | None:
    """Join any number of parts, no deeper than their number needs; None if there are none."""
    while len(parts) > 1:
        pairs = [parts[place : place + 2] for place in range(0, len(parts), 2)]
        parts = [join(*pair) if len(pair) > 1 else pair[0] for pair in pairs]
    return parts[0] if parts else None


def _junction(node: Every | Either, operands: Sequence[Values]) -> Values:
    """Join by `and` or `or`; a fault stays one only where the whole is undecided."""
    join: _Operation = (lambda left, right: left & right) if isinstance(node, Every) else (operator.or_)
    value = _joined([operand.kinds[Kind.BOOLEAN] for operand in operands], join)
    assert value is not None
    fault = _any([operand.fault for operand in operands])
    return Values(kinds={Kind.BOOLEAN: value}, fault=None if fault is None else value.is_null() & fault)


def _single(operand: Values, operations: Mapping[Kind, Callable[[pl.Expr], pl.Expr]], *, gives: Kind) -> Values:
    """Make something of one value, in a way for each kind that is taken."""
    made = [operations[kind](each) for kind, each in operand.kinds.items() if kind in operations]
    others = {kind: each for kind, each in operand.kinds.items() if kind not in operations}
    fault = _any([operand.fault, _present(others) if others else None])
    return Values(kinds={gives: _first(made)} if made else {}, fault=fault)


def _first(parts: Sequence[pl.Expr]) -> pl.Expr:
    return parts[0] if len(parts) == 1 else pl.coalesce(*parts)


def _both(left: Values, right: Values, pairs: _Pairs, *, gives: Kind) -> Values:
    """Make something of two values, in a way for each pair of kinds that is taken; each is null if one of them is."""
    met = [(one, other) for one in left.kinds for other in right.kinds]
    made = [pairs[pair](left.kinds[pair[0]], right.kinds[pair[1]]) for pair in met if pair in pairs]
    parts = [left.fault, right.fault]
    if len(made) < len(met):
        apart = _present(left.kinds) & _present(right.kinds)
        parts.append(apart & _first(made).is_null() if made else apart)
    return Values(kinds={gives: _first(made)} if made else {}, fault=_any(parts))


def _same(kinds: Sequence[Kind], operation: _Operation) -> _Pairs:
    return {(kind, kind): operation for kind in kinds}


def _comparison(node: Comparison, columns: pl.DataFrame) -> Values:
    left = values_of(node.left, columns)
    if isinstance(node.right, ListLiteral):
        kind, _dtype = _KINDS_OF_TYPES[node.right.of]
        among = list(node.right.values)
        return _single(left, {kind: lambda each: each.is_in(among)}, gives=Kind.BOOLEAN)
    right = values_of(node.right, columns)
    match node.relation:
        case Relation.CONTAINS:
            pairs = {(Kind.STRING, Kind.STRING): _contains_text, **_membership(left)}
            return _both(left, right, pairs, gives=Kind.BOOLEAN)
        case Relation.IN:
            return _both(right, left, _membership(right), gives=Kind.BOOLEAN)
        case _:
            return _both(left, right, _COMPARISONS[node.relation], gives=Kind.BOOLEAN)


def _contains_text(text: pl.Expr, part: pl.Expr) -> pl.Expr:
    return text.str.contains(part, literal=True)


def _membership(lists: Values) -> _Pairs:
    """Look for a value among the elements of its own kind."""

    def look(kind: Kind) -> _Operation:
        elements = lists.elements.get(kind)

        def operation(length: pl.Expr, value: pl.Expr) -> pl.Expr:
            # Polars would find null in a list that has one. Without elements of this kind a list may be null here.
            both = length.is_not_null() & value.is_not_null()
            found = pl.lit(value=False) if elements is None else elements.list.contains(value).fill_null(value=False)
            return pl.when(both).then(found)

        return operation

    return {(Kind.LIST, kind): look(kind) for kind in ELEMENT_KINDS}


_COMPARISONS: Mapping[Relation, _Pairs] = {
    Relation.EQUAL: _same(_EQUAL_KINDS, operator.eq),
    Relation.UNEQUAL: _same(_EQUAL_KINDS, operator.ne),
    Relation.LESS: _same(_ORDERED_KINDS, operator.lt),
    Relation.AT_MOST: _same(_ORDERED_KINDS, operator.le),
    Relation.MORE: _same(_ORDERED_KINDS, operator.gt),
    Relation.AT_LEAST: _same(_ORDERED_KINDS, operator.ge),
    Relation.STARTS_WITH: _same([Kind.STRING], lambda left, right: left.str.starts_with(right)),
    Relation.ENDS_WITH: _same([Kind.STRING], lambda left, right: left.str.ends_with(right)),
}

_OPERATORS: Mapping[Operator, _Operation] = {
    Operator.PLUS: operator.add,
    Operator.MINUS: operator.sub,
    Operator.TIMES: operator.mul,
    Operator.OVER: operator.truediv,
    Operator.MODULO: operator.mod,
}

_FUNCTIONS: Mapping[Function, Mapping[Kind, Callable[[pl.Expr], pl.Expr]]] = {
    Function.LOWER: {Kind.STRING: lambda text: text.str.to_lowercase()},
    Function.UPPER: {Kind.STRING: lambda text: text.str.to_uppercase()},
    Function.LENGTH: {
        Kind.STRING: lambda text: text.str.len_chars().cast(pl.Float64),
        Kind.LIST: lambda length: length,
    },
}


def _calculated(node: Arithmetic | Negative, columns: pl.DataFrame) -> Values:
    """Calculate in doubles. What is no number then (a division by zero, beyond the doubles) is null, and no fault.

    Looked at once at the end: whatever is calculated of infinity or of no number is no number again, unless it is what
    something is divided by. Looked at after each step, an expression would stand twice in the next and soon be endless.
    """
    raw, divisors = _raw(node, columns)
    numbers = raw.kinds.get(Kind.NUMBER)
    if numbers is None:
        return raw
    finite = _joined([each.is_finite() for each in (numbers, *divisors)], operator.and_)
    assert finite is not None
    return Values(kinds={Kind.NUMBER: pl.when(finite).then(numbers)}, fault=raw.fault)


def _raw(node: Node, columns: pl.DataFrame) -> tuple[Values, list[pl.Expr]]:
    """Calculate without a look at what is no number; also tell what was divided by, where that was calculated."""
    match node:
        case Negative():
            operand, divisors = _raw(node.operand, columns)
            return _single(operand, {Kind.NUMBER: operator.neg}, gives=Kind.NUMBER), divisors
        case Arithmetic():
            left, left_divisors = _raw(node.left, columns)
            right, right_divisors = _raw(node.right, columns)
            divisors = [*left_divisors, *right_divisors]
            if node.operator is Operator.OVER and isinstance(node.right, Arithmetic | Negative):
                divisors += right.kinds.values()
            calculate = {(Kind.NUMBER, Kind.NUMBER): _OPERATORS[node.operator]}
            return _both(left, right, calculate, gives=Kind.NUMBER), divisors
        case _:
            return values_of(node, columns), []
