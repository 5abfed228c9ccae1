"""What a reading refers to: as of acceptance, within the key's sites, and no hint of anything else."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl
import pytest

from ingest_platform.feeds.machine_data.references import refer
from ingest_platform_tests.pipeline.sent import CONFIG_ID, config, known, origins

INSTANT = datetime(2026, 5, 6, tzinfo=UTC)


def readings(*rows: tuple[int, int, str, float]) -> pl.DataFrame:
    schema = {
        "submission": pl.UInt32,
        "record_index": pl.Int64,
        "machine_data_point_config_id": pl.String,
        "value": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(timestamp=pl.lit(INSTANT))


def resolve(
    value: float = 1.5,
    *,
    config_id: str = CONFIG_ID,
    history: Sequence[Mapping[str, object]] = (),
    **origin: object,
) -> tuple[object, ...]:
    """Resolve one reading: its values, or the code of its problem and the field."""
    frame, problems = refer(readings((0, 0, config_id, value)), origins=origins(origin), known=known(*history))
    if problems.height:
        return problems.select("code", "field").row(0)
    return frame.select("raw_value", "value", "config_version").row(0)


def test_a_value_is_the_raw_value_times_the_factor() -> None:
    assert resolve(history=[config(factor=2.0)]) == (1.5, 3.0, 1)
    assert resolve(history=[config(factor=-1)]) == (1.5, -1.5, 1)


@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        (4, ("not_found", "machine_data_point_config_id")),
        (5, (1.5, 1.5, 1)),
        (6, (1.5, 1.5, 1)),
        (7, (1.5, 15.0, 2)),
        (8, ("not_found", "machine_data_point_config_id")),
        (9, (1.5, 150.0, 4)),
    ],
)
def test_the_version_is_the_one_at_acceptance(revision: int, expected: tuple[object, ...]) -> None:
    history = [
        config(version=4, revision=9, factor=100.0),
        config(version=1, revision=5, factor=1.0),
        config(version=3, revision=8, retired=True),
        config(version=2, revision=7, factor=10.0),
    ]
    assert resolve(history=history, catalog_revision=revision) == expected


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        (None, (1.5, 3.0, 1)),
        (["north"], (1.5, 3.0, 1)),
        (["south", "north"], (1.5, 3.0, 1)),
        (["south"], ("not_found", "machine_data_point_config_id")),
        ([], ("not_found", "machine_data_point_config_id")),
    ],
)
def test_a_key_writes_to_its_sites_only(sites: list[str] | None, expected: tuple[object, ...]) -> None:
    assert resolve(history=[config()], sites=sites) == expected


def test_nothing_tells_an_unknown_data_point_from_somebody_elses() -> None:
    histories = [
        [],
        [config(workspace="other")],
        [config(kind="sites")],
        [config(retired=True)],
        [config(site="south")],
        [config(id="mdp_00000000000000000000000000")],
    ]
    problems = [
        refer(readings((0, 0, CONFIG_ID, 1.0)), origins=origins({"sites": ["north"]}), known=known(*history))[1]
        for history in histories
    ]
    assert len({tuple(each.row(0)) for each in problems}) == 1


@pytest.mark.parametrize("config_id", ["", "x", "mdp_", "MDP_01KQZCJRPYF27TGE9DNVSQV8T2", "mdp_" + "é" * 26, "a\x00b"])
def test_a_malformed_id_is_simply_not_found(config_id: str) -> None:
    assert resolve(config_id=config_id, history=[config()]) == ("not_found", "machine_data_point_config_id")


def test_a_value_that_overflows_is_not_finite() -> None:
    assert resolve(1e308, history=[config(factor=10.0)]) == ("not_finite", "value")


def test_submissions_of_one_load_are_resolved_each_as_its_own() -> None:
    frame = readings(
        (0, 0, CONFIG_ID, 1.0), (1, 0, CONFIG_ID, 1.0), (2, 0, CONFIG_ID, 1.0), (3, 0, CONFIG_ID, 1.0), (1, 1, "x", 1.0)
    )
    resolved, problems = refer(
        frame,
        origins=origins(
            {"submission": 0, "catalog_revision": 1},
            {"submission": 1, "catalog_revision": 2},
            {"submission": 2, "workspace": "other"},
            {"submission": 3, "sites": ["south"]},
        ),
        known=known(config(), config(version=2, revision=2, factor=3.0)),
    )
    assert resolved["value"].to_list() == [2.0, 3.0, None, None, None]
    assert resolved["config_version"].to_list() == [1, 2, None, None, None]
    assert problems.select("submission", "record_index").rows() == [(2, 0), (3, 0), (1, 1)]


@pytest.mark.parametrize("submissions", [1, 2])
def test_an_empty_frame_has_the_columns_all_the_same(submissions: int) -> None:
    rows = [{"submission": number} for number in range(submissions)]
    full, _ = refer(readings((0, 0, CONFIG_ID, 1.0)), origins=origins(*rows), known=known(config()))
    empty, problems = refer(readings(), origins=origins(*rows), known=known(config()))
    assert empty.schema == full.schema
    assert empty.height == problems.height == 0
    assert full.schema["config_version"] == pl.Int32
