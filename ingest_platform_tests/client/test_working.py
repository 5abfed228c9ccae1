"""What the client can be asked for, against the real API: readings, files, issues, jobs."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_platform.client import errors, working
from ingest_platform.client.asynchronous import AsyncClient
from ingest_platform.client.sync import Client
from ingest_platform_tests.serving import CONFIG, Site

SCOPES = ("machine-data:write", "machine-data:read", "jobs:read", "ingest:write")


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    return site.key(*SCOPES).token


@pytest.fixture
def client(site: Site, token: str) -> Iterator[Client]:
    with Client(site.url, token) as opened:
        yield opened


def _reading(second: int, value: object = 1.5) -> dict[str, object]:
    return {
        "timestamp": f"2026-05-06T10:{second // 60:02}:{second % 60:02}Z",
        "machine_data_point_config_id": CONFIG,
        "value": value,
    }


def test_readings_are_sent_and_their_job_is_followed(client: Client) -> None:
    sent = client.import_readings([_reading(second) for second in range(200)] + [_reading(0, "warm")])
    (job_id,) = sent.job_ids
    job = client.wait(job_id, seconds=30)
    assert (job.verdict, job.counts["accepted"], job.counts["rejected"]) == ("partial", 200, 1)
    assert client.job(job_id).ended


def test_more_than_a_request_takes_becomes_several_jobs(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "READINGS_MAX", 40)
    sent = client.import_readings(_reading(second) for second in range(100))
    assert (sent.given, len(sent.job_ids)) == (100, 3)
    assert sum(client.wait(job_id).counts["accepted"] or 0 for job_id in sent.job_ids) == 100


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_is_streamed_and_its_reading_watched(client: Client, tmp_path: Path, *, compressed: bool) -> None:
    lines = "".join(json.dumps(_reading(second)) + "\n" for second in range(100)).encode()
    path = tmp_path / ("readings.ndjson.gz" if compressed else "readings.ndjson")
    path.write_bytes(gzip.compress(lines) if compressed else lines)
    seen: list[int] = []
    job = client.wait(client.import_file(path, see=seen.append))
    assert (job.verdict, job.counts["accepted"]) == ("succeeded", 100)
    assert sum(seen) == path.stat().st_size


def test_a_second_call_under_the_same_key_is_the_same_one(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(f"timestamp,machine_data_point_config_id,value\n2026-05-06T10:00:00Z,{CONFIG},1\n")
    assert client.import_file(path, key="file-1") == client.import_file(path, key="file-1")
    readings = [_reading(second) for second in range(100)]
    first = client.import_readings(readings, key="readings-1")
    assert client.import_readings(readings, key="readings-1") == first
    with pytest.raises(errors.Invalid):
        client.import_readings(readings[1:], key="readings-1")


def test_issues_have_a_verdict_each_at_their_own_place(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "ISSUES_MAX", 2)
    good = {"source": "jira", "title": "It is broken"}
    sent = client.send_issues([{**good, "external_id": f"A-{number}"} for number in range(4)] + [good])
    assert (sent.given, sent.accepted, sent.rejected, len(sent.issue_ids)) == (5, 4, 1, 4)
    (error,) = sent.errors
    assert (error.index, error.field, error.code) == (4, "external_id", "missing_field")
    assert client.wait(sent.job_ids[0]).verdict == "succeeded"


def test_refusals_say_what_the_server_said(site: Site, client: Client) -> None:
    with pytest.raises(errors.NotFound) as raised:
        client.job("job_01kqzcjrpyf27tge33jwvjhkff")
    assert raised.value.request_id
    with Client(site.url, "ing_live_nobody") as stranger, pytest.raises(errors.Unauthorized):
        stranger.import_readings([_reading(0)])


def test_the_awaited_client_does_the_same(site: Site, token: str, tmp_path: Path) -> None:
    path = tmp_path / "readings.ndjson"
    path.write_text(json.dumps(_reading(0)))

    async def send() -> list[str | None]:
        async with AsyncClient(site.url, token, compression="zstd") as client:
            job_ids = (await client.import_readings([_reading(second) for second in range(100)])).job_ids
            jobs = [await client.wait(job_id) for job_id in (*job_ids, await client.import_file(path))]
            return [job.verdict for job in jobs]

    assert asyncio.run(send()) == ["succeeded", "succeeded"]
