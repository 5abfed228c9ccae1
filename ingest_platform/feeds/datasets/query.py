"""A client's question about one dataset, read strictly and compiled to SQL in which every value is a parameter.

Names come from the dataset's own schema and every other word from a closed list, so that no text of a client ever
reaches the engine as SQL; the one that a client chooses, a column's name in the answer, has the form of a field's name.
Who may ask, and how the answer is written, is not known here (`asking.py`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import msgspec

from ingest_platform.domain.contract import Kind
from ingest_platform.domain.errors import Malformed
from ingest_platform.domain.timestamps import parse_instant
from ingest_platform.feeds.datasets.schema import NAME_PATTERN, RESERVED_PREFIX, is_name
from ingest_platform.storage.warehouse import quoted, stored_name

RANGE_DAYS = 7
LIMIT, LIMIT_MAX = 100, 1_000
# More of any of these is no question of a person or a chart, and compiles to a statement that takes long to plan.
SELECT_MAX, WHERE_MAX, VALUES_MAX = 50, 50, 1_000
# Of a name that is wrong, so much is told back.
SHOWN_MAX = 100
TIMESTAMP = "timestamp"
# As in records: beyond it two integers are one number.
_INTEGER_MAX = 2**53
# Every column is said to be the table's own, so that none is taken for a column of the answer. No field begins like it.
_ROWS = quoted("__rows")
# The order of acceptance: of two records of one instant, the one accepted last comes first.
_PLACE = ("__accepted_seq", "__record_index")

# What each aggregate may be taken of. `count` may be of nothing: then it counts records.
_ALL = frozenset({Kind.STRING, Kind.NUMBER, Kind.BOOLEAN, Kind.TIMESTAMP})
_ORDERED = frozenset({Kind.STRING, Kind.NUMBER, Kind.TIMESTAMP})
AGGREGATES: Mapping[str, tuple[str, frozenset[Kind]]] = {
    "count": ("count({})", _ALL),
    "count_distinct": ("count(DISTINCT {})", _ALL),
    "sum": ("sum({})", frozenset({Kind.NUMBER})),
    "avg": ("avg({})", frozenset({Kind.NUMBER})),
    "min": ("min({})", _ORDERED),
    "max": ("max({})", _ORDERED),
}
COMPARISONS: Mapping[str, tuple[str, frozenset[Kind]]] = {
    "eq": ("{} = ?", _ALL),
    "ne": ("{} <> ?", _ALL),
    "gt": ("{} > ?", _ORDERED),
    "gte": ("{} >= ?", _ORDERED),
    "lt": ("{} < ?", _ORDERED),
    "lte": ("{} <= ?", _ORDERED),
    "contains": ("contains({}, ?)", frozenset({Kind.STRING})),
    "starts_with": ("starts_with({}, ?)", frozenset({Kind.STRING})),
    "ends_with": ("ends_with({}, ?)", frozenset({Kind.STRING})),
    # Not one parameter with a list: by that, files and groups of rows could not be left out unread.
    "in": ("{} IN ({})", _ALL),
    "not_in": ("{} NOT IN ({})", _ALL),
}
SIGNS = {"=": "eq", "==": "eq", "!=": "ne", "<>": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_LISTS = frozenset({"in", "not_in"})
_DIRECTIONS = {"asc": "ASC", "desc": "DESC"}

Fields = Mapping[str, Kind]


class _Range(msgspec.Struct, forbid_unknown_fields=True):
    since: str | None = msgspec.field(name="from", default=None)
    until: str | None = msgspec.field(name="to", default=None)


class _Selected(msgspec.Struct, forbid_unknown_fields=True):
    field: str | None = None
    aggregate: str | None = None
    alias: str | None = msgspec.field(name="as", default=None)


class _Where(msgspec.Struct, forbid_unknown_fields=True):
    field: str
    op: str
    value: object


class _Order(msgspec.Struct, forbid_unknown_fields=True):
    field: str
    direction: str = "asc"


class _Question(msgspec.Struct, forbid_unknown_fields=True):
    range: _Range | None = None
    select: list[_Selected] | None = None
    where: list[_Where] | None = None
    group_by: list[str] | None = msgspec.field(name="groupBy", default=None)
    order_by: list[_Order] | None = msgspec.field(name="orderBy", default=None)
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A compiled question: the statement and its parameters; the columns of the answer with their kinds; the range.

    The range takes in its beginning and leaves out its end.
    """

    statement: str
    values: Sequence[object]
    columns: Mapping[str, Kind]
    since: datetime
    until: datetime


