"""Reading issues back, over real HTTP: at once, in lists, and what was said and done about them."""

import uuid
from collections.abc import Iterator, Mapping, Sequence

import httpx
import pytest

from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.identity import identify
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform_tests.serving import Site, fresh_database, serving

ISSUES = "/v1/issues"
BATCH = "/v1/ingest/batch"
FIELDS = [
    *("id", "title", "body", "status", "severity", "severity_name", "source", "source_raw", "external_id"),
    *("external_url", "team", "metadata", "connector_id", "pattern_id", "occurrences", "source_created_at"),
    *("source_updated_at", "created_at", "updated_at", "first_seen_at", "last_seen_at", "pending"),
]
WHOLE = {
    "source": " Our CRM ",
    "title": "Checkout times out",
    "body": "504 in 12 of 40\nattempts",
    "severity": "high",
    "team": "payments",
    "external_url": "https://crm.example.com/1",
    "source_created_at": "2026-05-06T12:15:00.123456+02:00",
    "source_updated_at": "2026-05-06T10:20:00Z",
    "connector_id": "con_1",
    "metadata": {"a": [1, {"b": None}], "ä": "\\u0041 é", "n": 1.50},
}


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API once: the tests use ids and teams of their own."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as served:
        yield served


def _client(site: Site, *scopes: str, workspace: str = "acme") -> httpx.Client:
    return httpx.Client(base_url=site.url, headers=site.bearer(*scopes, workspace=workspace), timeout=20)


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    """Hold a key of acme that may send and read."""
    with _client(site, "ingest:write", "issues:read") as opened:
        yield opened


@pytest.fixture(scope="module")
def foreigner(site: Site) -> Iterator[httpx.Client]:
    """Hold a key of globex that may do the same."""
    with _client(site, "ingest:write", "issues:read", workspace="globex") as opened:
        yield opened


def _send(client: httpx.Client, *records: Mapping[str, object]) -> list[str]:
    """Send records; the ids of their issues."""
    whole = [{"source": "jira", "external_id": f"X-{uuid.uuid4()}", "title": "It fails", **each} for each in records]
    answer = client.post(BATCH, json={"records": whole})
    assert answer.status_code == 202, answer.text
    assert answer.json()["rejected"] == []
    return answer.json()["issue_ids"]


def _work(site: Site) -> None:
    work_until_idle(site.platform, FEED, day=None, run_id="run", linger_seconds=0)


def _store(site: Site, client: httpx.Client, *records: Mapping[str, object]) -> list[str]:
    ids = _send(client, *records)
    _work(site)
    return ids


