"""Staging is typed: what may be null is, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from ingest_platform.domain.errors import WarehouseFault
from ingest_platform.pipeline.load import load_records
from ingest_platform.pipeline.staging import keys, staging_statements
from ingest_platform.storage.warehouse import Warehouse
from ingest_platform_tests.pipeline import folded_records, lake_records
from ingest_platform_tests.pipeline.folded_records import Note, derive, frame, rows_of_lake


@pytest.fixture
def lake(database_url: str, tmp_path: Path) -> Iterator[Warehouse]:
    with lake_records.open_lake(database_url, tmp_path) as opened:
        yield opened


def test_a_key_has_the_workspace_first_and_once() -> None:
    assert keys(folded_records.TABLE) == ("workspace", "note")
    assert keys(lake_records.TABLE) == ("workspace", "gauge", "at")


def test_only_a_keyed_table_needs_a_hash_of_its_own() -> None:
    assert "key_hash UBIGINT NOT NULL" in staging_statements(lake_records.TABLE).create_staged
    assert "UBIGINT" not in staging_statements(folded_records.TABLE).create_staged


@pytest.mark.parametrize(("name", "refused"), [("title", True), ("note_hash", True), ("level", False)])
def test_what_must_be_given_is_refused_when_it_is_not(lake: Warehouse, name: str, *, refused: bool) -> None:
    good = frame({1: [Note("a", "t", level="high")]})
    records = good.with_columns(pl.lit(None, dtype=good.schema[name]).alias(name))

    def load() -> None:
        load_records(
            lake,
            table=folded_records.TABLE,
            load_id="load_x",
            fence=1,
            staged=[lake_records.job(1)],
            frames=[records],
            derive=derive,
        )

    if refused:
        with pytest.raises(WarehouseFault):
            load()
    else:
        load()
        assert rows_of_lake(lake, workspace="acme")["a"]["level"] == "it's low"
