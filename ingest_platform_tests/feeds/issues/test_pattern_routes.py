"""Patterns over real HTTP: found in the run that stores the issues, explained, changed by people, and undone."""

import uuid
from collections.abc import Iterator, Sequence

import httpx
import pytest

from ingest_platform.domain.errors import WarehouseFault
from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.detecting import detect_all
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform_tests.serving import Site, fresh_database, serving

PATTERNS = "/v1/patterns"
FIELDS = {
    *("id", "name", "status", "issue_count", "confidence", "risk_score", "first_seen_at", "last_seen_at"),
    *("sources", "teams"),
}
CHANGES = ("merge", "split", "pin", "unpin", "undo")


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API once: the tests use words of their own."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as served:
        yield served


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    """Hold a key of acme that may do all."""
    headers = site.bearer("ingest:write", "issues:read", "patterns:read")
    with httpx.Client(base_url=site.url, headers=headers, timeout=30) as opened:
        yield opened


def word() -> str:
    """Make up a word that is in no other test."""
    return "".join(chr(ord("a") + int(digit, 16)) for digit in uuid.uuid4().hex[:10])


def store(site: Site, client: httpx.Client, titles: Sequence[str], **fields: object) -> list[str]:
    """Send issues and work them off; their ids."""
    records = [{"source": "jira", "external_id": f"X-{uuid.uuid4()}", "title": each, **fields} for each in titles]
    answer = client.post("/v1/ingest/batch", json={"records": records})
    assert answer.status_code == 202, answer.text
    work_until_idle(site.platform, FEED, day=None, run_id="run", linger_seconds=0)
    return answer.json()["issue_ids"]


