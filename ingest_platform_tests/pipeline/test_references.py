"""What records may refer to: read once a revision, seen at once when it moves, and never growing without bound."""

from dataclasses import replace

import pytest

from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline import references
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.references import KnownCache, origins_of
from ingest_platform_tests.making import accept, claim
from ingest_platform_tests.pipeline.working import declare, reading, submission


def test_the_catalog_is_read_once_for_each_revision(platform: Platform) -> None:
    declare(platform)
    first = platform.known.of(FEED, {"acme"})
    assert platform.known.of(FEED, {"acme"}) is first
    declare(platform, factor=2)
    second = platform.known.of(FEED, {"acme"})
    assert sorted(second["version"].to_list()) == [1, 1, 1, 1, 2]
    assert first.height == 4


def test_only_the_workspaces_that_are_asked_for_are_told(platform: Platform) -> None:
    for workspace in ("acme", "globex"):
        declare(platform, workspace=workspace)
    assert set(platform.known.of(FEED, {"acme"})["workspace"]) == {"acme"}
    assert set(platform.known.of(FEED, {"acme", "globex"})["workspace"]) == {"acme", "globex"}
    assert platform.known.of(FEED, {"nobody"}).height == 0


def test_ever_new_mixtures_of_workspaces_are_not_all_kept(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "FRAMES_MAX", 3)
    cache = KnownCache(platform.ledger)
    for number in range(10):
        cache.of(FEED, {f"w{number}"})
        assert len(cache._frames) <= 3


def test_the_origin_of_a_submission_is_its_place_in_the_load(platform: Platform) -> None:
    declare(platform)
    accept(platform.ledger, submission(reading(), sites=("north",)), submission(reading(), sites=()))
    accept(platform.ledger, submission(reading()))
    load = claim(platform.ledger)
    assert load is not None
    told = origins_of(load.submissions)
    assert told["submission"].to_list() == [0, 1, 2]
    assert told["sites"].to_list() == [["north"], [], None]
    assert set(told["workspace"]) == {"acme"}
    assert set(told["catalog_revision"]) == {1}
    assert told["job_id"].to_list() == [each.job_id for each in load.submissions]
    assert told["target"].null_count() == told["secret"].null_count() == 3


def test_a_feed_that_asks_for_a_secret_gets_one_of_each_workspace(platform: Platform) -> None:
    assert platform.known.secrets_of(FEED, {"acme"}) == {}
    asking = replace(FEED, secret_name="masks")
    told = platform.known.secrets_of(asking, {"acme", "globex"})
    assert set(map(len, told.values())) == {32}
    assert told["acme"] != told["globex"]
    assert platform.known.secrets_of(asking, {"acme"}) == {"acme": told["acme"]}


def test_the_secret_of_a_workspace_stands_beside_its_submissions(platform: Platform) -> None:
    declare(platform)
    accept(platform.ledger, submission(reading()))
    load = claim(platform.ledger)
    assert load is not None
    assert origins_of(load.submissions, own_secrets={"acme": b"s"})["secret"].to_list() == [b"s"]
