"""The client and a dataset, against the real API: what the one lets through, the other takes."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest_platform.client import AsyncClient, Client, Forbidden, QuotaExceeded, RecordsRejected, working
from ingest_platform.feeds.datasets import registry
from ingest_platform.storage import keys, workspaces
from ingest_platform_tests.serving import Site

FIELDS = {"country": "string", "amount": "number"}
GOOD: Mapping[str, object] = {"timestamp": "2026-05-06T10:15:00Z", "context": {}, "country": "RO", "amount": 1.5}
BAD = {**GOOD, "amount": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A dataset, and who may send to it and read its schema."""

    url: str
    id: int
    token: str
    pat: str


@pytest.fixture(scope="module")
def made(site: Site) -> Made:
    with site.platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme", projects=("local",)))
        dataset = registry.create(tx, workspace="acme", project="local", name="trips", description="")
        registry.register_schema(tx, dataset, FIELDS)
        scopes = ("datasets:write", "jobs:read")
        key = keys.issue(tx, keys.NewKey(workspace="acme", project="local", scopes=scopes))
        pat = keys.issue(tx, keys.NewKey(workspace="acme", scopes=("datasets:admin",), kind="pat"))
    return Made(url=site.url, id=dataset.id, token=key.token, pat=pat.token)


@pytest.fixture(params=["checked here", "checked there"])
def client(made: Made, request: pytest.FixtureRequest) -> Iterator[Client]:
    """Make a client that knows the schema, and one that does not: both must tell the same."""
    pat = made.pat if request.param == "checked here" else None
    with Client(made.url, made.token, pat=pat, project="local") as opened:
        yield opened


def test_a_bad_record_is_refused_in_the_same_words_wherever_it_is_checked(client: Client, made: Made) -> None:
    with pytest.raises(RecordsRejected) as raised:
        client.dataset(made.id).send({**BAD, "extra": 1})
    told = [(error.index, error.field, error.error) for error in raised.value.errors]
    assert told == [(0, "extra", "Extra field: extra"), (0, "amount", "Invalid number field: amount")]


def test_the_batch_with_a_bad_record_ends_the_sending(
    client: Client, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "RECORDS_MAX", 2)
    with pytest.raises(RecordsRejected) as raised:
        client.dataset(made.id).send_many([GOOD, GOOD, GOOD, BAD, GOOD])
    # Who checks while reading sees a bad record before he sends the batch that it follows.
    assert raised.value.sent in {0, 2}
    assert {error.index for error in raised.value.errors} == {3}


def test_bad_records_stay_behind_and_the_others_are_worked_off(
    client: Client, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "RECORDS_MAX", 2)
    sent = client.dataset(made.id).send_many([GOOD, BAD, BAD, GOOD, GOOD, BAD, BAD], on_error="continue")
    assert (sent.given, sent.accepted, sent.rejected) == (7, 3, 4)
    assert [(error.index, error.error) for error in sent.errors] == [
        (index, "Invalid number field: amount") for index in (1, 2, 5, 6)
    ]
    accepted = [client.wait(job_id).counts["accepted"] for job_id in sent.job_ids]
    assert sum(count or 0 for count in accepted) == 3


def test_the_same_key_sends_nothing_twice(client: Client, made: Made) -> None:
    dataset = client.dataset(made.id)
    key = f"trips-{id(client)}"
    assert dataset.send_many([GOOD] * 100, key=key) == dataset.send_many([GOOD] * 100, key=key)


def test_what_the_key_may_not_do_is_told(site: Site, made: Made) -> None:
    with Client(made.url, site.key("jobs:read").token) as stranger, pytest.raises(Forbidden):
        stranger.dataset(made.id).send(GOOD)


def test_a_quota_that_is_used_up_ends_the_sending(site: Site, made: Made) -> None:
    with site.platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="small", projects=("local",), quotas={"datasets": 5}))
        dataset = registry.create(tx, workspace="small", project="local", name="trips", description="")
        registry.register_schema(tx, dataset, FIELDS)
        key = keys.issue(tx, keys.NewKey(workspace="small", project="local", scopes=("datasets:write",)))
    with Client(made.url, key.token) as client, pytest.raises(QuotaExceeded) as raised:
        client.dataset(dataset.id, fields=FIELDS).send_many([GOOD] * 6)
    assert (raised.value.quota["limit"], raised.value.quota["requested"]) == (5, 6)


def test_the_awaited_client_does_the_same(made: Made) -> None:
    async def send() -> tuple[Mapping[str, str], int, str | None]:
        async with AsyncClient(made.url, made.token, pat=made.pat, project="local") as client:
            dataset = client.dataset(made.id)
            sent = await dataset.send_many([GOOD, BAD], on_error="continue")
            alone = await dataset.send(GOOD)
            return await dataset.schema(), sent.accepted, (await client.wait(alone.job_ids[0])).verdict

    assert asyncio.run(send()) == (FIELDS, 1, "succeeded")


def test_the_command_sends_a_file_to_a_dataset(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "trips.ndjson"
    path.write_text("".join(json.dumps(record) + "\n" for record in (GOOD, BAD, GOOD)))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ingest_platform",
            "load",
            str(path),
            "-f",
            "datasets",
            "--target",
            str(made.id),
            "--json",
        ],
        env=os.environ | {"INGEST_URL": made.url, "INGEST_TOKEN": made.token},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = json.loads(done.stdout)
    assert (told["received"], told["accepted"], told["rejected"]) == (3, 2, 1)
    assert told["rejections"][0]["error"] == "Invalid number field: amount"
