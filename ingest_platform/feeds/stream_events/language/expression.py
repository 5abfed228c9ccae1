"""A rule that was read and checked, ready for frames: conditions of routes and filters, derived values."""

from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from ingest_platform.feeds.stream_events.language.checking import check_types
from ingest_platform.feeds.stream_events.language.fault import RuleFault
from ingest_platform.feeds.stream_events.language.frames import Values, truth_of, values_of
from ingest_platform.feeds.stream_events.language.reading import read_expression
from ingest_platform.feeds.stream_events.language.syntax import Field, Node, Path, Type, paths_of


class Outcome(NamedTuple):
    """What an expression is for each row: `value` (null where it is unknown) and `fault` (true or false, never null).

    A rule is met where the value is true. A fault means that it is unknown for a value of a wrong type.
    """

    value: pl.Expr
    fault: pl.Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """An expression over events. `type` is ANY if it is a field and nothing else: then its type is the event's."""

    text: str
    paths: frozenset[Path]
    type: Type
    root: Node = field(repr=False)

    @property
    def is_condition(self) -> bool:
        """Whether it can be met; a field alone can, if it is true."""
        return self.type in {Type.BOOLEAN, Type.ANY}

    @property
    def copies(self) -> Path | None:
        """The field that this is, if it is nothing else."""
        return self.root.path if isinstance(self.root, Field) else None

    def polars(self, columns: pl.DataFrame) -> Outcome:
        """Translate for a frame of `columns_of` that has all of its paths; the expressions hold for this frame only.

        The kinds of value in the frame decide what has to be looked at. Several expressions are evaluated best
        together, as columns of one `columns.with_columns(…)`. A field alone is taken as a condition.
        """
        values = values_of(self.root, columns)
        if self.is_condition:
            values = truth_of(values)
        return Outcome(value=_only(values), fault=pl.lit(value=False) if values.fault is None else values.fault)

    def evaluate(self, columns: pl.DataFrame) -> pl.DataFrame:
        """Evaluate for a frame of `columns_of`: the columns `value` and `fault`, as in Outcome."""
        value, fault = self.polars(columns)
        return columns.with_columns(value=value, fault=fault).select("value", "fault")


def compile_expression(text: str) -> Expression:
    """Read an expression: a condition, or what `derive` calculates. Raises RuleFault.

    >>> sorted(compile_expression('event.status >= 500 and exists(source)').paths)
    [('event', 'status'), ('source',)]
    >>> compile_expression('event.name < ')
    Traceback (most recent call last):
    ingest_platform.feeds.stream_events.language.fault.RuleFault: column 14: the rule ends too early; ...
    """
    root = read_expression(text)
    check_types(root)
    if root.type in {Type.NULL, Type.LIST}:
        raise RuleFault(f"an expression is a condition or a value of one event, not {root.type}", root.column)
    return Expression(text=text, paths=paths_of(root), type=root.type, root=root)


def compile_rule(text: str) -> Expression:
    """Read a condition: a rule's `when`, a filter. Raises RuleFault also for what is neither true nor false."""
    expression = compile_expression(text)
    if not expression.is_condition:
        message = f"a rule is true or false; this is {expression.type}"
        raise RuleFault(message, expression.root.column)
    return expression


def _only(values: Values) -> pl.Expr:
    assert len(values.kinds) <= 1, "only a field has values of several kinds"
    return next(iter(values.kinds.values()), pl.lit(None, dtype=pl.Null))