def compile_query(body: bytes, *, fields: Fields, table: str, now: datetime) -> Query:
    """Compile a body (empty: everything by default) against the declared fields and a lake table's name, quoted.

    The same question has the same answer while the rows are the same: what orderBy leaves open is in the order of the
    groups, or of acceptance. Raises Malformed, naming the place and what is allowed there.
    """
    question = _read(body)
    fields = {TIMESTAMP: Kind.TIMESTAMP, **fields}
    since, until = _range(question.range, now=now)
    groups = _groups(question.group_by or [], fields)
    selected = _select(question.select, fields, groups=groups)
    conditions, values = _conditions(question.where or [], fields)
    order = _order(question.order_by or [], fields, selected=selected, groups=groups)
    listed = ", ".join(f"{each.expression} AS {quoted(each.name)}" for each in selected)
    statement = f"SELECT {listed} FROM {table} AS {_ROWS} WHERE {' AND '.join([_IN_RANGE, *conditions])}"  # noqa: S608 - names are declared, values are parameters
    if groups:
        statement += f" GROUP BY {', '.join(map(_of_rows, groups))}"
    if order:
        statement += f" ORDER BY {order}"
    return Query(
        statement=f"{statement} LIMIT ?",
        values=[since, until, *values, _limit(question.limit)],
        columns={each.name: each.kind for each in selected},
        since=since,
        until=until,
    )


def _of_rows(name: str) -> str:
    return f"{_ROWS}.{quoted(stored_name(name, prefix=RESERVED_PREFIX))}"


_IN_RANGE = f"{_of_rows(TIMESTAMP)} >= ? AND {_of_rows(TIMESTAMP)} < ?"


def _read(body: bytes) -> _Question:
    if not body.strip():
        return _Question()
    try:
        question = msgspec.json.decode(body, type=_Question)
        # Of a key that stands twice, msgspec takes the last.
        json.loads(body, object_pairs_hook=_once)
    except msgspec.ValidationError as error:
        raise Malformed(f"Invalid query: {error}") from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Malformed("Invalid JSON body") from None
    return question


def _once(pairs: Sequence[tuple[str, object]]) -> None:
    seen = set[str]()
    for key, _ in pairs:
        if key in seen:
            raise Malformed(f"Invalid query: the key {_shown(key)} stands twice")
        seen.add(key)


def _shown(name: str) -> str:
    """Show a name that may be anything, and of any length."""
    return repr(name if len(name) <= SHOWN_MAX else f"{name[:SHOWN_MAX]}…")


def _range(given: _Range | None, *, now: datetime) -> tuple[datetime, datetime]:
    until = _instant(given.until, "range.to") if given and given.until is not None else now
    since = _instant(given.since, "range.from") if given and given.since is not None else _before(until)
    if since >= until:
        raise Malformed("Invalid query: range.from must be before range.to")
    return since, until


def _before(until: datetime) -> datetime:
    try:
        return until - timedelta(days=RANGE_DAYS)
    except OverflowError:
        raise Malformed("Invalid query: range.to is too early; give range.from too") from None


def _instant(text: str, place: str) -> datetime:
    instant = parse_instant(text)
    if instant is None:
        raise Malformed(f"Invalid query: {place} must be an RFC 3339 timestamp with a zone")
    return instant


def _groups(names: Sequence[str], fields: Fields) -> Sequence[str]:
    for place, name in enumerate(names):
        _kind(name, fields, f"groupBy[{place}]")
    if len(names) > SELECT_MAX:
        raise Malformed(f"Invalid query: groupBy has {len(names)} entries; the limit is {SELECT_MAX}")
    return list(dict.fromkeys(names))


