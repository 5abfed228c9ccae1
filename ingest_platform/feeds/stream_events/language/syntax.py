"""What a rule says, as values: nodes of an expression. How they are read, checked and evaluated is not known here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

# The members on the way to a value: ("event", "card_number") for `event.card_number`.
Path = tuple[str, ...]
Scalar = bool | float | str | datetime

TIMESTAMP: Path = ("timestamp",)


@unique
class Type(StrEnum):
    """What is known of a value before any event is seen, in the words of messages."""

    BOOLEAN = "true or false"
    NUMBER = "a number"
    STRING = "a text"
    TIMESTAMP = "a timestamp"
    LIST = "a list"
    NULL = "null"
    # A field: each event has its own type there.
    ANY = "a field"


@unique
class Relation(StrEnum):
    """How two values are compared."""

    EQUAL = "=="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    IN = "in"


EQUALITIES = frozenset({Relation.EQUAL, Relation.UNEQUAL})
ORDERS = frozenset({Relation.LESS, Relation.AT_MOST, Relation.MORE, Relation.AT_LEAST})
AFFIXES = frozenset({Relation.STARTS_WITH, Relation.ENDS_WITH})


@unique
class Operator(StrEnum):
    """What is calculated of two numbers. `%` is what floor division leaves: its sign is the divisor's."""

    PLUS = "+"
    MINUS = "-"
    TIMES = "*"
    OVER = "/"
    MODULO = "%"


@unique
class Function(StrEnum):
    """What is made of one value."""

    LOWER = "lower"
    UPPER = "upper"
    # Of a text in characters, of a list in elements.
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A value that stands in the rule itself; None is null."""

    value: Scalar | None
    type: Type
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListLiteral:
    """Values of one type (`of`), on the right of `in`."""

    values: tuple[Scalar, ...]
    of: Type
    column: int
    type: Type = Type.LIST


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A value of the event."""

    path: Path
    column: int

    @property
    def type(self) -> Type:
        """Only the event's own timestamp has a type that is known beforehand."""
        return Type.TIMESTAMP if self.path == TIMESTAMP else Type.ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Exists:
    """Whether the event has the field and it is not null."""

    field: Field
    column: int
    type: Type = Type.BOOLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """The opposite."""

    operand: "Node"
    column: int
    type: Type = Type.BOOLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Two or more that are joined by `and`."""

    operands: "tuple[Node, ...]"
    column: int
    type: Type = Type.BOOLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """Two or more that are joined by `or`."""

    operands: "tuple[Node, ...]"
    column: int
    type: Type = Type.BOOLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two values and how they are compared; `column` is that of the comparing word."""

    relation: Relation
    left: "Node"
    right: "Node"
    column: int
    type: Type = Type.BOOLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Whether a regular expression is found in a text."""

    text: "Node"
    pattern: str
    column: int
    type: Type = Type.BOOLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """A calculation with two numbers."""

    operator: Operator
    left: "Node"
    right: "Node"
    column: int
    type: Type = Type.NUMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class Negative:
    """A number with the other sign."""

    operand: "Node"
    column: int
    type: Type = Type.NUMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of one value."""

    function: Function
    argument: "Node"
    column: int

    @property
    def type(self) -> Type:
        """Each function gives one type."""
        return Type.NUMBER if self.function is Function.LENGTH else Type.STRING


Node = (
    Literal | ListLiteral | Field | Exists | Not | Every | Either | Comparison | Matches | Arithmetic | Negative | Call
)


def operands_of(node: Node) -> tuple[Node, ...]:
    """List the nodes that a node is made of."""
    match node:
        case Literal() | ListLiteral() | Field():
            operands = ()
        case Exists():
            operands = (node.field,)
        case Not() | Negative():
            operands = (node.operand,)
        case Every() | Either():
            operands = node.operands
        case Comparison() | Arithmetic():
            operands = (node.left, node.right)
        case Matches():
            operands = (node.text,)
        case Call():
            operands = (node.argument,)
    return operands


def nodes_of(root: Node) -> Iterator[tuple[Node, int]]:
    """Walk through an expression, each node with its depth (the root's is 1). Needs no stack of calls."""
    waiting = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting += [(operand, depth + 1) for operand in operands_of(node)]


def paths_of(root: Node) -> frozenset[Path]:
    """Collect the paths of all fields."""
    return frozenset(node.path for node, _ in nodes_of(root) if isinstance(node, Field))
