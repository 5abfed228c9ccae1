"""Streams over HTTP: what was declared, without the rows of tables, and the accounts in sum and by hour."""

import pytest

from ingest_platform_tests.feeds.stream_events.followed import BODY, Followed, declare_stream


def test_streams_are_listed_and_shown_as_they_were_declared(followed: Followed) -> None:
    listed = followed.site.client.get("/v1/streams").json()
    (summary,) = [each for each in listed["data"] if each["id"] == followed.stream_id]
    assert (summary["name"], summary["version"], summary["masks"], summary["otherwise"]) == ("payments", 1, True, [])
    assert [rule["name"] for rule in summary["rules"]] == ["errors", "rare"]
    shown = followed.site.client.get(followed.path).json()
    assert {name: shown[name] for name in summary} == summary
    assert shown["declared"]["routes"] == BODY["routes"]
    table = shown["declared"]["enrich"][0]["lookup"]["table"]
    assert table == {"file": "teams.csv", "columns": ["source", "owner"], "rows": 1}


def test_the_accounts_are_told_in_sum_by_rule_by_destination_and_by_hour(followed: Followed) -> None:
    stats = followed.site.client.get(f"{followed.path}/stats").json()
    assert stats["balanced"]
    assert stats["total"] == {
        **dict.fromkeys(("rejected", "dropped", "sampled_out", "routed"), 1),
        "received": 4,
        "faults": 0,
    }
    assert [(each["rule"], each["matched"], each["kept"]) for each in stats["rules"]] == [
        ("errors", 1, 1),
        ("rare", 1, 0),
    ]
    archive, siem = stats["destinations"]
    assert (archive["destination"], archive["delivered"], archive["dead"]) == ("archive", 1, 0)
    assert (siem["destination"], siem["delivered"], siem["dead"]) == ("siem", 0, 1)
    (hour,) = stats["hours"]
    assert {name: hour[name] for name in stats["total"]} == stats["total"]


def test_only_the_hours_that_are_asked_for_count(followed: Followed) -> None:
    hour = followed.site.client.get(f"{followed.path}/stats").json()["hours"][0]["hour"]
    since = followed.site.client.get(f"{followed.path}/stats", params={"from": hour}).json()
    assert since["total"]["received"] == 4
    until = followed.site.client.get(f"{followed.path}/stats", params={"to": hour}).json()
    assert (until["total"]["received"], until["hours"], until["balanced"]) == (0, [], True)
    wrong = followed.site.client.get(f"{followed.path}/stats", params={"from": hour, "to": hour})
    assert wrong.status_code == 400


@pytest.mark.parametrize("rest", ["", "/stats", "/tail", "/dead-letters"])
def test_a_stream_that_is_somebody_elses_or_not_there_is_not_found(followed: Followed, rest: str) -> None:
    with followed.site.platform.ledger.transaction() as tx:
        tx.execute("INSERT INTO workspaces (name) VALUES ('globex') ON CONFLICT DO NOTHING")
    declare_stream(followed.site, "theirs", workspace="globex")
    for stream_id in ("theirs", "nobodys"):
        answer = followed.site.client.get(f"/v1/streams/{stream_id}{rest}")
        assert (answer.status_code, answer.json()["error"]) == (404, "stream_not_found")


@pytest.mark.parametrize("rest", ["", "/stats", "/tail", "/dead-letters"])
def test_reading_needs_its_scope(followed: Followed, rest: str) -> None:
    answer = followed.site.anyone.get(f"{followed.path}{rest}", headers=followed.site.bearer("streams:write"))
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
