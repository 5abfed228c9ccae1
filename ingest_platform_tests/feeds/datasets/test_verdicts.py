"""One verdict: the door, the run's frame check and the staging table agree on any record of any schema; and batches."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest_platform.domain.contract import Contract, Kind, column_of
from ingest_platform.domain.errors import WarehouseFault
from ingest_platform.domain.feed import AppendTable
from ingest_platform.domain.timestamps import parse_instant
from ingest_platform.feeds.datasets import wire
from ingest_platform.feeds.datasets.contract import contract_of
from ingest_platform.feeds.datasets.load import table_of
from ingest_platform.feeds.datasets.schema import RESERVED, TYPES
from ingest_platform.feeds.datasets.verdicts import Judged, judge_alone, judge_batch, judge_each
from ingest_platform.feeds.datasets.wire import BadRecords
from ingest_platform.pipeline.door import check_record
from ingest_platform.pipeline.parse import parse_lines
from ingest_platform.pipeline.staging import FRAME, JOBS, STAGED, staging_statements
from ingest_platform.storage.warehouse import LakeSession, Warehouse, quoted
from ingest_platform_tests.pipeline.lake_records import open_lake
from ingest_platform_tests.pipeline.sent import unreferred
from ingest_platform_tests.serving import fresh_database

FIELDS = {"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
CONTRACT = contract_of(FIELDS)
GOOD: Mapping[str, object] = {
    "timestamp": "2026-06-10T11:00:00Z",
    "context": {},
    "country": "RO",
    "amount": 20,
    "active": True,
    "signup_at": "2026-06-01T08:00:00Z",
}
# Names that mean something to an engine, to the kernel's frames and tables, or to Python.
HOSTILE_NAMES = (
    *("select", "Order", "GROUP", "_", "a" * 63, "class", "None", "true", "rowid", "key_hash", "frame", "staged"),
    *("submission", "Record_Index", "workspace", "accepted_seq", "job_id", "project", "index", "literal", "column"),
)
NAMES = st.sampled_from(HOSTILE_NAMES) | st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z")
NAUGHTY = (
    *(
        "",
        " ",
        "\x00",
        "null",
        "NaN",
        "true",
        "1",
        "1.5",
        "1/0",
        "\u202etest",
        "\ufeff",
        "'; DROP TABLE x; --",
        '"',
        "\\",
    ),
    *("2026-06-10T11:00:00Z", "2026-06-10", "0001-01-01t00:00:00z", "9999-12-31T23:59:59.999999999-00:00", "{}", "[]"),
    *("ﷺ", "👾 🙇 💁", "Z͑ͫ̓ͪ̂ͫ̽", "\ud800", "田中さん", "\u2028", "\r\n", "=cmd|' /C calc'!A0", "$1", "{{7*7}}"),
)
NUMBERS = ("0", "-0", "12.5", "1e20", "1e-400", "1e400", "9007199254740992", "9007199254740993", "-9007199254740993")
BIG_NUMBERS = (
    "9223372036854775807",
    "9223372036854775808",
    "9007199254740993.5",
    "1" + "0" * 30,
    "5e-324",
    "01",
    "NaN",
)
TEXTS = st.sampled_from(NAUGHTY) | st.text(max_size=6)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
ANY = st.one_of(
    st.sampled_from(NUMBERS + BIG_NUMBERS),
    TEXTS.map(json.dumps),
    st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
    st.integers(-(2**54), 2**54).map(str),
    st.datetimes(timezones=st.just(UTC)).map(lambda at: json.dumps(at.isoformat())),
    PLAIN.map(json.dumps),
)
RIGHT = {
    "string": TEXTS.map(json.dumps),
    "number": st.sampled_from(NUMBERS) | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
    "boolean": st.sampled_from(["true", "false"]),
    "timestamp": st.datetimes(timezones=st.just(UTC)).map(lambda at: json.dumps(at.isoformat())),
    "context": st.dictionaries(st.text(max_size=3), PLAIN, max_size=2).map(json.dumps),
}


def declarable(fields: Mapping[str, str]) -> dict[str, str]:
    """Leave out names that no dataset may have, or that differ only in case."""
    lowered = {name.lower(): (name, kind) for name, kind in fields.items()}
    allowed = {low: each for low, each in lowered.items() if low not in RESERVED and not low.startswith("__")}
    return dict(allowed.values()) or {"a": "string"}


SCHEMAS = st.dictionaries(NAMES, st.sampled_from(list(TYPES)), min_size=1, max_size=5).map(declarable)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, str], list[bytes]]:
    """Draw a schema and records: most members right, some of any type, some left out, now and then one too many."""
    fields = draw(SCHEMAS)
    kinds = {"timestamp": "timestamp", "context": "context", **fields}
    records: list[bytes] = []
    for _ in range(draw(st.integers(1, 4))):
        members = {name: draw(RIGHT[kind]) for name, kind in kinds.items()}
        for name in draw(st.lists(st.sampled_from(list(kinds)), max_size=2)):
            members[name] = draw(ANY)
        for name in draw(st.lists(st.sampled_from(list(kinds)), max_size=1)) if draw(st.booleans()) else []:
            del members[name]
        if draw(st.integers(0, 5)) == 0:
            members[draw(NAMES)] = draw(ANY)
        records.append(("{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in members.items()) + "}").encode())
    return fields, records


def plainly(raw: bytes) -> Mapping[str, object] | None:
    """Read a record in the plainest way; numbers that fit nothing are None, as no field takes them."""

    def real(token: str) -> float | None:
        return float(token) if abs(float(token)) != float("inf") else None

    def whole(token: str) -> int | None:
        return int(token) if abs(int(token)) <= 2**53 else None

    try:
        read = json.loads(raw, parse_int=whole, parse_float=real, parse_constant=lambda _: None)
        json.dumps(read, ensure_ascii=False).encode()
    except ValueError:
        return None
    return read


def cell(value: object, kind: Kind) -> object:
    """Take a value for a column of a kind as it is, or not at all."""
    match kind:
        case Kind.STRING:
            return value if isinstance(value, str) else None
        case Kind.TIMESTAMP:
            return parse_instant(value) if isinstance(value, str) else None
        case Kind.BOOLEAN:
            return value if isinstance(value, bool) else None
        case Kind.NUMBER:
            return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        case Kind.OBJECT:
            return json.dumps(value) if isinstance(value, dict) else None


@pytest.fixture(scope="module")
def lake(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Open one warehouse for all of the module, whose examples use its temporary tables only."""
    with fresh_database(server_url, template) as url, open_lake(url, tmp_path_factory.mktemp("lake")) as opened:
        yield opened


