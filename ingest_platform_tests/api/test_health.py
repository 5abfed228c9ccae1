"""Health and figures, also while the disk is full or PostgreSQL is away."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from ingest_platform.api.services import Limits
from ingest_platform_tests.serving import CONFIG, Site, serving

IMPORT = "/v1/machine-data/import-jobs"
BODY = {"items": [{"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}]}


@pytest.fixture
def full(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """Serve on a disk whose reserve is used up."""
    with serving(database_url, tmp_path, limits=Limits(disk_free_bytes_min=1 << 60)) as site:
        yield site


def test_a_healthy_process_is_alive_and_ready(site: Site) -> None:
    assert site.anyone.get("/healthz").json() == {"status": "ok"}
    assert site.anyone.get("/readyz").json() == {"status": "ready"}


def test_the_figures_are_those_of_the_ledger_and_of_this_process(site: Site) -> None:
    site.client.post(IMPORT, json=BODY)
    answer = site.anyone.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'ingest_jobs{feed="machine_data",state="accepted"} 1.0' in answer.text
    assert 'ingest_jobs_accepted_total{feed="machine_data"} 1.0' in answer.text
    assert f'route="{IMPORT}",status="202"}} 1.0' in answer.text
    assert 'ingest_records{feed="machine_data",outcome="created"} 0.0' in answer.text


def test_a_full_disk_stops_intake_and_nothing_else(full: Site) -> None:
    refused = full.client.post(IMPORT, json=BODY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "disk_full")
    assert int(refused.headers["Retry-After"]) > 0
    assert full.anyone.get("/readyz").status_code == 503
    assert full.anyone.get("/healthz").status_code == 200
    assert full.client.get("/v1/jobs").json()["page"]["total"] == 0


def test_without_postgresql_everything_is_503_in_time_and_recovers_by_itself(site: Site, server_url: str) -> None:
    assert site.client.post(IMPORT, json=BODY).status_code == 202
    name = urlsplit(site.platform.ledger.database_url).path.removeprefix("/")
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')  # type: ignore[arg-type]
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        for method, path in (("POST", IMPORT), ("GET", "/v1/jobs"), ("GET", "/readyz"), ("POST", IMPORT)):
            began = time.monotonic()
            answer = site.client.request(method, path, json=BODY if method == "POST" else None)
            assert answer.status_code == 503, (method, path, answer.text)
            assert answer.json()["error"]["request_id"]
            assert int(answer.headers["Retry-After"]) > 0
            assert time.monotonic() - began < 2.5
        assert site.anyone.get("/healthz").status_code == 200
        assert site.anyone.get("/metrics").status_code == 200
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')  # type: ignore[arg-type]
    began = time.monotonic()
    while site.client.post(IMPORT, json=BODY).status_code != 202:
        assert time.monotonic() - began < 10
    assert site.anyone.get("/readyz").status_code == 200


def test_a_connection_that_died_while_nobody_looked_costs_nobody_a_request(site: Site, server_url: str) -> None:
    assert site.client.post(IMPORT, json=BODY).status_code == 202
    name = urlsplit(site.platform.ledger.database_url).path.removeprefix("/")
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
    assert site.client.post(IMPORT, json=BODY).status_code == 202
    assert site.client.get("/v1/jobs").json()["page"]["total"] == 2