def _get(client: httpx.Client, issue_id: str) -> dict[str, object]:
    answer = client.get(f"{ISSUES}/{issue_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def _list(client: httpx.Client, **query: object) -> dict[str, object]:
    answer = client.get(ISSUES, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _listed(client: httpx.Client, **query: object) -> list[str]:
    return [issue["id"] for issue in _list(client, **query)["data"]]


def _patch(client: httpx.Client, issue_id: str, **change: object) -> httpx.Response:
    return client.patch(f"{ISSUES}/{issue_id}", json=change)


def _history(client: httpx.Client, issue_id: str, **query: object) -> dict[str, object]:
    answer = client.get(f"{ISSUES}/{issue_id}/history", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _pages(client: httpx.Client, path: str, **query: object) -> Iterator[list[dict[str, object]]]:
    cursor = None
    while True:
        answer = client.get(path, params={**query, **({} if cursor is None else {"cursor": cursor})})
        assert answer.status_code == 200, answer.text
        yield answer.json()["data"]
        page = answer.json()["page"]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            return


def _team() -> str:
    return f"team-{uuid.uuid4()}"


# Who may


@pytest.mark.parametrize("path", [ISSUES, f"{ISSUES}/x", f"{ISSUES}/x/history"])
def test_reading_needs_a_token_and_its_scope(site: Site, path: str) -> None:
    assert site.anyone.get(path).status_code == 401
    assert site.anyone.get(path, headers=site.bearer("ingest:write")).status_code == 403


def test_changing_needs_a_token_and_its_scope(site: Site) -> None:
    assert site.anyone.patch(f"{ISSUES}/x", json={}).status_code == 401
    assert site.anyone.patch(f"{ISSUES}/x", json={}, headers=site.bearer("issues:read")).status_code == 403


def test_another_workspaces_issue_is_answered_like_one_that_does_not_exist(
    site: Site, client: httpx.Client, foreigner: httpx.Client
) -> None:
    (stored,), (waiting,) = _store(site, client, {}), _send(client, {})
    nobodys, _ = identify("acme", "jira", str(uuid.uuid4()))
    bodies = set()
    for path in (
        *(f"{ISSUES}/{each}" for each in (stored, waiting, nobodys, "iss_1", "x%00y"[:1], "iss_" + "u" * 26)),
    ):
        for answer in (
            foreigner.get(path),
            foreigner.get(f"{path}/history"),
            foreigner.patch(path, json={"status": "closed"}),
        ):
            assert answer.status_code == 404
            error = answer.json()["error"]
            assert error.pop("trace_id") == answer.headers["X-Request-Id"]
            bodies.add(str(error))
    assert len(bodies) == 1
    assert _get(client, stored)["status"] == _get(client, waiting)["status"] == "open"
    _work(site)


# One issue


def test_an_issue_has_exactly_its_fields_before_and_after_it_is_stored(site: Site, client: httpx.Client) -> None:
    (issue_id,) = _send(client, WHOLE | {"external_id": "C-1"})
    before = _get(client, issue_id)
    _work(site)
    after = _get(client, issue_id)
    assert list(before) == list(after) == FIELDS
    assert (before["pending"], after["pending"]) == (True, False)
    assert after["pattern_id"] is not None
    assert before | {"pending": False, "pattern_id": after["pattern_id"]} == after
    accepted_at = after["created_at"]
    assert after == {
        **{name: WHOLE[name] for name in ("title", "body", "team", "external_url", "connector_id", "metadata")},
        "id": issue_id,
        "status": "open",
        "severity": "p2",
        "severity_name": "high",
        "source": "custom_api",
        "source_raw": " Our CRM ",
        "external_id": "C-1",
        "pattern_id": after["pattern_id"],
        "occurrences": 1,
        "source_created_at": "2026-05-06T10:15:00.123Z",
        "source_updated_at": "2026-05-06T10:20:00.000Z",
        **dict.fromkeys(("created_at", "updated_at", "first_seen_at", "last_seen_at"), accepted_at),
        "pending": False,
    }


def test_metadata_is_shown_in_the_very_text_in_which_it_was_sent(site: Site, client: httpx.Client) -> None:
    text = '{"n": 1.50, "e":"\\u0041", "big": 12345678901234567890.5}'
    body = f'{{"records":[{{"source":"jira","external_id":"M-1","title":"t","metadata":{text}}}]}}'
    (issue_id,) = client.post(BATCH, content=body, headers={"Content-Type": "application/json"}).json()["issue_ids"]
    assert f'"metadata":{text},' in client.get(f"{ISSUES}/{issue_id}").text
    _work(site)
    assert f'"metadata":{text},' in client.get(f"{ISSUES}/{issue_id}").text


def test_the_least_issue_has_nulls_and_the_default_severity(site: Site, client: httpx.Client) -> None:
    (issue_id,) = _store(site, client, {})
    issue = _get(client, issue_id)
    absent = ("body", "external_url", "team", "metadata", "connector_id", "source_created_at", "source_updated_at")
    assert [issue[name] for name in absent] == [None] * len(absent)
    assert (issue["severity"], issue["severity_name"]) == ("p3", "medium")


def test_what_waits_is_folded_over_what_is_stored_as_the_load_will(site: Site, client: httpx.Client) -> None:
    me = {"external_id": f"F-{uuid.uuid4()}"}
    newer, older = {"source_updated_at": "2026-05-06T10:00:02Z"}, {"source_updated_at": "2026-05-06T10:00:01Z"}
    (issue_id,) = _store(site, client, {**me, "title": "one", "body": "b", "team": "x"})
    _send(client, {**me, "title": "two", **newer}, {"title": "a neighbour"}, {**me, "title": "three", "severity": "p1"})
    _send(client, {**me, "title": "stale", "team": "stale", **older})
    _send(client, {**me, "title": "last", "team": "y"})
    before = _get(client, issue_id)
    assert (before["title"], before["body"], before["team"], before["severity"]) == ("last", "b", "y", "p1")
    assert (before["occurrences"], before["pending"]) == (4, True)
    _work(site)
    after = _get(client, issue_id)
    assert before | {"pending": False, "pattern_id": after["pattern_id"]} == after


def test_records_of_a_body_that_lies_in_a_blob_are_seen_at_once(site: Site, client: httpx.Client) -> None:
    large = [{"title": f"t{number}", "body": f"{number} " * 20_000} for number in range(20)]
    ids = _send(client, *large)
    assert [_get(client, ids[place])["title"] for place in (0, 19)] == ["t0", "t19"]
    _work(site)
    assert _get(client, ids[19])["pending"] is False


# The status


def test_a_status_is_seen_at_once_whether_the_issue_is_stored_or_not(site: Site, client: httpx.Client) -> None:
    (issue_id,) = _send(client, {})
    answer = _patch(client, issue_id, status="in_progress")
    assert answer.status_code == 200
    assert answer.json() == _get(client, issue_id)
    assert (answer.json()["status"], answer.json()["pending"]) == ("in_progress", True)
    _work(site)
    stored = _get(client, issue_id)
    assert (stored["status"], stored["pending"]) == ("in_progress", False)
    assert _patch(client, issue_id, status="closed").json() == _get(client, issue_id)


def test_a_change_of_the_status_moves_updated_at_and_nothing_else(site: Site, client: httpx.Client) -> None:
    (issue_id,) = _store(site, client, {})
    before = _get(client, issue_id)
    after = _patch(client, issue_id, status="resolved").json()
    assert after["updated_at"] > before["updated_at"]
    assert after | {"status": "open", "updated_at": before["updated_at"]} == before
    assert _patch(client, issue_id, status="resolved").json() == after


def test_a_new_record_leaves_the_status_as_it_is(site: Site, client: httpx.Client) -> None:
    me = {"external_id": f"S-{uuid.uuid4()}"}
    (issue_id,) = _store(site, client, me)
    _patch(client, issue_id, status="closed")
    _store(site, client, {**me, "title": "Again"})
    issue = _get(client, issue_id)
    assert (issue["status"], issue["title"], issue["occurrences"]) == ("closed", "Again", 2)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ('{"status": "done"}', {"status"}),
        ('{"status": null}', {"status"}),
        ('{"status": 1}', {"status"}),
        ("{}", {"status"}),
        ('{"status": "open", "title": "x"}', {"title"}),
        ('{"title": "x", "severity": "p1"}', {"status", "title", "severity"}),
        ('{"status": "open", "status": "closed"}', {"status"}),
        ("[]", set()),
        ("", set()),
        ("{", set()),
        ('{"status": "\\ud800"}', set()),
    ],
)
def test_a_wrong_change_is_refused_naming_each_field(client: httpx.Client, body: str, fields: set[str]) -> None:
    (issue_id,) = _send(client, {})
    answer = client.patch(f"{ISSUES}/{issue_id}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "validation_error"
    assert set(error.get("details", {})) >= fields
    assert _get(client, issue_id)["status"] == "open"
    assert _history(client, issue_id)["data"] == []


def test_a_change_takes_json_of_a_sane_size(client: httpx.Client) -> None:
    path = f"{ISSUES}/iss_x"
    assert client.patch(path, content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    large = client.patch(path, json={"status": "open", "x": "y" * 100_000})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "payload_too_large")


# Lists


def _fill(site: Site, client: httpx.Client, count: int, **more: object) -> tuple[str, list[str]]:
    team = _team()
    return team, _store(site, client, *({"team": team, "title": f"Number {n}", **more} for n in range(count)))


def test_a_list_has_only_what_is_asked_for_and_of_this_workspace(
    site: Site, client: httpx.Client, foreigner: httpx.Client
) -> None:
    team = _team()
    mine = {"team": team}
    jira, slack, crm, shop = _store(
        site,
        client,
        {**mine, "source": "Jira", "severity": "critical"},
        {**mine, "source": "slack", "severity": "p1"},
        {**mine, "source": " Our CRM", "title": "The SHOP is 100% down"},
        {**mine, "source": "our shop", "body": 'it\'s "down" under_lined Straße'},
    )
    _store(site, foreigner, mine)
    assert _listed(client, team=team) == sorted([jira, slack, crm, shop], reverse=True)
    cases: Sequence[tuple[dict[str, object], set[str]]] = [
        ({"severity": "p1"}, {jira, slack}),
        ({"severity": "critical"}, {jira, slack}),
        ({"severity": "medium"}, {crm, shop}),
        ({"source": "jira"}, {jira}),
        ({"source": "custom_api"}, {crm, shop}),
        ({"source": "OUR CRM "}, {crm}),
        ({"source": "crm"}, set()),
        ({"q": "%"}, {crm}),
        ({"q": "_"}, {shop}),
        ({"q": 'IT\'S "DOWN"'}, {shop}),
        ({"q": "DOWN"}, {crm, shop}),
        ({"q": "straße"}, {shop}),
        ({"q": "down", "severity": "p3", "source": "custom_api", "sort": "occurrences"}, {crm, shop}),
        ({"q": "\\"}, set()),
        ({"q": "' OR 1=1 --"}, set()),
        ({"pattern_id": "pat_none"}, set()),
        ({"status": "open"}, {jira, slack, crm, shop}),
        ({"status": "closed"}, set()),
    ]
    for query, expected in cases:
        listed = _list(client, team=team, **query)
        assert {issue["id"] for issue in listed["data"]} == expected, query
        assert listed["page"] == {"next_cursor": None, "has_more": False, "total": len(expected)}


def test_a_listed_issue_is_the_one_that_is_read_by_its_id(site: Site, client: httpx.Client) -> None:
    team, (issue_id, other) = _fill(site, client, 2)
    _patch(client, issue_id, status="closed")
    for query in ({}, {"status": "closed"}, {"sort": "updated_at"}):
        listed = {issue["id"]: issue for issue in _list(client, team=team, **query)["data"]}
        assert listed[issue_id] == _get(client, issue_id)
        assert query.get("status") or listed[other] == _get(client, other)


def test_a_change_of_the_status_is_in_the_next_list(site: Site, client: httpx.Client) -> None:
    team, (first, second, third) = _fill(site, client, 3)
    _patch(client, second, status="closed")
    _patch(client, third, status="in_progress")
    assert _listed(client, team=team, status="closed") == [second]
    assert _listed(client, team=team, status="open") == [first]
    _patch(client, third, status="open")
    assert set(_listed(client, team=team, status="open")) == {first, third}
    assert _listed(client, team=team, status="in_progress") == []


def test_issues_are_listed_by_their_pattern(site: Site, client: httpx.Client) -> None:
    team, ids = _fill(site, client, 3)
    (other,) = _store(site, client, {"team": team, "title": "Quite another wording altogether"})
    pattern_id = _get(client, ids[0])["pattern_id"]
    assert set(_listed(client, team=team, pattern_id=pattern_id)) == set(ids)
    assert _listed(client, team=team, pattern_id=_get(client, other)["pattern_id"]) == [other]
    assert _list(client, team=team, pattern_id=pattern_id)["page"]["total"] == 3


def _sort_key(issue: Mapping[str, object], name: str) -> tuple[object, object]:
    return issue[name], issue["id"]


def test_a_list_is_sorted_as_asked_and_its_pages_are_its_parts(site: Site, client: httpx.Client) -> None:
    team = _team()
    records = [
        {"team": team, "external_id": f"{team}-{number}", "severity": f"p{1 + number % 3}"} for number in range(7)
    ]
    # Accepted at different times, worked off together.
    ids = [_send(client, *[record] * (1 + number % 2))[0] for number, record in enumerate(records)]
    _store(site, client, records[2])
    _patch(client, ids[1], status="closed")
    for name in ("created_at", "updated_at", "last_seen_at", "severity", "occurrences"):
        for sort, backwards in ((name, False), (f"-{name}", True)):
            listed = _list(client, team=team, sort=sort)["data"]
            assert listed == sorted(listed, key=lambda issue: _sort_key(issue, name), reverse=backwards), sort
            assert {issue["id"] for issue in listed} == set(ids)
            pages = list(_pages(client, ISSUES, team=team, sort=sort, limit=3))
            assert [len(page) for page in pages] == [3, 3, 1]
            assert [issue for page in pages for issue in page] == listed


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "-occurrences"])
def test_pages_stay_stable_while_issues_are_added(site: Site, client: httpx.Client, sort: str) -> None:
    team, ids = _fill(site, client, 7)
    seen: list[str] = []
    for number, page in enumerate(_pages(client, ISSUES, team=team, sort=sort, limit=3)):
        seen += [issue["id"] for issue in page]
        # Not for ever: what is added behind the place is listed as well.
        if number < 2:
            _store(site, client, {"team": team}, {"team": team, "severity": "p1"})
    # Of those that were there from the beginning each is seen once, and none that was added is seen twice.
    assert len(seen) == len(set(seen))
    assert [each for each in seen if each in ids] == sorted(ids, reverse=sort.startswith("-"))


