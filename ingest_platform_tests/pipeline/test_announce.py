"""What happened is announced by the transaction that makes it true, to those who asked, and to nobody else."""

import json

import pytest

from ingest_platform.domain.errors import LeaseLost
from ingest_platform.domain.submission import Load
from ingest_platform.pipeline.announce import announce, announce_jobs
from ingest_platform.pipeline.job_object import job_object
from ingest_platform.pipeline.settle import ReadJob, decide_all, settle
from ingest_platform.storage import jobs, webhooks
from ingest_platform.storage.jobs import Costs
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, claim, make_workspace, new_job, run_out


def _subscribe(ledger: Ledger, *events: str, workspace: str = "acme") -> str:
    with ledger.transaction() as tx:
        return webhooks.create(
            tx, workspace=workspace, url="https://x.example/", events=events, description="", secret="s" * 16
        )


def _announced(ledger: Ledger, workspace: str = "acme") -> list[dict[str, object]]:
    with ledger.connection() as tx:
        rows = tx.execute(
            "SELECT convert_from(body, 'UTF8') FROM webhook_events AS event"
            " JOIN webhook_deliveries ON event_id = event.id WHERE workspace = %s ORDER BY seq",
            (workspace,),
        ).fetchall()
    return [json.loads(body) for (body,) in rows]


@pytest.fixture
def load(ledger: Ledger) -> Load:
    """Claim a load of two jobs of acme and one of globex."""
    make_workspace(ledger)
    make_workspace(ledger, "globex")
    accept(ledger, new_job(), new_job(), new_job(workspace="globex"))
    claimed = claim(ledger)
    assert claimed is not None
    return claimed


def _settle(ledger: Ledger, load: Load) -> None:
    settled = decide_all([ReadJob(submission=each) for each in load.submissions], {})
    settle(ledger, load, settled, Costs())


def test_an_event_of_ones_own_is_delivered_to_those_who_asked(ledger: Ledger) -> None:
    make_workspace(ledger)
    with ledger.transaction() as tx:
        announce(tx, workspace="acme", type="thing.seen", body={"thing_id": "t1"})
    _subscribe(ledger, "thing.seen", "job.failed")
    with ledger.transaction() as tx:
        announce(tx, workspace="acme", type="thing.seen", body={"thing_id": "t2"})
        announce(tx, workspace="acme", type="thing.lost", body={"thing_id": "t2"})
    (event,) = _announced(ledger)
    assert set(event) == {"id", "type", "created_at", "workspace", "data"}
    assert (event["type"], event["workspace"], event["data"]) == ("thing.seen", "acme", {"thing_id": "t2"})


def test_the_end_of_a_job_is_announced_once_with_the_job_object(ledger: Ledger, load: Load) -> None:
    _subscribe(ledger, "job.finished")
    _subscribe(ledger, "job.failed", workspace="globex")
    _settle(ledger, load)
    with ledger.connection() as tx:
        ended = jobs.read_jobs(tx, [each.job_id for each in load.submissions])
    shown = [json.loads(json.dumps(job_object(job))) for job in ended if job.workspace == "acme"]
    events = _announced(ledger)
    assert [event["type"] for event in events] == ["job.finished"] * 2
    assert [event["data"] for event in events] == [{"job": each} for each in shown]
    assert events[0]["data"]["job"]["times"]["finished"] is not None
    assert not _announced(ledger, "globex")


def test_whoever_lost_the_load_announces_nothing(ledger: Ledger, load: Load) -> None:
    _subscribe(ledger, "job.finished")
    run_out(ledger, load)
    winner = claim(ledger)
    assert winner is not None
    with pytest.raises(LeaseLost):
        _settle(ledger, load)
    assert not _announced(ledger)
    _settle(ledger, winner)
    assert len(_announced(ledger)) == 2


def test_a_failed_job_has_a_type_of_its_own(ledger: Ledger) -> None:
    make_workspace(ledger)
    _subscribe(ledger, "job.failed")
    with ledger.transaction() as tx:
        job = new_job()
        jobs.accept_failed(tx, job, code="not_json", message="no JSON")
        announce_jobs(tx, {job.id: "acme"})
    (event,) = _announced(ledger)
    assert event["type"] == "job.failed"
    assert event["data"]["job"]["error"] == {"code": "not_json", "message": "no JSON"}
