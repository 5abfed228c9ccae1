"""Check: a parsed frame into the records that keep the contract's rules, typed, and rejections of the others.

Pandera evaluates the rules, each a named check on a column of an eager frame. What is rejected is read from the checks'
own output, never from a message. Then the feed resolves what the remaining records refer to.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaError, SchemaErrors

from ingest_platform.domain.contract import Contract, Field, Kind, column_of
from ingest_platform.domain.errors import Fault
from ingest_platform.domain.feed import Refer
from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.pipeline.parse import ParsedFrame
from ingest_platform.pipeline.pieces import SENT_TYPES
from ingest_platform.pipeline.rules import INSTANT_TYPE, Rule, instants, problem, rules_of

# Schemas of datasets come and go; one takes 0.1 ms to make.
SCHEMAS_MAX = 256
NUMBERS = ("submission", "record_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFrame:
    """The accepted records, typed, with the columns that the feed added; and all rejections, the parser's too.

    Rejections are ordered by submission and record index. `received` = accepted + rejected, also by submission.
    """

    accepted: pl.DataFrame
    rejections: list[Rejection]
    received: int
    counts: Mapping[int, int]


def check(
    parsed: ParsedFrame, contract: Contract, *, refer: Refer | None, origins: pl.DataFrame, known: pl.DataFrame
) -> CheckedFrame:
    """Split a parsed frame. Raises a Fault if a check could not be carried out."""
    schema = _schema_of(contract)
    typed = _with_instants(parsed.frame, contract)
    failed = schema.failures(typed)
    good = _without(typed, failed).select(parsed.frame.columns)
    rejections = [*parsed.rejections, *_rejections(typed, failed, parsed)]
    if refer is not None and good.height:
        good, more = _referred(good, parsed, refer, origins=origins, known=known)
        rejections += more
    elif refer is not None:
        good, _ = refer(good, origins=origins, known=known)
    rejections.sort(key=lambda rejection: (rejection.submission, rejection.record_index))
    assert parsed.count == good.height + len(rejections)
    return CheckedFrame(accepted=good, rejections=rejections, received=parsed.count, counts=parsed.counts)


def _with_instants(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Read the timestamps; what was sent stands beside each."""
    columns: list[pl.Series] = []
    for field in contract.fields:
        if field.kind is Kind.TIMESTAMP:
            sent = frame[column_of(field.name)]
            columns += [instants(sent), sent.alias(_sent(field))]
    return frame.with_columns(columns)


Failures = dict[int, list[tuple[int, Problem]]]


class _Schema:
    """A contract's rules as a Pandera schema, and what each of its checks means."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        # A check's name is its place among all rules, which is also the order in which problems are reported.
        self._problems: dict[str, Problem] = {}
        columns = {column_of(field.name): self._column(field) for field in contract.fields}
        self._schema = pa.DataFrameSchema(columns)

    def _column(self, field: Field) -> pa.Column:
        checks: list[pa.Check] = []
        for rule in rules_of(field):
            name = str(len(self._problems))
            self._problems[name] = rule.problem
            checks.append(pa.Check(_evaluate(field, rule), name=name, ignore_na=False))
        kind = INSTANT_TYPE if field.kind is Kind.TIMESTAMP else SENT_TYPES[field.kind]
        return pa.Column(kind, checks=checks, nullable=True, coerce=False)

    def failures(self, frame: pl.DataFrame) -> Failures:
        """Find the problems of each row that has some, by its position."""
        try:
            self._schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            found: Failures = defaultdict(list)
            for error in errors.schema_errors:
                self._add(found, error, frame.height)
            for problems in found.values():
                problems.sort(key=lambda placed: placed[0])
            return found
        return {}

    def _add(self, found: Failures, error: SchemaError, height: int) -> None:
        output, name = error.check_output, getattr(error.check, "name", None)
        if name not in self._problems or not isinstance(output, pl.DataFrame) or output.height != height:
            # A check that raised is reported like one that failed, only without rows.
            raise Fault(f"A check of {self.contract.name} could not be carried out: {error}")
        verdicts = output.to_series()
        if verdicts.dtype != pl.Boolean or verdicts.null_count():
            raise Fault(f"Check {name} of {self.contract.name} left records undecided.")
        for position in verdicts.not_().arg_true().to_list():
            found[position].append((int(name), self._problems[name]))


def _evaluate(field: Field, rule: Rule):  # noqa: ANN202 - Pandera's types are not exported.
    def verdicts(data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(_verdict(field, rule).alias(column_of(field.name)))

    return verdicts


def _verdict(field: Field, rule: Rule) -> pl.Expr:
    """Judge a column; a null is a field that may be missing, and keeps every rule."""
    if field.kind is Kind.TIMESTAMP:
        # It was read already; what could not be read is null now, but was not when sent.
        return pl.col(column_of(field.name)).is_not_null() | pl.col(_sent(field)).is_null()
    column = pl.col(column_of(field.name))
    return rule.column(column) | column.is_null()


def _sent(field: Field) -> str:
    # With blanks in it, so that it is no field's name.
    return f"{field.name} as sent"


_schemas: OrderedDict[int, _Schema] = OrderedDict()


def _schema_of(contract: Contract) -> _Schema:
    # By identity, as an example in a contract need not be hashable; the schema keeps its contract, so the id stays its.
    schema = _schemas.get(id(contract))
    if schema is None:
        schema = _schemas[id(contract)] = _Schema(contract)
        if len(_schemas) > SCHEMAS_MAX:
            _schemas.popitem(last=False)
    return schema


def _without(frame: pl.DataFrame, positions: Iterable[int]) -> pl.DataFrame:
    if not positions:
        return frame
    good = np.ones(frame.height, dtype=np.bool_)
    good[list(positions)] = False
    return frame.filter(pl.Series(good))


def _rejections(frame: pl.DataFrame, failed: Failures, parsed: ParsedFrame) -> Iterable[Rejection]:
    positions = sorted(failed)
    numbers = frame.select(NUMBERS)[positions].rows()
    for position, (submission, index) in zip(positions, numbers, strict=True):
        problems = tuple(found for _, found in failed[position])
        yield _rejection(parsed, submission, index, problems)


def _rejection(parsed: ParsedFrame, submission: int, index: int, problems: tuple[Problem, ...]) -> Rejection:
    raw = parsed.raw(submission, index)
    return Rejection(submission=submission, record_index=index, problems=problems, raw=raw)


def _referred(
    frame: pl.DataFrame, parsed: ParsedFrame, refer: Refer, *, origins: pl.DataFrame, known: pl.DataFrame
) -> tuple[pl.DataFrame, list[Rejection]]:
    resolved, problems = refer(frame, origins=origins, known=known)
    if problems.is_empty():
        return resolved, []
    found: dict[tuple[int, int], list[Problem]] = defaultdict(list)
    for submission, index, code, field, message in problems.select(*NUMBERS, "code", "field", "message").iter_rows():
        found[submission, index].append(problem(code, field, message))
    good = resolved.join(problems, on=NUMBERS, how="anti", maintain_order="left")
    return good, [
        _rejection(parsed, submission, index, tuple(reasons)) for (submission, index), reasons in found.items()
    ]