def test_a_page_has_25_issues_unless_another_number_is_asked_for(site: Site, client: httpx.Client) -> None:
    team, _ = _fill(site, client, 101)
    assert len(_list(client, team=team)["data"]) == 25
    assert len(_list(client, team=team, limit=100)["data"]) == 100
    assert _list(client, team=team, limit=1)["page"]["total"] == 101
    for limit in (0, 101, "x"):
        answer = client.get(ISSUES, params={"limit": limit})
        assert (answer.status_code, set(answer.json()["error"]["details"])) == (400, {"limit"})


def test_a_cursor_is_of_the_list_that_gave_it(site: Site, client: httpx.Client, foreigner: httpx.Client) -> None:
    team, ids = _fill(site, client, 3)
    cursor = _list(client, team=team, limit=1)["page"]["next_cursor"]
    assert client.get(ISSUES, params={"team": team, "limit": 2, "cursor": cursor}).status_code == 200
    other = {letter: "A" if letter != "A" else "B" for letter in cursor}
    tampered = [cursor[:-1] + other[cursor[-1]], other[cursor[0]] + cursor[1:], cursor + "A", "", "%00", "é"]
    answers = [client.get(ISSUES, params={"team": team, "cursor": each}) for each in tampered]
    answers += [
        client.get(ISSUES, params={"cursor": cursor}),
        client.get(ISSUES, params={"team": team, "sort": "created_at", "cursor": cursor}),
        foreigner.get(ISSUES, params={"team": team, "cursor": cursor}),
        client.get(f"{ISSUES}/{ids[0]}/history", params={"cursor": cursor}),
    ]
    for answer in answers:
        assert answer.status_code == 400, answer.request.url
        assert set(answer.json()["error"]["details"]) == {"cursor"}


