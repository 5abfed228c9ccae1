"""Questions about a dataset: what is refused, in which words, and that the rest is answered as plain Python does it."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_platform.domain.contract import Kind
from ingest_platform.domain.errors import Malformed
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.datasets.query import COMPARISONS, compile_query
from ingest_platform.storage.warehouse import LakeSession, Warehouse
from ingest_platform_tests.serving import fresh_database

FIELDS = {
    "country": Kind.STRING,
    "amount": Kind.NUMBER,
    "active": Kind.BOOLEAN,
    "signup_at": Kind.TIMESTAMP,
    # Names that mean something to SQL, to this query language, or to a table with an alias.
    "count": Kind.NUMBER,
    "Select": Kind.STRING,
}
TABLE = '"rows"'
NOW = datetime(2026, 5, 8, tzinfo=UTC)
LONG = "x" * 10_000
FRAGMENT = "' OR 1=1; DROP TABLE lake.main.dataset_1; --"


def _compile(question: object) -> object:
    return compile_query(json.dumps(question).encode(), fields=FIELDS, table=TABLE, now=NOW)


# What is refused


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"range": {"from": "yesterday"}}, "range.from must be an RFC 3339 timestamp with a zone"),
        ({"range": {"to": "2026-05-08"}}, "range.to must be an RFC 3339 timestamp with a zone"),
        ({"range": {"from": "2026-05-08T00:00:00Z"}}, "range.from must be before range.to"),
        ({"range": {"to": "0001-01-03T00:00:00Z"}}, "range.to is too early; give range.from too"),
        ({"range": {"since": "2026-05-08T00:00:00Z"}}, "Object contains unknown field `since` - at `$.range`"),
        ({"sql": "SELECT 1"}, "Object contains unknown field `sql`"),
        ([], "Expected `object`, got `array`"),
        ({"select": "country"}, "Expected `array | null`, got `str` - at `$.select`"),
        ({"select": [{"field": "nobody"}]}, "select[0].field names 'nobody', which is no declared field and not"),
        ({"select": [{"field": "__workspace"}]}, "select[0].field names '__workspace', which is no declared field"),
        ({"select": [{"field": "context"}]}, "select[0].field names 'context', which is no declared field"),
        ({"select": [{"field": "COUNTRY"}]}, "select[0].field names 'COUNTRY', which is no declared field"),
        ({"select": [{"field": "*"}]}, "select[0].field names '*', which is no declared field"),
        ({"select": [{"field": LONG}]}, f"select[0].field names '{'x' * 100}…', which"),
        ({"select": [{}]}, "select[0] needs a field or an aggregate"),
        ({"select": [{"aggregate": "sum"}]}, "select[0].aggregate sum needs a field"),
        (
            {"select": [{"aggregate": "list", "field": "amount"}]},
            "select[0].aggregate must be one of count, count_dist",
        ),
        ({"select": [{"aggregate": "sum", "field": "country"}]}, "select[0].aggregate sum can't be taken of a string"),
        ({"select": [{"aggregate": "max", "field": "active"}]}, "select[0].aggregate max can't be taken of a boolean"),
        ({"select": [{"field": "country", "as": 'a"b'}]}, "select[0].as must match ^[A-Za-z_]"),
        ({"select": [{"field": "country", "as": ""}]}, "select[0].as must match ^[A-Za-z_]"),
        ({"select": [{"field": "country"}, {"aggregate": "count"}]}, "select[0].field 'country' must be in groupBy"),
        ({"select": [{"field": "amount"}], "groupBy": ["country"]}, "select[0].field 'amount' must be in groupBy"),
        ({"select": [{"field": "amount"}] * 2}, "select[1] gives a second column 'amount'; name one of them with as"),
        (
            {"select": [{"aggregate": "count"}, {"aggregate": "count", "field": "amount", "as": "Count"}]},
            "select[1] gives a second column 'count'; name one of them with as",
        ),
        ({"select": [{"aggregate": "count"}] * 51}, "select has 51 entries; the limit is 50"),
        ({"where": [{"field": "country", "op": "eq"}]}, "Object missing required field `value`"),
        ({"where": [{"field": "country", "op": "like", "value": "%"}]}, "where[0].op must be one of eq, ne, gt"),
        ({"where": [{"field": "country", "op": FRAGMENT, "value": ""}]}, "where[0].op must be one of eq, ne, gt"),
        (
            {"where": [{"field": "amount", "op": "contains", "value": 1}]},
            "where[0].op contains can't be asked of a numb",
        ),
        (
            {"where": [{"field": "active", "op": ">", "value": True}]},
            "where[0].op gt can't be asked of a boolean field",
        ),
        ({"where": [{"field": FRAGMENT, "op": "eq", "value": 1}]}, "where[0].field names "),
        ({"where": [{"field": "amount", "op": "eq", "value": "1"}]}, "where[0].value must be a number"),
        ({"where": [{"field": "amount", "op": "eq", "value": True}]}, "where[0].value must be a number"),
        ({"where": [{"field": "amount", "op": "eq", "value": 2**53 + 1}]}, "where[0].value must be a number"),
        ({"where": [{"field": "amount", "op": "eq", "value": None}]}, "where[0].value must be a number"),
        ({"where": [{"field": "active", "op": "eq", "value": 1}]}, "where[0].value must be a boolean"),
        ({"where": [{"field": "country", "op": "eq", "value": ["RO"]}]}, "where[0].value must be a string"),
        (
            {"where": [{"field": "signup_at", "op": "eq", "value": "now"}]},
            "where[0].value must be an RFC 3339 timestamp",
        ),
        ({"where": [{"field": "signup_at", "op": "eq", "value": 0}]}, "where[0].value must be a timestamp"),
        (
            {"where": [{"field": "country", "op": "in", "value": "RO"}]},
            "where[0].value must be a list of 1 to 1000 val",
        ),
        (
            {"where": [{"field": "country", "op": "in", "value": []}]},
            "where[0].value must be a list of 1 to 1000 values",
        ),
        (
            {"where": [{"field": "amount", "op": "in", "value": [1] * 1001}]},
            "where[0].value must be a list of 1 to 1000",
        ),
        ({"where": [{"field": "country", "op": "in", "value": ["RO", 1]}]}, "where[0].value[1] must be a string"),
        ({"where": [{"field": "active", "op": "eq", "value": True}] * 51}, "where has 51 entries; the limit is 50"),
        ({"groupBy": ["country", "nobody"]}, "groupBy[1] names 'nobody', which is no declared field"),
        ({"groupBy": ["country"] * 51}, "groupBy has 51 entries; the limit is 50"),
        ({"orderBy": [{"field": "nobody"}]}, "orderBy[0].field names 'nobody', which is no declared field"),
        ({"orderBy": [{"field": "country"}]}, "orderBy[0].field 'country' must be selected or in groupBy"),
        ({"orderBy": [{"field": "count", "direction": "up"}]}, "orderBy[0].direction must be asc or desc"),
        ({"orderBy": [{"field": "count"}] * 51}, "orderBy has 51 entries; the limit is 50"),
        ({"limit": 0}, "limit must be between 1 and 1000"),
        ({"limit": 1001}, "limit must be between 1 and 1000"),
        ({"limit": 1.5}, "Expected `int | null`, got `float` - at `$.limit`"),
        ({"limit": "1; DROP TABLE x"}, "Expected `int | null`, got `str` - at `$.limit`"),
    ],
)
def test_a_question_that_is_wrong_is_refused_naming_the_place(question: object, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        _compile(question)
    assert caught.value.message.startswith(f"Invalid query: {message}")
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid JSON body"),
        (b"\xff", "Invalid JSON body"),
        (b'{"groupBy":["\\ud800"]}', "Invalid JSON body"),
        (b'{"where":[{"field":"amount","op":"eq","value":NaN}]}', "Invalid JSON body"),
        (b'{"where":[{"field":"amount","op":"eq","value":1e999}]}', "Invalid query: Number out of range"),
        (b'{"where":[{"field":"amount","op":"eq","value":' + b"[" * 100_000, "Invalid JSON body"),
        (b'{"limit":1,"limit":2}', "Invalid query: the key 'limit' stands twice"),
        (b'{"where":[{"field":"amount","op":"eq","value":{"a":1,"a":2}}]}', "Invalid query: the key 'a' stands twice"),
    ],
)
def test_what_is_no_sound_json_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        compile_query(body, fields=FIELDS, table=TABLE, now=NOW)
    assert caught.value.message.startswith(message)


# What it is compiled to


@pytest.mark.parametrize("value", [FRAGMENT, '"; --', "né\u202e\U0001f600", LONG, "__workspace", "$1", "?"])
def test_a_value_is_a_parameter_and_never_in_the_statement(value: str) -> None:
    condition = {"field": "country", "op": "eq", "value": value}
    asked = compile_query(json.dumps({"where": [condition]}).encode(), fields=FIELDS, table=TABLE, now=NOW)
    other = compile_query(
        json.dumps({"where": [condition | {"value": "RO"}]}).encode(), fields=FIELDS, table=TABLE, now=NOW
    )
    assert value in asked.values
    assert asked.statement == other.statement


def test_a_value_with_a_nul_is_compared_with_what_postgresql_is_not_asked_about() -> None:
    condition = {"field": "country", "op": "in", "value": ["RO", "\x00"]}
    asked = compile_query(json.dumps({"where": [condition]}).encode(), fields=FIELDS, table=TABLE, now=NOW)
    assert """("__rows"."country" || '') IN (?, ?)""" in asked.statement
    assert "\x00" in asked.values


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b'{"select":[],"where":[],"groupBy":null,"orderBy":[],"range":{}}'])
def test_without_anything_asked_the_records_of_the_last_seven_days_are_counted(body: bytes) -> None:
    asked = compile_query(body, fields=FIELDS, table=TABLE, now=NOW)
    assert (asked.since, asked.until) == (NOW - timedelta(days=7), NOW)
    assert asked.columns == {"count": Kind.NUMBER}
    assert asked.values == [asked.since, asked.until, 100]


def test_a_field_called_count_does_not_hide_the_count_of_its_groups() -> None:
    asked = compile_query(b'{"groupBy":["count"]}', fields=FIELDS, table=TABLE, now=NOW)
    assert list(asked.columns) == ["count", "count_records"]


# What is answered


Row = Mapping[str, object]
# Few values, so that groups meet and conditions hold; quarters, so that sums are exact in every order.
VALUES: Mapping[Kind, Sequence[object]] = {
    Kind.STRING: ["", "a", "B", "ä", "ab", "日本", "\U0001f600", "'", '"', "%", "a\x00b", "RO"],
    Kind.NUMBER: [0.0, -0.0, 1.0, -2.25, 0.25, 1024.5, 2.0**53],
    Kind.BOOLEAN: [True, False],
    Kind.TIMESTAMP: [NOW - timedelta(days=days, microseconds=us) for days in (1, 3, 9) for us in (0, 1, 999)],
}
KINDS = {"timestamp": Kind.TIMESTAMP, **FIELDS}
ARROW_TYPES = {
    Kind.STRING: pa.string(),
    Kind.NUMBER: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
}
PLACE = ("__accepted_seq", "__record_index")
SCHEMA = pa.schema(
    [*((name, ARROW_TYPES[kind]) for name, kind in KINDS.items()), *((name, pa.int64()) for name in PLACE)]
)
COMPARE = {
    "eq": lambda value, given: value == given,
    "ne": lambda value, given: value != given,
    "gt": lambda value, given: value > given,
    "gte": lambda value, given: value >= given,
    "lt": lambda value, given: value < given,
    "lte": lambda value, given: value <= given,
    "contains": lambda value, given: given in value,
    "starts_with": lambda value, given: value.startswith(given),
    "ends_with": lambda value, given: value.endswith(given),
    "in": lambda value, given: value in given,
    "not_in": lambda value, given: value not in given,
}
REDUCE = {
    "count": len,
    "count_distinct": lambda values: len(set(values)),
    "sum": lambda values: sum(values) if values else None,
    "avg": lambda values: sum(values) / len(values) if values else None,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
}
NUMBERS = [name for name, kind in KINDS.items() if kind is Kind.NUMBER]
ORDERED = [name for name, kind in KINDS.items() if kind is not Kind.BOOLEAN]


def rows() -> st.SearchStrategy[list[dict[str, object]]]:
    """Draw some records, in their order of acceptance."""
    one = st.fixed_dictionaries({name: st.sampled_from(VALUES[kind]) for name, kind in KINDS.items()})
    return st.lists(one, max_size=12).map(
        lambda drawn: [{**row, PLACE[0]: place // 3, PLACE[1]: place % 3} for place, row in enumerate(drawn)]
    )


@st.composite
def questions(draw: st.DrawFn) -> dict[str, object]:
    """Draw a question that is right, with values as Python has them."""
    grouped = draw(st.booleans())
    groups = draw(st.lists(st.sampled_from(list(KINDS)), max_size=2)) if grouped else []
    fields = [{"field": name, "as": f"f{place}"} for place, name in enumerate(dict.fromkeys(groups))]
    if not grouped:
        wanted = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=3, unique=True))
        fields = [{"field": name} for name in wanted]
    measures = draw(st.lists(_measures(), min_size=int(not fields), max_size=3)) if grouped else []
    select = [*fields, *({**each, "as": f"m{place}"} for place, each in enumerate(measures))]
    # Aliases that are names of the table's own columns must change nothing.
    if draw(st.booleans()):
        select[-1] |= {"as": "active" if not any(each.get("field") == "active" for each in fields) else "f_last"}
    names = [each.get("as") or each["field"] for each in select]
    order = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    return {
        "select": select,
        "where": draw(st.lists(_conditions(), max_size=2)),
        "groupBy": groups,
        "orderBy": [{"field": name, "direction": draw(st.sampled_from(["asc", "DESC"]))} for name in order],
        "range": draw(st.sampled_from([{}, {"from": NOW - timedelta(days=30)}, {"to": NOW - timedelta(days=1)}])),
        "limit": draw(st.sampled_from([1, 3, 100])),
    }


def _measures() -> st.SearchStrategy[dict[str, object]]:
    def named(aggregates: Sequence[str], fields: Sequence[str]) -> st.SearchStrategy[dict[str, object]]:
        return st.fixed_dictionaries({"aggregate": st.sampled_from(aggregates), "field": st.sampled_from(fields)})

    return st.one_of(
        st.just({"aggregate": "count"}),
        named(["count", "count_distinct"], list(KINDS)),
        named(["sum", "avg"], NUMBERS),
        named(["min", "max"], ORDERED),
    )


@st.composite
def _conditions(draw: st.DrawFn) -> dict[str, object]:
    field = draw(st.sampled_from(list(KINDS)))
    op = draw(st.sampled_from([op for op, (_, kinds) in COMPARISONS.items() if KINDS[field] in kinds]))
    one = st.sampled_from(VALUES[KINDS[field]])
    return {"field": field, "op": op, "value": draw(st.lists(one, min_size=1) if op in {"in", "not_in"} else one)}


def evaluate(question: Mapping[str, object], records: Sequence[Row]) -> list[Row]:
    """Answer a question in plain Python."""
    given = question["range"]
    until = given.get("to", NOW)
    since = given.get("from", until - timedelta(days=7))
    kept = [row for row in records if since <= row["timestamp"] < until]
    for each in question["where"]:
        kept = [row for row in kept if COMPARE[each["op"]](row[each["field"]], each["value"])]
    select = question["select"]
    if question["groupBy"] or any("aggregate" in each for each in select):
        answered = _reduced(select, question["groupBy"], kept)
    else:
        kept.sort(key=lambda row: (row["timestamp"], *(row[name] for name in PLACE)), reverse=True)
        answered = [{each.get("as") or each["field"]: row[each["field"]] for each in select} for row in kept]
    for each in reversed(question["orderBy"]):
        answered.sort(key=lambda row, name=each["field"]: row[name], reverse=each["direction"] == "DESC")
    return answered[: question["limit"]]


def _reduced(select: Sequence[Row], groups: Sequence[str], kept: Sequence[Row]) -> list[Row]:
    def key(row: Row) -> tuple[object, ...]:
        return tuple(row[name] for name in groups)

    parts = [list(part) for _, part in itertools.groupby(sorted(kept, key=key), key=key)]
    return [
        {
            each["as"]: REDUCE[each["aggregate"]]([row[each.get("field", "timestamp")] for row in part])
            if "aggregate" in each
            else part[0][each["field"]]
            for each in select
        }
        for part in (parts if groups else [list(kept)])
    ]


def _sent(question: Mapping[str, object]) -> bytes:
    """Write a question as a client does, to the microsecond."""

    def written(value: object) -> str:
        assert isinstance(value, datetime)
        return value.isoformat().replace("+00:00", "Z")

    return json.dumps(question, default=written).encode()


@pytest.fixture(scope="module")
def engine(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeSession]:
    """Open the engine that answers; its tables are frames here, because the lake's take longer to make."""
    folder = tmp_path_factory.mktemp("lake")
    with (
        fresh_database(server_url, template) as url,
        Warehouse(url, lake_path=str(folder), memory_bytes_max=256 << 20) as warehouse,
        closing(warehouse.session()) as session,
    ):
        yield session