class Staged:
    """A staging table of one dataset, filled by the very statements of a load."""

    def __init__(self, session: LakeSession, table: AppendTable) -> None:
        self._session = session
        self._table = table
        self._statements = staging_statements(table)
        jobs = pa.table({"submission": pa.array([0], pa.uint32()), "workspace": ["acme"], "accepted_seq": [1]})
        with session.seeing(FRAME, jobs):
            session.execute(f"CREATE OR REPLACE TEMP TABLE {JOBS} AS FROM {FRAME}")
        session.execute(f"DROP TABLE IF EXISTS {STAGED}")
        session.execute(self._statements.create_staged)

    def takes(self, frame: pl.DataFrame) -> bool:
        """Stage a frame, and tell whether it was taken."""
        try:
            with self._session.seeing(FRAME, frame.to_arrow(compat_level=pl.CompatLevel.newest())):
                self._session.execute(self._statements.fill_staged)
        except WarehouseFault:
            return False
        return True

    def rows(self) -> list[list[object]]:
        """Read what is staged, in the order of the records."""
        names = ", ".join(quoted(column_of(each.name)) for each in self._table.columns)
        found = self._session.fetch(f"SELECT {names} FROM {STAGED} ORDER BY record_index")
        return [list(row) for row in zip(*(column.to_pylist() for column in found.columns), strict=True)]


