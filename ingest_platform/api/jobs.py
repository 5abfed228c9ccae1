"""The jobs of all feeds as clients see them: lists, one job, its records and what was rejected of it."""

from collections.abc import Sequence
from datetime import datetime

from starlette.datastructures import Headers

from ingest_platform.api.call import Call
from ingest_platform.api.lists import CURSOR, limit_parameter, list_reply, list_schema
from ingest_platform.api.rejected import CSV, NDJSON, rejected_csv, rejected_ndjson
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import (
    ANY_KEY,
    Access,
    Answer,
    ApiRoute,
    Content,
    Handler,
    Parameter,
    Schema,
    json_answer,
)
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import NotFound
from ingest_platform.domain.feed import Feed, Shape
from ingest_platform.domain.job import Job, JobState, Origin
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.rejection import Rejection, reasons
from ingest_platform.pipeline.job_object import COUNTS, job_object
from ingest_platform.storage import jobs, outcomes
from ingest_platform.storage.ledger import Transaction

READ = Access(scopes=("jobs:read",), kinds=ANY_KEY)
WAIT_SECONDS_MAX = 60
JOBS_PAGE, JOBS_PAGE_MAX = 25, 100
RECORDS_PAGE, RECORDS_PAGE_MAX = 100, 1_000
# A day at a hundred submissions a second is nine million jobs; the page must not wait for their number.
COUNT_SECONDS_MAX = 0.5
_ACCEPTED = "accepted"
_STORED = frozenset({Outcome.CREATED, Outcome.UPDATED, Outcome.UNCHANGED})


async def find_job(services: Services, call: Call, *, feed: str | None = None) -> Job:
    """Read the job of the path; NotFound in the same words if it is another workspace's or feed's."""
    job_id, workspace = call.require("job_id", str), call.who.workspace
    job = await services.read(lambda tx: jobs.get_job(tx, workspace=workspace, job_id=job_id))
    if job is None or (feed is not None and job.feed != feed):
        raise no_job()
    return job


def no_job() -> NotFound:
    """Word the refusal, the same whether there is no such job or it is somebody else's."""
    return NotFound("There is no such job.", code="job_not_found")


def preferred_wait(headers: Headers) -> int | None:
    """Read `Prefer: wait=<seconds>`; what is not understood is ignored, as RFC 7240 wants.

    >>> preferred_wait(Headers({"Prefer": "respond-async, wait=10"}))
    10
    """
    for preference in headers.get("prefer", "").split(","):
        name, _, value = preference.partition(";")[0].strip().partition("=")
        if name.strip().lower() == "wait" and value.strip('" ').isascii() and value.strip('" ').isdigit():
            return min(int(value.strip('" ')[:6]), WAIT_SECONDS_MAX)
    return None


class JobRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list_jobs(self, call: Call) -> Reply:
        """List jobs, the latest first."""
        state, origin = call.get("state", str), call.get("origin", str)
        which = jobs.JobFilter(
            workspace=call.who.workspace,
            feed=call.get("family", str),
            state=None if state is None else JobState(state),
            origin=None if origin is None else Origin(origin),
            since=call.get("since", datetime),
        )
        purpose = f"jobs:{which}"
        limit, cursor = call.require("limit", int), call.get("cursor", str)

        def read(tx: Transaction) -> tuple[Sequence[Job], int | None]:
            before = None if cursor is None else int(self._services.cursors.read(cursor, purpose=purpose)[0] or 0)
            # One more than asked for tells whether there is a next page.
            found = jobs.list_jobs(tx, which, before_seq=before, limit=limit + 1)
            return found, jobs.count_jobs_within(tx, which, seconds_max=COUNT_SECONDS_MAX)

        found, total = await self._services.read(read)
        page = found[:limit]
        more = len(found) > limit
        next_cursor = self._services.cursors.write(purpose=purpose, place=[page[-1].seq]) if more else None
        return list_reply([job_object(job) for job in page], next_cursor=next_cursor, total=total)

    async def get_job(self, call: Call) -> Reply:
        """Show one job, at once or when it has ended."""
        preferred = preferred_wait(call.headers)
        wait = call.get("wait", int)
        seconds = wait if wait is not None else preferred or 0
        job = await find_job(self._services, call)
        if seconds and not job.state.terminal:
            workspace = call.who.workspace

            async def look() -> Job | None:
                return await self._services.read(lambda tx: jobs.get_job(tx, workspace=workspace, job_id=job.id))

            job = await self._services.settled.wait(job.id, seconds=seconds, look=look) or job
        applied = {"Preference-Applied": f"wait={preferred}"} if wait is None and preferred is not None else {}
        return json_reply(200, job_object(job), headers=applied)

    async def list_records(self, call: Call) -> Reply:
        """List what became of each record."""
        job = await find_job(self._services, call)
        wanted, limit = call.get("outcome", str), call.require("limit", int)
        cursor, purpose = call.get("cursor", str), f"records:{job.id}:{wanted}"
        shape = await self._services.run(lambda: shape_of_job(self._services, job))

        def read(tx: Transaction) -> Reply:
            first = 0 if cursor is None else int(self._services.cursors.read(cursor, purpose=purpose)[0] or 0)
            codes = outcomes.codes(tx, job.id)
            if codes is None:
                return list_reply([], next_cursor=None, total=0 if job.state.terminal else None)
            marks = codes.translate(_marks(wanted))
            places = _places(marks, first=first, limit=limit + 1)
            page = places[:limit]
            rejected = {
                each.record_index: each
                for each in outcomes.rejections(tx, job.id, first_index=page[0] if page else 0, limit=limit)
            }
            stored_in = None if shape is None else shape.table.name
            data = [
                record_object(job, index, Outcome(codes[index]), rejected.get(index), stored_in=stored_in)
                for index in page
            ]
            more = len(places) > limit
            next_cursor = self._services.cursors.write(purpose=purpose, place=[places[limit]]) if more else None
            return list_reply(data, next_cursor=next_cursor, total=marks.count(b"\x01"))

        return await self._services.read(read)

    async def rejected_ndjson(self, call: Call) -> Reply:
        """Give the rejected records with their reasons, one a line."""
        job = await find_job(self._services, call)
        return Reply(
            status=200,
            content_type=NDJSON,
            headers=_download(f"{job.id}.rejected.ndjson"),
            stream=rejected_ndjson(self._services, job.id),
        )

    async def rejected_csv(self, call: Call) -> Reply:
        """Give the rejected records with their reasons as a table that a spreadsheet opens safely."""
        job = await find_job(self._services, call)
        shape = await self._services.run(lambda: shape_of_job(self._services, job))
        fields = tuple(field.name for field in shape.contract.fields) if shape is not None else ()
        return Reply(
            status=200,
            content_type=CSV,
            headers=_download(f"{job.id}.rejected.csv"),
            stream=rejected_csv(self._services, job.id, fields),
        )


def shape_of_job(services: Services, job: Job) -> Shape | None:
    """Find what the records of a job were held to; None if its feed or its target is gone. It may ask the ledger."""
    feed = next((feed for feed in services.feeds if feed.name == job.feed), None)
    return None if feed is None else services.platform.shapes.of(feed, workspace=job.workspace, target=job.target)


def record_object(
    job: Job, index: int, outcome: Outcome, rejection: Rejection | None, *, stored_in: str | None
) -> dict[str, object]:
    """Make the object that shows what became of a record."""
    problems = rejection.problems if rejection is not None else ()
    return {
        "index": index,
        "record_id": f"{job.id}:{index}",
        "outcome": outcome.word,
        "reasons": reasons(problems),
        "stored_in": stored_in if outcome in _STORED else None,
    }