HOSTILE = [
    *("'", '"', "';--", "%' OR '1'='1", "$1", "?", "\\", "\\'", "{}", "%s", "%(x)s", "_", "%", "a\tb\r\n", "NULL"),
    *("İ", "ß", "\u202e", "😀" * 50, "\ufeff", "ﷺ", "zalgo̷̗", "e\u0301", "x" * 100),
]


def _lower(text: str) -> str:
    """Lower each character by itself, as the engine does."""
    return "".join(character.lower()[0] for character in text)


@pytest.mark.long
@pytest.mark.parametrize("name", ["q", "team", "source", "pattern_id"])
def test_a_hostile_filter_finds_itself_or_nothing(site: Site, client: httpx.Client, name: str) -> None:
    for text in HOSTILE:
        answer = client.get(ISSUES, params={name: text})
        assert answer.status_code == 200, (text, answer.text)
        found = answer.json()["data"]
        if name == "q":
            assert all(_lower(text) in _lower(f"{issue['title']} {issue['body']}") for issue in found), text
        else:
            assert found == [], text
    # Each that may be a team is found by itself alone.
    sound = [text for text in HOSTILE if text.strip() and text == text.strip()]
    if name == "team":
        ids = _store(site, client, *({"team": text} for text in sound))
        for issue_id, text in zip(ids, sound, strict=True):
            assert issue_id in _listed(client, team=text, limit=100), text
            assert {issue["team"] for issue in _list(client, team=text)["data"]} == {text}


