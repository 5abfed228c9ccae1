"""One record by its id: where it came in, what was decided of it and why, and what its feed did with it since.

Ids are those of a job's records (`<job id>:<index>`), or those under which a feed's table has them.
"""

import re
from collections.abc import Sequence
from typing import cast

from ingest_platform.api.call import Call
from ingest_platform.api.jobs import READ, RECORD_SCHEMA, record_object, shape_of_job
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import ApiRoute, Parameter, Schema, json_answer
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import NotFound
from ingest_platform.domain.feed import AppendTable, Feed, Shape
from ingest_platform.domain.ids import ULID_LENGTH
from ingest_platform.domain.job import Job, JobState, Origin
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.storage import jobs, outcomes
from ingest_platform.storage.ledger import Transaction

_OF_JOB = re.compile(r"([a-z0-9_]{1,80}):([0-9]{1,12})", re.ASCII)
_OF_TABLE = re.compile(rf"([a-z_]{{1,32}}_)([0-9a-z]{{{ULID_LENGTH}}})-([0-9]{{1,12}})", re.ASCII)


def place_of(record_id: str, feeds: Sequence[Feed]) -> tuple[Sequence[str], int] | None:
    """Read an id: the jobs that may be meant, and the index; None if it is no id of a record.

    >>> place_of("job_01kqzcjrpyf27tge33jwvjhkff:7", ())
    (('job_01kqzcjrpyf27tge33jwvjhkff',), 7)
    """
    if (found := _OF_JOB.fullmatch(record_id)) is not None:
        return (found[1],), int(found[2])
    if (found := _OF_TABLE.fullmatch(record_id)) is not None:
        prefix, ulid, index = found.groups()
        named = (each for each in feeds if isinstance(each.table, AppendTable) and each.table.id_prefix == prefix)
        return tuple(each.job_prefix + ulid for each in named), int(index)
    return None


class RecordRoutes:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._feeds = {feed.name: feed for feed in services.feeds}

    async def get_record(self, call: Call) -> Reply:
        """Show what became of a record."""
        record_id, workspace = call.require("record_id", str), call.who.workspace
        place = place_of(record_id, self._services.feeds)
        if place is None:
            raise no_record()
        ids, index = place

        job = await self._services.read(lambda tx: _job_of(tx, workspace, ids))
        # It may ask the ledger, so not while a connection is held.
        shape = await self._services.run(lambda: shape_of_job(self._services, job))
        shown = await self._services.read(lambda tx: _shown(tx, job, index, shape))
        detail = None if shown["outcome"] is None else await self._services.run(lambda: self._detail(job, index))
        return json_reply(200, {**shown, **_of_job(job), "detail": detail})

    def _detail(self, job: Job, index: int) -> object:
        feed = self._feeds.get(job.feed)
        if feed is None or feed.explain is None:
            return None
        return feed.explain(self._services.platform, job, index)


def _job_of(tx: Transaction, workspace: str | None, ids: Sequence[str]) -> Job:
    found = (jobs.get_job(tx, workspace=workspace, job_id=each) for each in ids)
    job = next((each for each in found if each is not None), None)
    if job is None:
        raise no_record()
    return job


def _shown(tx: Transaction, job: Job, index: int, shape: Shape | None) -> dict[str, object]:
    codes = outcomes.codes(tx, job.id)
    if codes is None and not job.state.terminal:
        # How many records it has is not known yet.
        unknown = {"outcome": None, "reasons": [], "stored_in": None}
        return {"index": index, "record_id": f"{job.id}:{index}", **unknown}
    if codes is None or index >= len(codes):
        raise no_record()
    rejected = outcomes.rejections(tx, job.id, first_index=index, limit=1)
    rejection = next((each for each in rejected if each.record_index == index), None)
    table = None if shape is None else shape.table.name
    return record_object(job, index, Outcome(codes[index]), rejection, stored_in=table)


def _of_job(job: Job) -> dict[str, object]:
    times = {"accepted": job.accepted_at, "stored": job.stored_at, "finished": job.finished_at}
    return {
        "job_id": job.id,
        "family": job.feed,
        "target": job.target,
        "workspace": job.workspace,
        "origin": job.origin.value,
        "state": job.state.value,
        "times": {name: instant and format_instant(instant) for name, instant in times.items()},
    }


def no_record() -> NotFound:
    """Word the refusal, the same whether there is no such record or it is somebody else's."""
    return NotFound("There is no such record.", code="record_not_found")


_TEXT = {"type": ["string", "null"]}
_INSTANT = {"type": ["string", "null"], "format": "date-time"}


def _schema(services: Services) -> Schema:
    properties: dict[str, object] = {
        **cast("Schema", RECORD_SCHEMA["properties"]),
        "outcome": {"enum": [None, *(outcome.word for outcome in Outcome)], "description": "Null until it is decided."},
        "job_id": {"type": "string"},
        "family": {"enum": [feed.name for feed in services.feeds]},
        "target": _TEXT,
        "workspace": {"type": "string"},
        "origin": {"enum": [origin.value for origin in Origin]},
        "state": {"enum": [state.value for state in JobState], "description": "That of its job."},
        "times": {
            "type": "object",
            "properties": dict.fromkeys(("accepted", "stored", "finished"), _INSTANT),
            "required": ["accepted", "stored", "finished"],
        },
        "detail": {
            "type": ["object", "null"],
            "description": "What its kind of data has to say besides: of an event of a stream, the rules that it met, "
            "how it was sampled, and each of its deliveries.",
        },
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_RECORD_ID = Parameter(
    name="record_id",
    where="path",
    schema={"type": "string"},
    description="The record's id, as the records of a job have it, or under which it is stored.",
    required=True,
)


def routes(services: Services) -> list[ApiRoute]:
    """Declare the route."""
    return [
        ApiRoute(
            method="GET",
            path="/v1/records/{record_id}",
            handler=RecordRoutes(services).get_record,
            operation_id="get_record",
            tag="Jobs",
            summary="Show what became of a record",
            description="When it was received, what was decided and why, and where it is now.",
            access=READ,
            parameters=(_RECORD_ID,),
            answers={200: json_answer("What became of it.", _schema(services))},
            refusals=(NotFound,),
        )
    ]
