"""What Dagster is told of a feed. Others depend on the keys, so they are written out here."""

import dagster as dg

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.orchestration.factory import FILE_DOOR, HTTP_DOOR, build_definitions, feed_asset, job_name
from ingest_platform.orchestration.workplace import Workplace


def never() -> Workplace:
    """Fail if anything is opened."""
    raise AssertionError


def asset() -> dg.AssetsDefinition:
    return feed_asset(FEED, never)


def edges(made: dg.AssetsDefinition) -> dict[str, set[str]]:
    return {spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps} for spec in made.specs}


def test_the_way_of_a_record_is_the_lineage() -> None:
    assert edges(asset()) == {
        "machine_data/landed": {HTTP_DOOR.to_user_string(), FILE_DOOR.to_user_string()},
        "machine_data/checked": {"machine_data/landed"},
        "machine_data/readings": {"machine_data/checked"},
        "machine_data/outcomes": {"machine_data/readings"},
        "machine_data/rejections": {"machine_data/checked"},
    }


def test_no_station_has_two_parents_in_its_feed() -> None:
    # Dagster's UI refuses to launch a backfill of several days otherwise.
    inside = {key: {each for each in parents if each.startswith(FEED.name)} for key, parents in edges(asset()).items()}
    assert [key for key, parents in inside.items() if len(parents) > 1] == []


def test_a_feed_has_its_checks() -> None:
    keys = {(key.asset_key.path[1], key.name) for key in asset().check_keys}
    assert keys == {
        ("landed", "nothing_overdue"),
        ("readings", "no_duplicate_keys"),
        ("outcomes", "counts_balance"),
    }


def test_a_backfill_of_many_days_is_one_run() -> None:
    assert asset().backfill_policy == dg.BackfillPolicy.single_run()
    assert isinstance(asset().partitions_def, dg.DailyPartitionsDefinition)


def test_everything_is_described() -> None:
    repository = build_definitions([FEED], never).get_repository_def()
    specs = [spec for asset in repository.asset_graph.assets_defs for spec in asset.specs]
    assert [spec.key for spec in specs if not spec.description] == []
    assert [each.name for each in (*repository.schedule_defs, *repository.sensor_defs) if not each.description] == []


def test_a_job_has_the_whole_feed_and_nothing_else() -> None:
    job = build_definitions([FEED], never).resolve_job_def(job_name(FEED))
    assert {key.path[0] for key in job.asset_layer.selected_asset_keys} == {FEED.name}