def _answer(engine: LakeSession, body: bytes, records: Sequence[Row]) -> list[Row]:
    query = compile_query(body, fields=FIELDS, table=TABLE, now=NOW)
    with engine.seeing("rows", pa.Table.from_pylist(list(records), schema=SCHEMA)):
        answer = engine.ask(query.statement, query.values, seconds_max=10, bytes_max=1 << 20)
    assert answer.column_names == list(query.columns)
    for name, kind in query.columns.items():
        found = answer.schema.field(name).type
        assert found == ARROW_TYPES[kind] or (kind is Kind.NUMBER and found == pa.int64()), (name, found)
    return answer.to_pylist()


@given(question=questions(), records=rows())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_question_is_answered_as_plain_python_answers_it(
    engine: LakeSession, question: dict[str, object], records: list[dict[str, object]]
) -> None:
    assert _answer(engine, _sent(question), records) == evaluate(question, records)


def test_the_range_has_its_beginning_and_not_its_end(engine: LakeSession) -> None:
    at = [NOW - timedelta(days=7), NOW - timedelta(microseconds=1), NOW]
    records = [{**{name: VALUES[kind][0] for name, kind in KINDS.items()}, "timestamp": each} for each in at]
    records = [{**row, PLACE[0]: 1, PLACE[1]: place} for place, row in enumerate(records)]
    assert _answer(engine, b"", records) == [{"count": 2}]
    whole = {"range": {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z"}}
    assert _answer(engine, json.dumps(whole).encode(), records) == [{"count": 3}]
    shown = {"range": {"from": format_instant(at[0]), "to": format_instant(at[1])}}
    assert _answer(engine, json.dumps(shown).encode(), records) == [{"count": 1}]


def test_every_comparison_and_aggregate_is_in_the_evaluation_it_is_compared_with() -> None:
    assert set(COMPARE) == set(COMPARISONS)
    assert math.copysign(1, float(str(VALUES[Kind.NUMBER][1]))) == -1
