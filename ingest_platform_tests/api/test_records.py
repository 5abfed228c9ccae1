"""One record by its id: what was decided of it, before and after the end of its job, and nobody else's."""

import pytest

from ingest_platform.api.records import place_of
from ingest_platform.domain.feed import AppendTable
from ingest_platform.feeds.datasets import FEED as DATASETS
from ingest_platform.feeds.machine_data import FEED as MACHINE_DATA
from ingest_platform_tests.pipeline.working import work
from ingest_platform_tests.serving import CONFIG, Site

ULID = "01kqzcjrpyf27tge33jwvjhkff"
GOOD = {"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}


def _send(site: Site, *items: object) -> str:
    return site.client.post("/v1/machine-data/import-jobs", json={"items": items}).json()["job_id"]


def test_a_record_is_shown_before_and_after_the_end_of_its_job(site: Site) -> None:
    job_id = _send(site, GOOD, {**GOOD, "value": "x"})
    waiting = site.client.get(f"/v1/records/{job_id}:1").json()
    assert (waiting["outcome"], waiting["state"], waiting["detail"]) == (None, "accepted", None)
    work(site.platform)
    stored = site.client.get(f"/v1/records/{job_id}:0").json()
    assert stored["outcome"] in {"created", "updated", "unchanged"}
    assert (stored["stored_in"], stored["reasons"], stored["state"]) == ("readings", [], "finished")
    rejected = site.client.get(f"/v1/records/{job_id}:1").json()
    assert (rejected["outcome"], rejected["stored_in"]) == ("rejected", None)
    assert [(each["code"], each["field"]) for each in rejected["reasons"]] == [("invalid_type", "value")]
    assert list(rejected) == list(waiting)
    records = site.client.get(f"/v1/jobs/{job_id}/records").json()["data"]
    assert [{name: shown[name] for name in records[0]} for shown in (stored, rejected)] == records


@pytest.mark.parametrize("name", ["{job}:2", "{job}", "{job}-0", "x:1", "job_x:99999999999999", "%20", "rec_x-1"])
def test_what_is_no_record_is_not_found(site: Site, name: str) -> None:
    job_id = _send(site, GOOD)
    work(site.platform)
    answer = site.client.get(f"/v1/records/{name.format(job=job_id)}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "record_not_found"


def test_somebody_elses_record_is_not_found(site: Site) -> None:
    job_id = _send(site, GOOD)
    with site.platform.ledger.transaction() as tx:
        tx.execute("INSERT INTO workspaces (name) VALUES ('globex') ON CONFLICT DO NOTHING")
        tx.execute("UPDATE jobs SET workspace = 'globex' WHERE id = %s", (job_id,))
    assert site.client.get(f"/v1/records/{job_id}:0").status_code == 404


def test_an_id_of_a_table_names_the_job_of_its_feed() -> None:
    assert place_of(f"rec_{ULID}-12", [MACHINE_DATA, DATASETS]) == ((f"{DATASETS.job_prefix}{ULID}",), 12)
    assert place_of(f"other_{ULID}-12", [MACHINE_DATA, DATASETS]) == ((), 12)
    assert place_of(f"rec_{ULID}-", [DATASETS]) is None
    assert isinstance(DATASETS.table, AppendTable)
