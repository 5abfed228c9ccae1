"""What Dagster shows of datasets, of what was really worked off."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ingest_platform.feeds.datasets import FEED, registry
from ingest_platform.feeds.datasets.dataset_look import SCHEMA_CONFORMITY, TOUCHED, look
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import workspaces
from ingest_platform.storage.warehouse import rows_of
from ingest_platform_tests.making import accept, body_of, new_job

FIELDS = {"country": "string", "amount": "number", "ctid": "boolean", "at": "timestamp"}
WHEN = "2026-05-06T10:15:00Z"


@pytest.fixture
def datasets(platform: Platform) -> Sequence[int]:
    """Make two datasets of one schema, and one without."""
    with platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", projects=("local",)))
        made = [
            registry.create(tx, workspace="acme", project="local", name=name, description="")
            for name in ("trips", "orders", "empty")
        ]
        for dataset in made[:2]:
            registry.register_schema(tx, dataset, FIELDS)
    return [dataset.id for dataset in made]


def _send(platform: Platform, dataset_id: int, *countries: object) -> str:
    records = [
        {"timestamp": WHEN, "context": {}, "country": country, "amount": 1.5, "ctid": True, "at": WHEN}
        for country in countries
    ]
    (job,) = accept(
        platform.ledger,
        replace(new_job(body_of(records, envelope_key="records"), feed=FEED.name), target=str(dataset_id)),
    )
    work_until_idle(
        platform, FEED, day=None, run_id="run-1", linger_seconds=0.0, stop=lambda: False, wait=lambda _: True
    )
    return job.id


def test_a_run_tells_of_the_datasets_that_it_touched(platform: Platform, datasets: Sequence[int]) -> None:
    trips, orders, _ = datasets
    _send(platform, orders, "DE")
    jobs = [_send(platform, trips, "RO", "FR", None), _send(platform, trips, "ES", "IT")]
    found = look(platform, jobs)
    (shown,) = found.figures["datasets"]  # type: ignore[misc]
    assert shown == {
        "dataset": trips,
        "name": "trips",
        "accepted in this run": 4,
        "rows": 4,
        "workspace": "acme",
        "project": "local",
        "table": f"lake.dataset_{trips}",
    }
    assert found.figures["schemas"] == [
        {"dataset": trips, "field": name, "type": kind} for name, kind in FIELDS.items()
    ]
    preview = [json.loads(row["record"]) for row in found.figures["preview"]]  # type: ignore[union-attr,index,call-overload]
    assert [record["country"] for record in preview] == ["IT", "ES", "FR"]
    assert found.passed == {SCHEMA_CONFORMITY: True}
    assert [row["dataset"] for row in look(platform, None).figures["datasets"]] == [trips, orders]  # type: ignore[union-attr,index,call-overload]


def test_a_value_that_is_missing_in_the_lake_is_found(platform: Platform, datasets: Sequence[int]) -> None:
    job = _send(platform, datasets[0], "RO")
    with platform.warehouse.writing(f"dataset_{datasets[0]}", fence=10) as transaction:
        transaction.execute(f"UPDATE {rows_of(f'dataset_{datasets[0]}')} SET country = NULL")
    assert look(platform, [job]).passed == {SCHEMA_CONFORMITY: False}


def test_a_run_that_touched_nothing_tells_so(platform: Platform, datasets: Sequence[int]) -> None:
    assert len(datasets) == 3
    assert look(platform, []).figures["datasets"] == []
    assert set(look(platform, []).passed) == set(TOUCHED.checks)
