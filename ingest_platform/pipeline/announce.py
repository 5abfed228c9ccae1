"""Announce what has happened to those who asked to be told: events, written by the transaction that makes them true.

Where nobody asked, nothing is written. How an event is delivered is not known here (`deliver.py`).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from ingest_platform.domain.ids import new_id
from ingest_platform.domain.job import Job, JobState
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.pipeline.job_object import job_object
from ingest_platform.storage import jobs, webhooks
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.webhooks import EVENT_PREFIX, Event, Subscriber

JOB_FINISHED, JOB_FAILED = "job.finished", "job.failed"
JOB_TYPES = {JobState.FINISHED: JOB_FINISHED, JobState.FAILED: JOB_FAILED}
_encode = msgspec.json.Encoder().encode


def announce(tx: Transaction, *, workspace: str, type: str, body: Mapping[str, object]) -> None:  # noqa: A002
    """Announce one event of a feed's own to those in the workspace who asked for its type.

    `body` is what the event is about, its `data`. It is delivered once the transaction commits, at least once.
    """
    to = webhooks.subscribers(tx, [workspace])
    if wants(to, workspace, type):
        webhooks.announce(tx, [make_event(workspace, type, body)], to)


def make_event(workspace: str, type: str, data: Mapping[str, object]) -> Event:  # noqa: A002 - the word of the event.
    """Write an event as it is sent."""
    event_id = new_id(EVENT_PREFIX)
    shown = {
        "id": event_id,
        "type": type,
        "created_at": format_instant(datetime.now(UTC)),
        "workspace": workspace,
        "data": data,
    }
    return Event(id=event_id, workspace=workspace, type=type, body=_encode(shown))


def announce_jobs(tx: Transaction, workspaces: Mapping[str, str]) -> None:
    """Announce jobs that have ended in this transaction, given by id with the workspace of each."""
    to = webhooks.subscribers(tx, set(workspaces.values()))
    asking = {each.workspace for each in to if not set(JOB_TYPES.values()).isdisjoint(each.events)}
    ended = [job_id for job_id, workspace in workspaces.items() if workspace in asking]
    if ended:
        webhooks.announce(tx, [_job_event(job) for job in jobs.read_jobs(tx, ended)], to)


def _job_event(job: Job) -> Event:
    return make_event(job.workspace, JOB_TYPES[job.state], {"job": job_object(job)})


def wants(to: Iterable[Subscriber], workspace: str, type_: str) -> bool:
    """Tell whether anybody in a workspace asked for a type of event."""
    return any(each.workspace == workspace and type_ in each.events for each in to)
