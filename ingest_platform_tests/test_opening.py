"""The stores of a process as its settings want them."""

from pathlib import Path

import pytest

from ingest_platform.domain import crashpoint
from ingest_platform.feeds import discover
from ingest_platform.opening import open_platform, outbound_rules
from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.settings import Settings, WrongSetting, load_settings
from ingest_platform.storage.blobs import LocalBlobs, S3Blobs
from ingest_platform_tests.making import accept, make_workspace, new_job
from ingest_platform_tests.pipeline.working import job_of, work


def _settings(tmp_path: Path, database_url: str, **more: object) -> Settings:
    return load_settings(data_dir=tmp_path, database_url=database_url, **more)


def test_a_platform_opened_from_settings_works_a_submission_to_its_end(database_url: str, tmp_path: Path) -> None:
    platform = open_platform(_settings(tmp_path, database_url), application="test")
    try:
        make_workspace(platform.ledger)
        (accepted,) = accept(platform.ledger, new_job(b'{"items": [{}]}'))
        (feed,) = (each for each in discover() if each.name == "machine_data")
        work(platform, feed)
        assert job_of(platform, accepted.id).rejected == 1
        assert isinstance(platform.blobs, LocalBlobs)
        # Everything that is written lies below the data folder.
        assert (tmp_path / "lake").is_dir()
    finally:
        platform.close()


def test_limits_come_from_the_settings(database_url: str, tmp_path: Path) -> None:
    given = {"lease_seconds": 7, "load_submissions_max": 5, "attempts_max": 2}
    settings = _settings(tmp_path, database_url, **given, file_bytes_max="3 MiB", disk_free_bytes_min="1 MiB")
    platform = open_platform(settings, application="test")
    try:
        limits = platform.limits
        assert {name: getattr(limits, name) for name in given} == given
        assert (limits.file_bytes_max, limits.disk_free_bytes_min) == (3 * 1024 * 1024, 1024 * 1024)
    finally:
        platform.close()


def test_an_object_store_takes_the_place_of_the_folder(database_url: str, tmp_path: Path) -> None:
    settings = _settings(
        tmp_path,
        database_url,
        storage_url="s3://bucket/prefix",
        s3_endpoint="http://127.0.0.1:9",
        s3_access_key_id="id",
        s3_secret_access_key="hunter2",
    )
    platform = open_platform(settings, application="test")
    try:
        assert isinstance(platform.blobs, S3Blobs)
        assert "hunter2" not in repr(platform)
    finally:
        platform.close()


def test_a_crashpoint_is_armed_at_the_opening(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed: list[str] = []
    monkeypatch.setattr(crashpoint, "arm", armed.append)
    open_platform(_settings(tmp_path, database_url, crashpoint="settle.before_commit"), application="test").close()
    open_platform(_settings(tmp_path, database_url), application="test").close()
    assert armed == ["settle.before_commit"]


def test_where_webhooks_may_lead_comes_from_the_settings(database_url: str, tmp_path: Path) -> None:
    settings = _settings(
        tmp_path, database_url, webhook_networks="10.1.0.0/16, ::1", webhook_http="yes", webhook_attempts_max=3
    )
    rules = outbound_rules(settings)
    assert [str(network) for network in rules.networks] == ["10.1.0.0/16", "::1/128"]
    assert (rules.http_allowed, rules.attempts_max) == (True, 3)
    platform = open_platform(settings, application="test")
    platform.close()
    assert platform.outbound == rules
    with pytest.raises(WrongSetting, match="webhook_networks"):
        outbound_rules(_settings(tmp_path, database_url, webhook_networks="localhost"))
    assert outbound_rules(_settings(tmp_path, database_url)) == OutboundRules()
