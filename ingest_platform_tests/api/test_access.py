"""Tokens, scopes, workspaces and rates: who is let in, and what the others are told."""

import re

import httpx
import pytest

from ingest_platform.api.openapi import operations
from ingest_platform.storage import keys, workspaces
from ingest_platform_tests.serving import CONFIG, Site

IMPORT = "/v1/machine-data/import-jobs"
BODY = {"items": [{"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}]}


def _guarded(site: Site) -> list[tuple[str, str, set[str]]]:
    """List what is guarded, with the kinds of token that it takes."""
    document = site.anyone.get("/openapi.json").json()
    kinds = {"apiKey": "api", "personalAccessToken": "pat"}
    return [
        (
            method,
            re.sub(r"\{[^}]*\}", "job_none", path),
            {kinds[name] for each in operation["security"] for name in each},
        )
        for path, method, operation in operations(document)
        if operation["security"]
    ]


def _ask(site: Site, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    content = {"json": BODY} if method == "POST" else {}
    return site.anyone.request(method, path, headers=headers, **content)


def test_every_guarded_route_refuses_strangers_the_wrong_kind_of_token_and_a_missing_scope(site: Site) -> None:
    unknown = {"Authorization": "Bearer ing_live_0123456789abcdef_" + "s" * 40}
    wrong_secret = {"Authorization": f"Bearer {site.token[:-3]}000"}
    # Good tokens of both kinds, without the scope that a route asks for: routes of streams take no scope of datasets,
    # and others none of streams.
    powerless = [
        {kind: site.bearer(scope, kind=kind) for kind in ("api", "pat")}
        for scope in ("streams:write", "datasets:write")
    ]
    guarded = _guarded(site)
    assert len(guarded) > 15
    for method, path, kinds in guarded:
        for headers in ({}, unknown, wrong_secret, {"Authorization": "Basic Zm9v"}):
            answer = _ask(site, method, path, headers)
            assert answer.status_code == 401, (method, path)
            error = answer.json()["error"]
            assert isinstance(error, str) or error["code"] == "unauthorized"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        for kind, headers in powerless[path.startswith("/v1/streams")].items():
            refused = 403 if kind in kinds else 401
            assert _ask(site, method, path, headers).status_code == refused, (method, path, kind)


def test_revoked_and_expired_keys_are_refused_at_once(site: Site) -> None:
    issued, brief = site.key(), site.key(expires_in_seconds=0)
    headers = {"Authorization": f"Bearer {issued.token}"}
    assert _ask(site, "POST", IMPORT, headers).status_code == 202
    with site.platform.ledger.transaction() as tx:
        assert keys.revoke(tx, issued.record.key_id)
    revoked = _ask(site, "POST", IMPORT, headers)
    expired = _ask(site, "POST", IMPORT, {"Authorization": f"Bearer {brief.token}"})
    assert revoked.status_code == expired.status_code == 401
    assert revoked.json()["error"]["message"] == expired.json()["error"]["message"]


def test_another_workspace_gets_the_same_404_as_for_what_does_not_exist(site: Site) -> None:
    job_id = site.client.post(IMPORT, json=BODY).json()["job_id"]
    foreign = site.bearer(workspace="globex")
    for path in ("/v1/jobs/{}", "/v1/jobs/{}/records", "/v1/jobs/{}/rejected.ndjson", f"{IMPORT}/{{}}"):
        mine = site.client.get(path.format(job_id))
        theirs = site.anyone.get(path.format(job_id), headers=foreign)
        nobodys = site.anyone.get(path.format("job_01kqzcjrpyf27tge33jwvjhkff"), headers=foreign)
        assert mine.status_code == 200
        assert theirs.status_code == nobodys.status_code == 404
        bodies = [answer.json()["error"] | {"request_id": None} for answer in (theirs, nobodys)]
        assert bodies[0] == bodies[1]
    assert site.anyone.get("/v1/jobs", headers=foreign).json()["data"] == []


def test_the_rate_is_shown_on_every_answer_of_a_limited_route_and_ends_in_429(site: Site) -> None:
    with site.platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", rate_limits={"machine_data": 3}))
    good = site.client.post(IMPORT, json=BODY)
    malformed = site.client.post(IMPORT, content=b"{", headers={"Content-Type": "application/json"})
    unread = site.client.post(IMPORT, content=b"x", headers={"Content-Type": "text/plain"})
    limited = site.client.post(IMPORT, json=BODY)
    assert [answer.status_code for answer in (good, malformed, unread, limited)] == [202, 400, 415, 429]
    assert [answer.headers["X-RateLimit-Limit"] for answer in (good, malformed, unread, limited)] == ["3"] * 4
    assert [answer.headers["X-RateLimit-Remaining"] for answer in (good, malformed, unread, limited)] == [
        *("2", "1", "0", "0"),
    ]
    assert int(limited.headers["Retry-After"]) >= 1
    assert limited.json()["error"]["type"] == "rate_limit"
    stranger = site.anyone.post(IMPORT, json=BODY)
    assert stranger.status_code == 401
    assert "X-RateLimit-Limit" in stranger.headers
    other = site.anyone.post(IMPORT, json=BODY, headers=site.bearer(workspace="globex"))
    assert other.status_code == 202


def test_a_wrong_secret_takes_nothing_from_the_workspace(site: Site) -> None:
    for _ in range(3):
        site.anyone.post(IMPORT, json=BODY, headers={"Authorization": f"Bearer {site.token[:-3]}000"})
    assert site.client.post(IMPORT, json=BODY).headers["X-RateLimit-Remaining"] == "1499"


@pytest.mark.parametrize("sent", ["abc-123", "x" * 128])
def test_a_sane_request_id_comes_back(shared_site: Site, sent: str) -> None:
    answer = shared_site.client.get(f"{IMPORT}/job_none", headers={"X-Request-Id": sent})
    assert answer.headers["X-Request-Id"] == answer.headers["Cula-Request-Id"] == sent
    assert answer.json()["error"]["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "ä"])
def test_another_request_id_is_replaced(shared_site: Site, sent: str) -> None:
    answer = shared_site.client.get("/nowhere", headers={"X-Request-Id": sent.encode()})
    assert re.fullmatch(r"req_[0-9a-z]{26}", answer.headers["X-Request-Id"])
    assert "Cula-Request-Id" not in answer.headers