def pattern_of(client: httpx.Client, issue_id: str) -> str:
    answer = client.get(f"/v1/issues/{issue_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()["pattern_id"]


def show(client: httpx.Client, pattern_id: str) -> dict[str, object]:
    answer = client.get(f"{PATTERNS}/{pattern_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def change(client: httpx.Client, pattern_id: str, kind: str, **body: object) -> dict[str, object]:
    answer = client.post(f"{PATTERNS}/{pattern_id}/{kind}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", [PATTERNS, f"{PATTERNS}/x", "/v1/issues/x/pattern"])
def test_reading_needs_a_token_and_its_scope(site: Site, path: str) -> None:
    assert site.anyone.get(path).status_code == 401
    assert site.anyone.get(path, headers=site.bearer("issues:read")).status_code == 403


@pytest.mark.parametrize("kind", CHANGES)
def test_changing_needs_a_token_and_its_scope(site: Site, kind: str) -> None:
    path = f"{PATTERNS}/x/{kind}"
    assert site.anyone.post(path, json={}).status_code == 401
    assert site.anyone.post(path, json={}, headers=site.bearer("patterns:read")).status_code == 403


def test_another_workspaces_pattern_is_answered_like_one_that_does_not_exist(site: Site, client: httpx.Client) -> None:
    (issue,) = store(site, client, [f"The {word()} is broken today"])
    pattern = pattern_of(client, issue)
    headers = site.bearer("ingest:write", "issues:read", "patterns:read", workspace="globex")
    bodies = {"merge": {"into": pattern}, "split": {"fingerprints": ["x"]}, "undo": {}}
    for each in (pattern, "pat_unknown", "x"):
        answers = [site.anyone.get(f"{PATTERNS}/{each}", headers=headers)]
        answers += [
            site.anyone.post(f"{PATTERNS}/{each}/{kind}", headers=headers, json=body) for kind, body in bodies.items()
        ]
        for answer in answers:
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == "There is no such pattern."
    assert site.anyone.get(PATTERNS, headers=headers).json()["data"] == []
    assert site.anyone.get(f"/v1/issues/{issue}/pattern", headers=headers).status_code == 404


def test_issues_of_one_wording_are_one_pattern_with_its_figures(site: Site, client: httpx.Client) -> None:
    it = word()
    first, second = store(site, client, [f"{it} times out after 30 s", f"{it} times out after 45 s"], severity="p1")
    pattern = pattern_of(client, first)
    assert pattern_of(client, second) == pattern
    assert show(client, pattern)["status"] == "watching"
    (third,) = store(site, client, [f"The {it} times out after 7 minutes"], team="payments", source="github")
    shown = show(client, pattern)
    assert shown["name"] == f"{it} times out after <num>"
    assert (shown["status"], shown["issue_count"]) == ("active", 3)
    assert (shown["sources"], shown["teams"]) == (["github", "jira"], ["payments"])
    assert shown["first_seen_at"] < shown["last_seen_at"]
    # Two critical ones and a medium one, three within the day, the last just now.
    assert shown["risk_score"] == round(50 * (1 + 2.3 / 3) / 2 + 30 * 0.30037 + 20)
    wordings = {each["wording"]: each for each in shown["fingerprints"]}
    assert {name: each["issue_count"] for name, each in wordings.items()} == {
        f"{it} times out after <num>": 2,
        f"the {it} times out after <num>": 1,
    }
    similar = wordings[f"the {it} times out after <num>"]
    assert (similar["how"], similar["matched_by"]) == ("matched", "similar")
    assert 0.9 <= similar["confidence"] < 1
    assert it in {each["term"] for each in similar["terms"]}
    told = client.get(f"/v1/issues/{third}/pattern").json()
    assert (told["pattern_id"], told["confidence"]) == (pattern, similar["confidence"])


def test_a_pattern_is_resolved_when_all_of_its_issues_are(site: Site, client: httpx.Client) -> None:
    issues = store(site, client, [f"The {word()} is slow again"] * 3)
    pattern = pattern_of(client, issues[0])
    for issue, status in zip(issues, ("closed", "resolved", "in_progress"), strict=True):
        assert client.patch(f"/v1/issues/{issue}", json={"status": status}).status_code == 200
    assert show(client, pattern)["status"] == "active"
    client.patch(f"/v1/issues/{issues[2]}", json={"status": "closed"})
    assert (show(client, pattern)["status"], show(client, pattern)["risk_score"]) == ("resolved", 0)
    assert pattern in [each["id"] for each in client.get(PATTERNS, params={"status": "resolved"}).json()["data"]]


@pytest.mark.parametrize("sort", ["first_seen_at", "-first_seen_at", "-risk_score", "issue_count", "-last_seen_at"])
def test_pages_have_each_pattern_once(site: Site, client: httpx.Client, sort: str) -> None:
    store(site, client, [f"The {word()} is gone for good" for _ in range(3)])
    seen: list[dict[str, object]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = client.get(PATTERNS, params={"sort": sort, "limit": 2, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()["page"]
        seen += answer.json()["data"]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len({each["id"] for each in seen}) == len(seen) == page["total"]
    assert all(each.keys() == FIELDS for each in seen)
    values = [each[sort.removeprefix("-")] for each in seen]
    assert values == sorted(values, reverse=sort.startswith("-"))
    other = client.get(PATTERNS, params={"sort": "issue_count", "status": "active", **cursor})
    assert other.status_code == 400


def test_a_merge_a_split_and_a_pin_are_shown_at_once_and_undone(site: Site, client: httpx.Client) -> None:
    one, other, third = store(site, client, [f"The {word()} has failed at night" for _ in range(3)])
    patterns = [pattern_of(client, each) for each in (one, other, third)]
    merged = change(client, patterns[0], "merge", into=patterns[1])
    assert (merged["id"], merged["issue_count"]) == (patterns[1], 2)
    assert {each["how"] for each in merged["fingerprints"]} == {"matched", "merged"}
    assert show(client, patterns[0])["id"] == pattern_of(client, one) == patterns[1]
    for asked in patterns[:2]:
        listed = client.get("/v1/issues", params={"pattern_id": asked}).json()
        assert {each["id"] for each in listed["data"]} == {one, other}

    pinned = change(client, patterns[1], "pin", issue_ids=[third])
    assert (pinned["issue_count"], pattern_of(client, third)) == (3, patterns[1])
    assert client.get(f"/v1/issues/{third}/pattern").json()["how"] == "pinned"

    fingerprint = next(each["fingerprint"] for each in merged["fingerprints"] if each["how"] == "matched")
    new = change(client, patterns[1], "split", fingerprints=[fingerprint], name="Nights")
    assert (new["name"], new["issue_count"], pattern_of(client, other)) == ("Nights", 1, new["id"])

    kinds = [each["kind"] for each in show(client, patterns[1])["changes"]]
    assert kinds == ["split", "pinned", "merged"]
    for _ in kinds:
        change(client, patterns[1], "undo")
    assert [pattern_of(client, each) for each in (one, other, third)] == patterns
    assert client.post(f"{PATTERNS}/{patterns[1]}/undo", json={}).status_code == 404


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("merge", {}, 400),
        ("merge", {"into": "x", "pattern_ids": ["y"]}, 400),
        ("merge", {"into": 5}, 400),
        ("merge", {"into": "pat_unknown"}, 404),
        ("merge", {"into": "pat_\x00"}, 400),
        ("merge", {"pattern_ids": ["pat_\x00"]}, 400),
        ("merge", {"pattern_ids": [f"pat_{number}" for number in range(501)]}, 400),
        ("split", {"fingerprints": []}, 400),
        ("split", {"fingerprints": ["0" * 16]}, 409),
        ("split", {"fingerprints": ["0" * 16], "name": " "}, 400),
        ("pin", {"issue_ids": ["iss_unknown"]}, 404),
        ("unpin", {"issue_ids": ["iss_unknown"]}, 409),
        ("undo", {"change_id": 10**30}, 404),
        ("undo", {"change_id": 1, "more": 2}, 400),
    ],
)
def test_what_makes_no_sense_is_refused(
    site: Site, client: httpx.Client, kind: str, body: dict[str, object], status: int
) -> None:
    (issue,) = store(site, client, [f"The {word()} has no sense at all"])
    pattern = pattern_of(client, issue)
    answer = client.post(f"{PATTERNS}/{pattern}/{kind}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == {400: "validation_error", 404: "not_found", 409: "conflict"}[status]


def test_merging_with_itself_is_a_conflict_and_a_key_repeats_the_answer(site: Site, client: httpx.Client) -> None:
    one, other = (pattern_of(client, each) for each in store(site, client, [f"{word()} was lost", f"{word()} is late"]))
    assert client.post(f"{PATTERNS}/{one}/merge", json={"into": one}).status_code == 409
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = client.post(f"{PATTERNS}/{one}/merge", json={"into": other}, headers=headers)
    again = client.post(f"{PATTERNS}/{one}/merge", json={"into": other}, headers=headers)
    assert first.status_code == again.status_code == 200
    assert first.content == again.content


def test_a_key_that_was_used_for_another_pattern_is_refused_and_changes_nothing(
    site: Site, client: httpx.Client
) -> None:
    one, other = (pattern_of(client, each) for each in store(site, client, [f"{word()} is red", f"{word()} fell down"]))
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    for pattern in (one, other):
        (issue,) = store(site, client, [f"The {word()} stands alone"])
        change(client, pattern, "pin", issue_ids=[issue])
    assert client.post(f"{PATTERNS}/{one}/undo", json={}, headers=headers).status_code == 200
    assert client.post(f"{PATTERNS}/{other}/undo", json={}, headers=headers).status_code == 422
    assert show(client, other)["issue_count"] == 2


def test_a_change_that_can_not_be_shown_is_not_made(
    site: Site, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (pattern_of(client, each) for each in store(site, client, [f"{word()} is blue", f"{word()} ran away"]))

    def away(*_: object, **__: object) -> None:
        raise WarehouseFault("the lake is away")

    with monkeypatch.context() as patched:
        patched.setattr("ingest_platform.feeds.issues.pattern_routes.read_one", away)
        answer = client.post(f"{PATTERNS}/{one}/merge", json={"into": other})
    assert answer.status_code == 503
    assert show(client, one)["id"] == one


def test_a_pattern_is_detected_once(site: Site, client: httpx.Client) -> None:
    detect_all(site.platform)
    store(site, client, [f"The {word()} is dark everywhere"] * 3)
    assert detect_all(site.platform)["detected"] == 1
    assert detect_all(site.platform)["detected"] == 0