@pytest.mark.parametrize("name", ["q", "team", "source", "pattern_id"])
@pytest.mark.parametrize("text", ["", "x" * 10_240, "a\x00b"])
def test_a_filter_that_nothing_could_fit_is_refused(client: httpx.Client, name: str, text: str) -> None:
    answer = client.get(ISSUES, params={name: text})
    assert answer.status_code == 400
    assert set(answer.json()["error"]["details"]) == {name}


@pytest.mark.parametrize(
    "query", [{"status": "done"}, {"severity": "P1"}, {"severity": "p5"}, {"sort": "title"}, {"sort": "--created_at"}]
)
def test_a_choice_that_there_is_not_is_refused(client: httpx.Client, query: dict[str, str]) -> None:
    answer = client.get(ISSUES, params=query)
    assert answer.status_code == 400
    assert set(answer.json()["error"]["details"]) == set(query)


# The history


def test_the_history_tells_what_was_said_and_done_the_latest_first(site: Site, client: httpx.Client) -> None:
    me = {"external_id": f"H-{uuid.uuid4()}"}
    key = site.key("ingest:write")
    (issue_id,) = _store(site, client, {**me, "title": "one", "metadata": {"a": 1}, "source": "Jira"})
    header = {"Authorization": f"Bearer {key.token}"}
    assert site.anyone.patch(f"{ISSUES}/{issue_id}", json={"status": "closed"}, headers=header).status_code == 200
    job = client.post(
        BATCH, json={"records": [{"title": "no id"}, {**me, "source": "jira", "title": "two", "severity": "low"}]}
    ).json()["job_id"]
    _work(site)
    listed = _history(client, issue_id)
    latest, change, first = listed["data"]
    assert listed["page"] == {"next_cursor": None, "has_more": False, "total": 3}
    assert latest == {
        "kind": "record",
        "at": _get(client, issue_id)["last_seen_at"],
        "job_id": job,
        "record_index": 1,
        "record_id": f"{job}:1",
        "outcome": "updated",
        "given": {**me, "source": "jira", "title": "two", "severity": "p4"},
    }
    at = change.pop("at")
    assert change == {"kind": "status", "from": "open", "to": "closed", "by": key.record.key_id}
    assert first["at"] < at < latest["at"]
    assert first["given"] == {**me, "source": "Jira", "title": "one", "metadata": {"a": 1}}
    assert (first["outcome"], first["record_index"]) == ("created", 0)


def test_the_pages_of_a_history_are_its_parts_whatever_happens_meanwhile(site: Site, client: httpx.Client) -> None:
    me = {"external_id": f"H-{uuid.uuid4()}"}
    for number in range(3):
        (issue_id, *_) = _send(client, {**me, "title": f"a{number}"}, {**me, "title": f"b{number}"})
        _patch(client, issue_id, status=("closed", "open")[number % 2])
    _work(site)
    whole = _history(client, issue_id, limit=100)["data"]
    assert [entry["kind"] for entry in whole] == ["status", "record", "record"] * 3
    seen: list[object] = []
    for page in _pages(client, f"{ISSUES}/{issue_id}/history", limit=2):
        seen += page
        _send(client, me)
        _patch(client, issue_id, status=("open", "closed")[len(seen) % 4 // 2])
        if len(seen) == 4:
            _work(site)
    assert seen == whole
