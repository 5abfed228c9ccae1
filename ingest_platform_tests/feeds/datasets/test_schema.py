"""Declared schemas: what a field may be called, what it may be, and that no two are one column."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.errors import Malformed
from ingest_platform.feeds.datasets.contract import contract_of
from ingest_platform.feeds.datasets.load import table_of
from ingest_platform.feeds.datasets.schema import FIELDS_MAX, RESERVED, TYPES, check_fields, is_name, read_schema
from ingest_platform.storage.warehouse import columns_of

FIELDS = {"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"}
_FIRST = st.sampled_from("abcXYZ_")
_REST = st.text("abcXYZ_019", max_size=62)
names = st.builds(str.__add__, _FIRST, _REST).filter(
    lambda name: name.lower() not in RESERVED and not name.startswith("__")
)
schemas = st.dictionaries(names, st.sampled_from(sorted(TYPES)), min_size=1, max_size=8).filter(
    lambda fields: len({name.lower() for name in fields}) == len(fields)
)


def refused(body: object) -> str:
    with pytest.raises(Malformed) as raised:
        read_schema(body if isinstance(body, bytes) else json.dumps(body).encode())
    return raised.value.message


@given(fields=schemas)
def test_the_envelope_the_bare_object_and_what_is_shown_are_read_alike_in_their_order(fields: dict[str, str]) -> None:
    for body in (fields, {"fields": fields}, {"version": 1, "fields": fields}):
        read = read_schema(json.dumps(body).encode())
        assert list(read.items()) == list(fields.items())


@given(fields=schemas)
def test_every_schema_makes_a_contract_and_a_table_of_columns_that_engines_tell_apart(fields: dict[str, str]) -> None:
    contract = contract_of(fields)
    assert [field.name for field in contract.fields] == ["timestamp", "context", *fields]
    assert all(field.required and not field.nullable for field in contract.fields)
    columns = [column.name.lower() for column in columns_of(table_of(dataset_id=1, project="local", fields=fields))]
    assert len(set(columns)) == len(columns)
    assert {"id", "dataset_id", "timestamp", "ingested_at", "context", "__traceid"} <= set(columns)


@given(name=st.text(max_size=70))
def test_a_name_is_taken_if_and_only_if_the_contract_allows_it(name: str) -> None:
    ascii_words = name.isascii() and name.replace("_", "a").isalnum()
    form = ascii_words and not name[0].isdigit() and len(name) <= 63
    assert is_name(name) == form
    if form and name.lower() not in RESERVED and not name.startswith("__"):
        assert check_fields({name: "string"}) == {name: "string"}
    else:
        with pytest.raises(Malformed, match="Invalid field name"):
            check_fields({name: "string"})


@pytest.mark.parametrize(
    "name",
    [
        *("timestamp", "context", "id", "ingested_at", "dataset_id", "Timestamp", "ID", "__x", "__traceId", "__"),
        *("", "1st", "a-b", "a b", "ä", "a\n", "x" * 64, 'a"b', "a;DROP TABLE x", "a.b"),
    ],
)
def test_names_that_no_column_may_have_are_refused(name: str) -> None:
    assert refused({name: "string"}).startswith("Invalid field name")


@pytest.mark.parametrize("name", ["project", "_id", "x" * 63, "select", "workspace", "record_index", "_", "fields"])
def test_names_that_are_words_of_ours_or_of_sql_are_taken(name: str) -> None:
    assert read_schema(json.dumps({name: "number"}).encode()) == {name: "number"}


def test_a_field_that_is_called_project_makes_ours_another() -> None:
    table = table_of(dataset_id=7, project="local", fields={"Project": "string"})
    assert [column.name for column, _ in table.constants] == ["__project", "dataset_id"]
    assert [value for _, value in table.constants] == ["local", 7]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Invalid JSON body"),
        (b"", "Invalid JSON body"),
        (b'{"a": NaN}', "Invalid JSON body"),
        (b"\xff\xfe", "Invalid JSON body"),
        (b"[" * 100_000, "Invalid JSON body"),
        ([], "Schema must be a non-empty object"),
        ({}, "Schema must be a non-empty object"),
        ({"fields": {}}, "Schema must be a non-empty object"),
        ("string", "Schema must be a non-empty object"),
        (None, "Schema must be a non-empty object"),
        ({"a": "text"}, "Invalid type of field a: must be one of string, number, boolean, timestamp"),
        ({"a": "String"}, "Invalid type of field a"),
        ({"a": None}, "Invalid type of field a"),
        ({"a": ["string"]}, "Invalid type of field a"),
        ({"fields": {"a": "string"}, "b": "string"}, "Invalid type of field fields"),
        ({"fields": {"a": "string"}, "version": 2}, "Invalid type of field fields"),
        ({"a": "string", "A": "string"}, "Invalid field name: A differs from a only in upper and lower case"),
        (b'{"a": "string", "a": "string"}', "Invalid field name: a stands twice"),
        (b'{"fields": {"a": "string", "a": "number"}}', "Invalid field name: a stands twice"),
        (b'{"\\ud800": "string"}', "Invalid field name: ?"),
        ({f"f{n}": "string" for n in range(FIELDS_MAX + 1)}, f"Schema has {FIELDS_MAX + 1} fields; the limit is"),
    ],
)
def test_what_is_no_schema_is_refused_with_what_is_wrong(body: object, said: str) -> None:
    assert refused(body).startswith(said)


def test_as_many_fields_as_are_allowed_are_taken() -> None:
    fields = {f"f{n}": "number" for n in range(FIELDS_MAX)}
    assert read_schema(json.dumps(fields).encode()) == fields
