"""Webhooks as clients manage them, over HTTP, with real receivers."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ingest_platform.pipeline.announce import announce
from ingest_platform.pipeline.deliver import deliver_due
from ingest_platform.pipeline.signature import sign
from ingest_platform.storage import idempotency, webhooks
from ingest_platform.storage.idempotency import Answered, Scope
from ingest_platform.storage.ledger import Transaction
from ingest_platform_tests.receiving import LOOPBACK, Answer, receiving
from ingest_platform_tests.serving import Site, fresh_database, serving

ROOT = "/v1/webhooks"
SCOPE = "webhooks:admin"
URL = "https://hooks.example.com/ingest"


@pytest.fixture(scope="module")
def hooked(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the API with rules that allow nothing but what is public."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def calling(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """Serve the API with rules that allow loopback."""
    with serving(database_url, tmp_path, outbound=LOOPBACK) as site:
        yield site


@pytest.fixture(autouse=True)
def _forget(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "hooked" in request.fixturenames:
        with request.getfixturevalue("hooked").platform.ledger.transaction() as tx:
            tx.execute("TRUNCATE webhooks, webhook_deliveries, webhook_events")


def _client(site: Site, *scopes: str, workspace: str = "acme", kind: str = "api") -> httpx.Client:
    headers = site.bearer(*(scopes or (SCOPE,)), workspace=workspace, kind=kind)
    return httpx.Client(base_url=site.url, headers=headers, timeout=20)


def _create(client: httpx.Client, **more: object) -> dict[str, object]:
    answer = client.post(ROOT, json={"url": URL, "events": ["job.finished"], **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_strangers_and_keys_without_the_scope_are_refused(hooked: Site) -> None:
    paths = [("GET", ROOT), ("POST", ROOT), ("GET", f"{ROOT}/whk_1"), ("DELETE", f"{ROOT}/whk_1")]
    paths += [("GET", f"{ROOT}/whk_1/deliveries"), ("POST", f"{ROOT}/whk_1/deliveries/whd_1/redeliver")]
    for method, path in paths:
        assert hooked.anyone.request(method, path).status_code == 401, path
        assert hooked.client.request(method, path).status_code == 403, path


@pytest.mark.parametrize("kind", ["api", "pat"])
def test_a_webhook_is_created_shown_without_its_secret_and_deleted(hooked: Site, kind: str) -> None:
    with _client(hooked, kind=kind) as client:
        created = _create(client, description="on call", events=["job.failed", "job.finished", "job.failed"])
        secret = created.pop("secret")
        assert isinstance(secret, str)
        assert secret.startswith("whsec_")
        assert created["id"].startswith("whk_")
        assert (created["events"], created["status"]) == (["job.failed", "job.finished"], "active")
        shown, listed = client.get(f"{ROOT}/{created['id']}"), client.get(ROOT)
        assert shown.json() == created
        assert listed.json()["data"] == [created]
        assert secret not in shown.text + listed.text
        assert client.delete(f"{ROOT}/{created['id']}").json() == {"id": created["id"], "deleted": True}
        assert client.get(f"{ROOT}/{created['id']}").status_code == 404
        assert client.delete(f"{ROOT}/{created['id']}").status_code == 404
        assert client.get(ROOT).json()["page"]["total"] == 0


def test_a_secret_may_be_given_and_a_repeated_request_gets_the_same_answer(hooked: Site) -> None:
    with _client(hooked) as client:
        body = {"url": URL, "events": ["job.finished"], "secret": "a-secret-of-my-own"}
        headers = {"Idempotency-Key": "w-1"}
        first, second = (client.post(ROOT, json=body, headers=headers) for _ in range(2))
        assert first.json()["secret"] == "a-secret-of-my-own"
        assert first.content == second.content
        assert second.headers["Idempotency-Replayed"] == "true"
        assert client.get(ROOT).json()["page"]["total"] == 1


def test_a_request_whose_key_was_answered_for_another_meanwhile_is_a_conflict_and_does_nothing(
    hooked: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = webhooks.create

    def outlive(tx: Transaction, **asked: str) -> str:
        # The reservation ran out, and whoever sent it once more was quicker.
        with hooked.platform.ledger.transaction() as other:
            answer = Answered(body_sha256=b"\x00" * 32, status=201, headers={}, response=b"{}")
            idempotency.finish(other, Scope(workspace="acme", route="create_webhook", key="w-2"), answer)
        return create(tx, **asked)

    monkeypatch.setattr("ingest_platform.api.webhooks.webhooks.create", outlive)
    with _client(hooked) as client:
        body = {"url": URL, "events": ["job.finished"]}
        answer = client.post(ROOT, json=body, headers={"Idempotency-Key": "w-2"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
        assert client.get(ROOT).json()["page"]["total"] == 0


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"url", "events"}),
        ({"url": URL}, {"events"}),
        ({"url": URL, "events": []}, {"events"}),
        ({"url": URL, "events": "job.finished"}, {"events"}),
        ({"url": URL, "events": ["job.finished", "job.started"]}, {"events"}),
        ({"url": URL, "events": [None]}, {"events"}),
        ({"url": 7, "events": ["job.finished"]}, {"url"}),
        ({"url": "http://example.com/", "events": ["job.finished"]}, {"url"}),
        ({"url": "https://127.0.0.1/", "events": ["job.finished"]}, {"url"}),
        ({"url": "https://169.254.169.254/latest", "events": ["job.finished"]}, {"url"}),
        ({"url": "https://[::ffff:10.0.0.1]/", "events": ["job.finished"]}, {"url"}),
        ({"url": "https://localhost/", "events": ["job.finished"]}, {"url"}),
        ({"url": "https://2130706433/", "events": ["job.finished"]}, {"url"}),
        ({"url": "https://user:pass@example.com/", "events": ["job.finished"]}, {"url"}),
        ({"url": URL, "events": ["job.finished"], "secret": "short"}, {"secret"}),
        ({"url": URL, "events": ["job.finished"], "secret": "with blanks in it, and ä"}, {"secret"}),
        ({"url": URL, "events": ["job.finished"], "description": "\x00"}, {"description"}),
        ({"url": URL, "events": ["job.finished"], "description": "x" * 501, "secret": 1}, {"description", "secret"}),
    ],
)
def test_what_is_wrong_is_told_by_field(hooked: Site, body: dict[str, object], fields: set[str]) -> None:
    with _client(hooked) as client:
        answer = client.post(ROOT, json=body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "validation_error"
        assert set(error["details"]) == fields
        assert error["trace_id"] == answer.headers["X-Request-Id"]
        assert client.get(ROOT).json()["data"] == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"url": "\xff"}', b'"x"', b"[" * 2_000])
def test_what_is_no_object_is_refused(hooked: Site, content: bytes) -> None:
    with _client(hooked) as client:
        answer = client.post(ROOT, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "validation_error"


def test_another_workspace_sees_nothing(hooked: Site) -> None:
    with _client(hooked) as mine, _client(hooked, workspace="globex") as theirs:
        created = _create(mine)
        with hooked.platform.ledger.transaction() as tx:
            announce(tx, workspace="acme", type="job.finished", body={})
        delivery = mine.get(f"{ROOT}/{created['id']}/deliveries").json()["data"][0]["id"]
        assert theirs.get(ROOT).json()["data"] == []
        own = _create(theirs)
        for path in (str(created["id"]), "whk_none"):
            assert theirs.get(f"{ROOT}/{path}").status_code == 404
            assert theirs.delete(f"{ROOT}/{path}").status_code == 404
            assert theirs.get(f"{ROOT}/{path}/deliveries").status_code == 404
            assert theirs.post(f"{ROOT}/{path}/deliveries/{delivery}/redeliver").status_code == 404
        # Nor is one webhook's delivery another's.
        assert theirs.post(f"{ROOT}/{own['id']}/deliveries/{delivery}/redeliver").status_code == 404
        assert mine.get(f"{ROOT}/{created['id']}").status_code == 200


def test_a_workspace_has_so_many_webhooks_and_lists_them_by_pages(hooked: Site) -> None:
    with _client(hooked) as client:
        ids = [str(_create(client)["id"]) for _ in range(webhooks.WEBHOOKS_MAX)]
        refused = client.post(ROOT, json={"url": URL, "events": ["job.finished"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        seen: list[str] = []
        cursor: str | None = None
        while True:
            params = {"limit": "7", **({"cursor": cursor} if cursor else {})}
            page = client.get(ROOT, params=params).json()
            seen += [each["id"] for each in page["data"]]
            cursor = page["page"]["next_cursor"]
            if cursor is None:
                break
        assert seen == sorted(ids)
        assert client.get(ROOT, params={"cursor": "x"}).status_code == 400


def test_a_finished_job_is_told_logged_and_told_again(calling: Site) -> None:
    with _client(calling) as client, receiving(lambda _: Answer(status=503)) as down, receiving() as up:
        failing, good = (_create(client, url=each.url) for each in (down, up))
        with calling.platform.ledger.transaction() as tx:
            announce(tx, workspace="acme", type="job.finished", body={"job": {"id": "job_1"}})
        for _ in range(40):
            deliver_due(calling.platform.ledger, calling.platform.outbound, seconds_max=20)
            (delivery,) = client.get(f"{ROOT}/{failing['id']}/deliveries").json()["data"]
            if delivery["status"] == "dead":
                break
        assert (delivery["status"], delivery["response_code"], delivery["error"]) == ("dead", 503, "answered 503")
        assert [each["attempt"] for each in delivery["attempts"]] == [1, 2, 3]
        assert delivery["next_attempt_at"] is None
        (done,) = client.get(f"{ROOT}/{good['id']}/deliveries", params={"status": "delivered"}).json()["data"]
        assert (done["event"], done["attempt"], done["response_code"]) == ("job.finished", 1, 200)
        assert client.get(f"{ROOT}/{good['id']}/deliveries", params={"status": "dead"}).json()["data"] == []

        again = client.post(f"{ROOT}/{good['id']}/deliveries/{done['id']}/redeliver")
        assert again.status_code == 202
        assert (again.json()["status"], again.json()["redelivery_of"]) == ("pending", done["id"])
        assert again.json()["next_attempt_at"] is not None
        deliver_due(calling.platform.ledger, calling.platform.outbound, seconds_max=20)
        first, second = up.got
        assert first.body == second.body
        assert json.loads(first.body)["data"] == {"job": {"id": "job_1"}}
        assert first.headers["x-causeloop-signature"] == sign(str(good["secret"]), first.body)
        assert [each["id"] for each in client.get(f"{ROOT}/{good['id']}/deliveries").json()["data"]] == [
            again.json()["id"],
            done["id"],
        ]


def test_a_repeated_redelivery_sends_once(hooked: Site) -> None:
    with _client(hooked) as client:
        created = _create(client)
        with hooked.platform.ledger.transaction() as tx:
            announce(tx, workspace="acme", type="job.finished", body={})
        path = f"{ROOT}/{created['id']}/deliveries"
        (delivery,) = client.get(path).json()["data"]
        sent = [client.post(f"{path}/{delivery['id']}/redeliver", headers={"Idempotency-Key": "r-1"}) for _ in range(2)]
        assert sent[0].content == sent[1].content
        assert client.get(path).json()["page"]["total"] == 2


def test_deliveries_are_listed_by_pages(hooked: Site) -> None:
    with _client(hooked) as client:
        created = _create(client)
        with hooked.platform.ledger.transaction() as tx:
            for number in range(5):
                announce(tx, workspace="acme", type="job.finished", body={"number": number})
        path = f"{ROOT}/{created['id']}/deliveries"
        first = client.get(path, params={"limit": 3}).json()
        assert first["page"]["total"] == 5
        with hooked.platform.ledger.transaction() as tx:
            announce(tx, workspace="acme", type="job.finished", body={"number": 5})
        rest = client.get(path, params={"limit": 3, "cursor": first["page"]["next_cursor"]}).json()
        ids = [each["id"] for each in first["data"] + rest["data"]]
        # What came in between is the first of all, and shifted nothing.
        everything = client.get(path, params={"limit": 100}).json()["data"]
        assert ids == [each["id"] for each in everything[1:]]


def test_a_disabled_webhook_is_shown_as_such_and_takes_no_redelivery(calling: Site) -> None:
    with _client(calling) as client, receiving(lambda _: Answer(status=410)) as gone:
        created = _create(client, url=gone.url)
        with calling.platform.ledger.transaction() as tx:
            announce(tx, workspace="acme", type="job.finished", body={})
        deliver_due(calling.platform.ledger, calling.platform.outbound, seconds_max=20)
        assert client.get(f"{ROOT}/{created['id']}").json()["status"] == "disabled"
        (delivery,) = client.get(f"{ROOT}/{created['id']}/deliveries").json()["data"]
        answer = client.post(f"{ROOT}/{created['id']}/deliveries/{delivery['id']}/redeliver")
        assert answer.status_code == 409