def _download(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _marks(wanted: str | None) -> bytes:
    """Make the table that turns each outcome's byte into 1 if it is wanted."""
    return bytes(
        int(
            code in Outcome._value2member_map_
            and (wanted is None or (wanted == _ACCEPTED and code != Outcome.REJECTED) or Outcome(code).word == wanted)
        )
        for code in range(256)
    )


def _places(marks: bytes, *, first: int, limit: int) -> list[int]:
    places: list[int] = []
    place = marks.find(b"\x01", first)
    while place >= 0 and len(places) < limit:
        places.append(place)
        place = marks.find(b"\x01", place + 1)
    return places


def job_schema(feeds: Sequence[Feed]) -> Schema:
    """Describe the job object."""
    text, whole = {"type": ["string", "null"]}, {"type": ["integer", "null"]}
    instant = {"type": ["string", "null"], "format": "date-time"}
    return _object(
        {
            "id": {"type": "string"},
            "family": {"enum": [feed.name for feed in feeds]},
            "target": text,
            "workspace": {"type": "string"},
            "origin": {"enum": [origin.value for origin in Origin]},
            "file": {"oneOf": [{"type": "null"}, _object({"name": {"type": "string"}, "sha256": text})]},
            "state": {"enum": [state.value for state in JobState]},
            "verdict": {"enum": ["succeeded", "partial", "failed", None]},
            "counts": _object(dict.fromkeys(COUNTS, whole)),
            "bytes_in": {"type": "integer"},
            "times": _object(dict.fromkeys(("accepted", "started", "validated", "stored", "finished"), instant)),
            "cost": _object(dict.fromkeys(("cpu_ms", "bytes_written", "queue_ms"), whole)),
            "run_id": text,
            "parent_job_id": text,
            "duplicate_of": text,
            "error": {
                "oneOf": [{"type": "null"}, _object({"code": {"type": "string"}, "message": text})],
            },
        }
    )


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


RECORD_SCHEMA: Schema = _object(
    {
        "index": {"type": "integer"},
        "record_id": {"type": "string"},
        "outcome": {"enum": [outcome.word for outcome in Outcome]},
        "reasons": {
            "type": "array",
            "items": _object(
                {"code": {"type": "string"}, "field": {"type": ["string", "null"]}, "message": {"type": "string"}}
            ),
        },
        "stored_in": {"type": ["string", "null"], "description": "The table in which the record's value stands."},
    }
)
JOB_ID = Parameter(name="job_id", where="path", schema={"type": "string"}, description="The job's id.", required=True)
_WAIT = Parameter(
    name="wait",
    schema={"type": "integer", "minimum": 0, "maximum": WAIT_SECONDS_MAX},
    description="Answer when the job ends, or after so many seconds. `Prefer: wait=10` does the same.",
)
_OUTCOME = Parameter(
    name="outcome",
    schema={"type": "string", "enum": [_ACCEPTED, *(outcome.word for outcome in Outcome)]},
    description="Only records of this outcome; `accepted` is every one but `rejected`.",
)


def routes(services: Services) -> list[ApiRoute]:
    """Declare the routes of jobs."""
    handlers = JobRoutes(services)
    job = job_schema(services.feeds)
    return [
        ApiRoute(
            method="GET",
            path="/v1/jobs",
            handler=handlers.list_jobs,
            operation_id="list_jobs",
            tag="Jobs",
            summary="List jobs, the latest first",
            access=READ,
            parameters=(*_list_parameters(services.feeds), CURSOR),
            answers={200: json_answer("A page of jobs.", list_schema(job))},
        ),
        ApiRoute(
            method="GET",
            path="/v1/jobs/{job_id}",
            handler=handlers.get_job,
            operation_id="get_job",
            tag="Jobs",
            summary="Show a job",
            description="States only move forward, and a job that is `finished` or `failed` never changes again.",
            access=READ,
            parameters=(JOB_ID, _WAIT),
            answers={200: json_answer("The job.", job, Preference_Applied="The wait that was asked for with Prefer.")},
            refusals=(NotFound,),
        ),
        *_record_routes(handlers),
    ]


def _list_parameters(feeds: Sequence[Feed]) -> tuple[Parameter, ...]:
    return (
        _choice("family", [feed.name for feed in feeds], "Only jobs of this kind of data."),
        _choice("state", [state.value for state in JobState], "Only jobs in this state."),
        _choice("origin", [origin.value for origin in Origin], "Only jobs that came in this way."),
        Parameter(
            name="since",
            schema={"type": "string", "format": "date-time"},
            description="Only jobs accepted at or after this instant.",
        ),
        limit_parameter(default=JOBS_PAGE, most=JOBS_PAGE_MAX),
    )


def _choice(name: str, choices: list[str], description: str) -> Parameter:
    return Parameter(name=name, schema={"type": "string", "enum": choices}, description=description)


def _record_routes(handlers: JobRoutes) -> list[ApiRoute]:
    return [
        ApiRoute(
            method="GET",
            path="/v1/jobs/{job_id}/records",
            handler=handlers.list_records,
            operation_id="list_job_records",
            tag="Jobs",
            summary="List what became of each record of a job",
            description="In input order, successes too. Empty until the job has finished.",
            access=READ,
            parameters=(JOB_ID, _OUTCOME, limit_parameter(default=RECORDS_PAGE, most=RECORDS_PAGE_MAX), CURSOR),
            answers={200: json_answer("A page of records.", list_schema(RECORD_SCHEMA))},
            refusals=(NotFound,),
        ),
        _download_route(
            "ndjson",
            handlers.rejected_ndjson,
            content_type=NDJSON,
            description="Each line has `index`, `reasons` and `record`, the record as it was sent.",
        ),
        _download_route(
            "csv",
            handlers.rejected_csv,
            content_type=CSV,
            description="Cells that a spreadsheet would take for a formula begin with an apostrophe.",
        ),
    ]


def _download_route(form: str, handler: Handler, *, content_type: str, description: str) -> ApiRoute:
    return ApiRoute(
        method="GET",
        path=f"/v1/jobs/{{job_id}}/rejected.{form}",
        handler=handler,
        operation_id=f"get_rejected_{form}",
        tag="Jobs",
        summary=f"Download the rejected records with their reasons, as {form.upper()}",
        description=description,
        access=READ,
        parameters=(JOB_ID,),
        answers={
            200: Answer(
                description="The rejected records, in input order.",
                content={content_type: Content(schema={"type": "string"})},
                headers={"Content-Disposition": "A name for the file."},
            )
        },
        refusals=(NotFound,),
    )
