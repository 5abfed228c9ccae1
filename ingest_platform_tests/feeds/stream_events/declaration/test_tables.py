"""Lookup tables: CSV files beside a declaration, and what the catalog has of them."""

from pathlib import Path
from typing import Any

import pytest

from ingest_platform.feeds.stream_events.declaration import Table
from ingest_platform.feeds.stream_events.declaration.place import Place
from ingest_platform.feeds.stream_events.declaration.steps import read_enrich
from ingest_platform.feeds.stream_events.declaration.tables import (
    FILE_BYTES_MAX,
    ROWS_MAX,
    WrongTable,
    load_table,
    read_table,
    with_tables,
)


def test_a_file_is_read_as_columns_and_rows(tmp_path: Path) -> None:
    (tmp_path / "teams.csv").write_bytes('\ufeffsource,owner\r\napi,"Ann, B."\r\n\r\nweb,\r\n'.encode())
    table = load_table("teams.csv", tmp_path)
    assert table == {"file": "teams.csv", "columns": ["source", "owner"], "rows": [["api", "Ann, B."], ["web", ""]]}
    assert read_table(Place(value=table)) == Table(columns=("source", "owner"), rows=(("api", "Ann, B."), ("web", "")))


@pytest.mark.parametrize("name", ["../teams.csv", "/etc/passwd", "link.csv", "inner/../../teams.csv"])
def test_a_file_outside_of_the_folder_is_never_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "declared"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "teams.csv").write_text("a,b\n1,2\n")
    (folder / "link.csv").symlink_to(tmp_path / "teams.csv")
    with pytest.raises(WrongTable, match="must lie in the folder of this file"):
        load_table(name, folder)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "must be UTF-8"),
        (b'a,b\n"x', "is no CSV"),
        (b"a,b\n" + b"x" * FILE_BYTES_MAX, "has more than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_no_table_is_told(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "teams.csv").write_bytes(data)
    with pytest.raises(WrongTable, match=said):
        load_table("teams.csv", tmp_path)


@pytest.mark.parametrize("name", ["missing.csv", ".", "a\0b", "x" * 5000])
def test_a_file_that_can_not_be_read_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongTable):
        load_table(name, tmp_path)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"columns": [], "rows": []}, "table: has 0 columns"),
        ({"columns": ["a", "a"], "rows": []}, "table: each column must have a name, a different one"),
        ({"columns": ["a", ""], "rows": []}, "table: each column must have a name, a different one"),
        ({"columns": ["a", "b"], "rows": [["1"]]}, "table: row 1 has 1 values; there are 2 columns"),
        ({"columns": ["a", "b"], "rows": [["1", 2]]}, "table: row 1 must be a list of texts"),
        ({"columns": ["a", "b"], "rows": [["1", "2"], ["1", "3"]]}, "table: line 3: the key '1' of column 'a' stands"),
        ({"columns": ["a", "b"], "rows": [["1", "2"]] * (ROWS_MAX + 1)}, "table: has 100,001 rows; at most 100,000"),
        ({"columns": ["a", "c"], "rows": []}, "add: event.b: the table has no column 'b'; there are a, c"),
        ({"columns": "a", "rows": []}, "table: must have a list of columns and a list of rows"),
        ({"columns": ["a"]}, "table.rows: is missing"),
        (None, "table: is missing"),
    ],
)
def test_a_table_that_is_wrong_is_told(table: object, said: str) -> None:
    place = Place(value={"lookup": {"table": table, "key": "source", "add": {"event.b": "b"}}}, path="enrich[0]")
    assert read_enrich(place) is None
    told = [f"{fault.path}: {fault.message}" for fault in place.faults]
    assert any(each.startswith(f"enrich[0].lookup.{said}") for each in told), told


@pytest.mark.parametrize(
    ("lookup", "column"),
    [
        ({"key": "source"}, "source"),
        ({"key": "event.owner"}, "owner"),
        ({"key": "event.service"}, "id"),
        ({"key": "event.service", "column": "source"}, "source"),
    ],
)
def test_the_key_is_looked_up_in_the_column_of_its_name_or_the_first(lookup: dict[str, Any], column: str) -> None:
    table = {"columns": ["id", "source", "owner"], "rows": [["1", "api", "ann"]]}
    step = read_enrich(Place(value={"lookup": {"table": table, "add": {"event.b": "owner"}, **lookup}}))
    assert step is not None
    assert step.key_column == column


def test_tables_are_put_into_a_declaration_and_the_rest_is_left(tmp_path: Path) -> None:
    (tmp_path / "teams.csv").write_text("a,b\n1,2\n")
    steps = [{"lookup": {"table": "teams.csv", "key": "source"}}, {"drop": []}, 7, {"lookup": {"table": "no.csv"}}]
    body, wrong = with_tables({"enrich": steps, "name": "x"}, tmp_path)
    table = {"file": "teams.csv", "columns": ["a", "b"], "rows": [["1", "2"]]}
    assert body == {"enrich": [{"lookup": {"table": table, "key": "source"}}, *steps[1:]], "name": "x"}
    assert wrong == [("enrich[3].lookup.table", "there is no file 'no.csv' beside this one")]