POLARS = {
    Kind.STRING: pl.String(),
    Kind.NUMBER: pl.Float64(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.TIMESTAMP: pl.Datetime("us", "UTC"),
    Kind.OBJECT: pl.String(),
}


def as_row(contract: Contract, cells: Sequence[object], index: int) -> pl.DataFrame:
    """Lay out a record as a typed row that nobody has checked."""
    named = {
        column_of(field.name): pl.Series([value], dtype=POLARS[field.kind])
        for field, value in zip(contract.fields, cells, strict=True)
    }
    numbers = {"submission": pl.Series([0], dtype=pl.UInt32), "record_index": pl.Series([index], dtype=pl.Int64)}
    return pl.DataFrame({**numbers, **named})


# Each naughty text, each number near an edge and each JSON type, in a field of each kind.
TOKENS = (*NUMBERS, *BIG_NUMBERS, *map(json.dumps, NAUGHTY), "true", "false", "null", "[]", "[1]", "{}", '{"a":1}')
# `timestamp` itself is reserved.
EVERY_KIND = {"string": "string", "number": "number", "boolean": "boolean", "timestamp_": "timestamp"}


def with_token(name: str, token: str) -> bytes:
    members = {"timestamp": '"2026-06-10T11:00:00Z"', "context": "{}", "string": '""', "number": "0"}
    members |= {"boolean": "true", "timestamp_": '"2026-06-10T11:00:00Z"', name: token}
    return ("{" + ",".join(f"{json.dumps(each)}:{text}" for each, text in members.items()) + "}").encode()


@given(case=cases())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example((EVERY_KIND, [with_token(name, token) for name in ("context", *EVERY_KIND) for token in TOKENS]))
@example(
    (
        dict.fromkeys(HOSTILE_NAMES[12:], "string"),
        [
            json.dumps(
                {**dict.fromkeys(HOSTILE_NAMES[12:], "x"), "timestamp": "2026-06-10T11:00:00Z", "context": {}}
            ).encode()
        ],
    )
)
def test_the_door_the_frame_check_and_the_staging_table_agree(
    lake: Warehouse, case: tuple[dict[str, str], list[bytes]]
) -> None:
    fields, records = case
    contract = contract_of(fields)
    table = table_of(dataset_id=1, project="local", fields=fields)
    checked = unreferred(parse_lines(records, 0, contract), contract)
    by_frame = {int(index) for index in checked.accepted["record_index"]}
    with closing(lake.session()) as session:
        for index, raw in enumerate(records):
            read = plainly(raw)
            cells = [cell((read or {}).get(field.name), field.kind) for field in contract.fields]
            # What no row can say: that there was more, or that it is no JSON.
            only_declared = read is not None and set(read) <= {field.name for field in contract.fields}
            by_table = Staged(session, table).takes(as_row(contract, cells, index)) and only_declared
            by_door = not check_record(raw, contract)
            assert (by_door, by_frame >= {index}, by_table) == (by_table,) * 3, raw
        staged = Staged(session, table)
        assert staged.takes(checked.accepted)
        expected = [
            [cell(json.loads(records[at])[each.name], each.kind) for each in contract.fields] for at in sorted(by_frame)
        ]
        found = staged.rows()
    assert [row[:1] + row[2:] for row in found] == [row[:1] + row[2:] for row in expected]
    # An object is kept as it was written.
    assert [json.loads(str(row[1])) for row in found] == [json.loads(str(row[1])) for row in expected]


def batch(*records: object) -> bytes:
    return json.dumps(records).encode()


def refusal(body: bytes, judge: Callable[[bytes, Contract], Judged] = judge_batch) -> dict[str, object]:
    with pytest.raises(BadRecords) as refused:
        judge(body, CONTRACT)
    return dict(wire.error_body(refused.value, "req_1"))


def test_good_records_are_counted() -> None:
    assert judge_alone(json.dumps(GOOD).encode(), CONTRACT) == Judged(received=1, accepted=1, bad=())
    for judge in (judge_batch, judge_each):
        judged = judge(b"\xef\xbb\xbf \n" + batch(GOOD, GOOD), CONTRACT)
        assert (judged.received, judged.accepted, judged.rejected) == (2, 2, 0)


@pytest.mark.parametrize("judge", [judge_batch, judge_each])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "Invalid JSON body"),
        (b"[1,", "Invalid JSON body"),
        (b"[1]]", "Invalid JSON body"),
        (b"{]", "Invalid JSON body"),
        (b"[" * 5_000 + b"]" * 5_000, "Invalid JSON body"),
        (b"[]", "Batch body must be a non-empty array"),
        (b"[ ]", "Batch body must be a non-empty array"),
        (b'{"records":[{}]}', "Batch body must be a non-empty array"),
        (b"null", "Batch body must be a non-empty array"),
    ],
)
def test_what_is_no_batch_is_refused_as_a_whole(
    body: bytes, said: str, judge: Callable[[bytes, Contract], Judged]
) -> None:
    refused = refusal(body, judge)
    assert refused["error"] == said
    assert "index" not in refused
    assert [each["error"] for each in refused["errors"]] == [said]  # type: ignore[attr-defined, index]


def test_one_bad_record_refuses_its_batch_and_all_that_is_wrong_is_told() -> None:
    refused = refusal(batch(GOOD, GOOD | {"amount": None, "extra": 1}, 7))
    assert refused == {
        "error": "Extra field: extra",
        "index": 1,
        "errors": [
            {"index": 1, "field": "extra", "code": "extra_field", "error": "Extra field: extra"},
            {"index": 1, "field": "amount", "code": "invalid_type", "error": "Invalid number field: amount"},
            {"index": 2, "field": None, "code": "not_an_object", "error": "Payload must be an object"},
        ],
    }


def test_a_record_that_is_not_json_harms_only_itself() -> None:
    body = b'[{"amount": NaN}, %b, {"country": "\\ud800"}]' % json.dumps(GOOD).encode()
    judged = judge_each(body, CONTRACT)
    assert (judged.received, judged.accepted) == (3, 1)
    assert [each.index for each in judged.bad] == [0, 2]
    # Of each the first failure.
    assert [each["error"] for each in wire.errors_of(judged.bad, CONTRACT)] == [
        "Invalid or missing timestamp",
        "Invalid JSON body",
    ]


def test_of_very_many_bad_records_the_first_are_told() -> None:
    body = b"[" + b",".join([b"{}"] * wire.ERRORS_MAX + [json.dumps(GOOD).encode(), b"{}"]) + b"]"
    refused = refusal(body)
    assert refused["errors_truncated"] is True
    assert len(refused["errors"]) == wire.ERRORS_MAX  # type: ignore[arg-type]
    judged = judge_each(body, CONTRACT)
    assert (judged.received, judged.accepted, len(judged.bad)) == (wire.ERRORS_MAX + 2, 1, wire.ERRORS_MAX)
    shown = wire.batch_reply(count=1, bad=judged.bad, rejected=judged.rejected, contract=CONTRACT)
    assert shown["rejected_truncated"] is True
