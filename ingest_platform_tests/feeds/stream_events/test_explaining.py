"""The way of one event is told from what is stored: rules, draws, deliveries; behind the masks."""

from ingest_platform_tests.feeds.stream_events.followed import Followed

ULID_LENGTH = 26


def test_a_routed_event_tells_its_rule_and_each_delivery(followed: Followed) -> None:
    shown = followed.site.client.get(f"/v1/records/{followed.job_id}:0").json()
    detail = shown["detail"]
    assert (shown["outcome"], detail["decision"], detail["stream_version"]) == ("created", "routed", 1)
    assert detail["rules"] == [{"name": "errors", "sample": None, "draw": None, "kept": True}]
    assert detail["event"]["event"]["card"] == "[redacted]"
    assert detail["event"]["metadata"] == {"owner": "core"}
    archive, siem = detail["destinations"]
    assert (archive["destination"], archive["state"], archive["weight"]) == ("archive", "delivered", 1)
    (delivery,) = siem["deliveries"]
    assert (siem["state"], delivery["reason"], delivery["attempts"]) == ("dead", "siem does not take it", 1)


def test_an_event_is_found_by_its_own_id(followed: Followed) -> None:
    detail = followed.site.client.get(f"/v1/records/{followed.job_id}:0").json()["detail"]
    assert detail["event_id"] == f"{followed.job_id}-0"
    assert followed.site.client.get(f"/v1/records/{detail['event_id']}").json()["detail"] == detail


def test_an_event_that_was_sampled_out_tells_its_draw(followed: Followed) -> None:
    detail = followed.site.client.get(f"/v1/records/{followed.job_id}:1").json()["detail"]
    (rule,) = detail["rules"]
    assert (detail["decision"], detail["event"], rule["name"], rule["kept"]) == ("sampled_out", None, "rare", False)
    assert rule["sample"] <= rule["draw"] < 1


def test_of_an_event_that_was_dropped_only_that_is_known(followed: Followed) -> None:
    detail = followed.site.client.get(f"/v1/records/{followed.job_id}:2").json()["detail"]
    assert (detail["decision"], detail["rules"], detail["destinations"], detail["event"]) == ("dropped", [], [], None)


def test_a_rejected_event_has_its_reasons_only(followed: Followed) -> None:
    shown = followed.site.client.get(f"/v1/records/{followed.job_id}:3").json()
    assert (shown["outcome"], shown["reasons"][0]["field"], shown["detail"]) == ("rejected", "timestamp", None)