def _kind(name: str, fields: Fields, place: str) -> Kind:
    kind = fields.get(name)
    if kind is None:
        raise Malformed(f"Invalid query: {place} names {_shown(name)}, which is no declared field and not timestamp")
    return kind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column of the answer; `field` is set where it is a field as it stands."""

    name: str
    expression: str
    kind: Kind
    field: str | None = None


def _select(wanted: Sequence[_Selected] | None, fields: Fields, *, groups: Sequence[str]) -> Sequence[_Column]:
    if not wanted:
        grouped = [_Column(name=each, expression=_of_rows(each), kind=fields[each], field=each) for each in groups]
        taken = {each.lower() for each in groups}
        # A field may be called like that, too.
        name = "count" if "count" not in taken else "count_records"
        return [*grouped, _Column(name=name, expression="count(*)", kind=Kind.NUMBER)]
    if len(wanted) > SELECT_MAX:
        raise Malformed(f"Invalid query: select has {len(wanted)} entries; the limit is {SELECT_MAX}")
    columns = [_column(each, fields, f"select[{place}]") for place, each in enumerate(wanted)]
    names = [column.name.lower() for column in columns]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise Malformed(f"Invalid query: select[{place}] gives a second column {name!r}; name one of them with as")
    if groups or any(column.field is None for column in columns):
        for place, column in enumerate(columns):
            if column.field is not None and column.field not in groups:
                raise Malformed(f"Invalid query: select[{place}].field {column.field!r} must be in groupBy")
    return columns


def _column(wanted: _Selected, fields: Fields, place: str) -> _Column:
    if wanted.alias is not None and not is_name(wanted.alias):
        raise Malformed(f"Invalid query: {place}.as must match {NAME_PATTERN}")
    if wanted.aggregate is None:
        if wanted.field is None:
            raise Malformed(f"Invalid query: {place} needs a field or an aggregate")
        kind = _kind(wanted.field, fields, f"{place}.field")
        return _Column(
            name=wanted.alias or wanted.field, expression=_of_rows(wanted.field), kind=kind, field=wanted.field
        )
    if wanted.aggregate not in AGGREGATES:
        raise Malformed(f"Invalid query: {place}.aggregate must be one of {', '.join(AGGREGATES)}")
    if wanted.field is None:
        if wanted.aggregate != "count":
            raise Malformed(f"Invalid query: {place}.aggregate {wanted.aggregate} needs a field")
        return _Column(name=wanted.alias or "count", expression="count(*)", kind=Kind.NUMBER)
    kind = _kind(wanted.field, fields, f"{place}.field")
    template, kinds = AGGREGATES[wanted.aggregate]
    if kind not in kinds:
        raise Malformed(f"Invalid query: {place}.aggregate {wanted.aggregate} can't be taken of a {kind.value} field")
    return _Column(
        name=wanted.alias or f"{wanted.aggregate}_{wanted.field}",
        expression=template.format(_of_rows(wanted.field)),
        kind=kind if wanted.aggregate in {"min", "max"} else Kind.NUMBER,
    )


def _conditions(wanted: Sequence[_Where], fields: Fields) -> tuple[list[str], list[object]]:
    if len(wanted) > WHERE_MAX:
        raise Malformed(f"Invalid query: where has {len(wanted)} entries; the limit is {WHERE_MAX}")
    conditions: list[str] = []
    values: list[object] = []
    for place, each in enumerate(wanted):
        kind = _kind(each.field, fields, f"where[{place}].field")
        op = SIGNS.get(each.op, each.op)
        template, kinds = COMPARISONS.get(op, ("", frozenset[Kind]()))
        if not template:
            raise Malformed(f"Invalid query: where[{place}].op must be one of {', '.join([*COMPARISONS, *SIGNS])}")
        if kind not in kinds:
            raise Malformed(f"Invalid query: where[{place}].op {op} can't be asked of a {kind.value} field")
        given = _operands(each.value, kind, several=op in _LISTS, place=f"where[{place}].value")
        column = _of_rows(each.field)
        if any(isinstance(one, str) and "\x00" in one for one in given):
            # DuckLake asks PostgreSQL which files can have a value, and there is no such text in PostgreSQL's SQL. Of
            # what is no column as it stands, it asks nothing.
            column = f"({column} || '')"
        conditions.append(template.format(column, ", ".join("?" * len(given))))
        values += given
    return conditions, values


def _operands(given: object, kind: Kind, *, several: bool, place: str) -> list[object]:
    if not several:
        return [_value(given, kind, place)]
    listed = cast("list[object]", given) if isinstance(given, list) else []
    if not 1 <= len(listed) <= VALUES_MAX:
        raise Malformed(f"Invalid query: {place} must be a list of 1 to {VALUES_MAX} values")
    return [_value(each, kind, f"{place}[{index}]") for index, each in enumerate(listed)]


def _value(given: object, kind: Kind, place: str) -> object:
    """Read a value as the field's kind; as in records, nothing is coerced."""
    if kind is Kind.NUMBER and isinstance(given, float) and math.isfinite(given):
        return given
    if kind is Kind.NUMBER and isinstance(given, int) and not isinstance(given, bool) and abs(given) <= _INTEGER_MAX:
        return float(given)
    if kind is Kind.BOOLEAN and isinstance(given, bool):
        return given
    if kind is Kind.TIMESTAMP and isinstance(given, str):
        return _instant(given, place)
    if kind is Kind.STRING and isinstance(given, str):
        return given
    raise Malformed(f"Invalid query: {place} must be a {kind.value}")


def _order(
    wanted: Sequence[_Order], fields: Fields, *, selected: Sequence[_Column], groups: Sequence[str]
) -> str | None:
    if len(wanted) > SELECT_MAX:
        raise Malformed(f"Invalid query: orderBy has {len(wanted)} entries; the limit is {SELECT_MAX}")
    plain = not groups and all(column.field is not None for column in selected)
    # Records come latest first, groups in the order of what they are grouped by; of one row there is no order.
    left_open = [f"{_of_rows(name)} DESC" for name in (TIMESTAMP, *_PLACE)] if plain else [*map(_of_rows, groups)]
    places = {column.name: place for place, column in enumerate(selected, start=1)}
    parts: list[str] = []
    for place, each in enumerate(wanted):
        direction = _DIRECTIONS.get(each.direction.lower())
        if direction is None:
            raise Malformed(f"Invalid query: orderBy[{place}].direction must be asc or desc")
        if each.field in places:
            # By its place: a name of the answer may also be one of the table's.
            parts.append(f"{places[each.field]} {direction}")
            continue
        _kind(each.field, fields, f"orderBy[{place}].field")
        if not plain and each.field not in groups:
            raise Malformed(f"Invalid query: orderBy[{place}].field {each.field!r} must be selected or in groupBy")
        parts.append(f"{_of_rows(each.field)} {direction}")
    return ", ".join([*parts, *left_open]) or None


def _limit(given: int | None) -> int:
    limit = LIMIT if given is None else given
    if not 1 <= limit <= LIMIT_MAX:
        raise Malformed(f"Invalid query: limit must be between 1 and {LIMIT_MAX}")
    return limit
