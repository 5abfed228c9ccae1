"""The machine-data routes: import jobs, the synchronous batch, and reading back. Their words are in `wire.py`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ingest_platform.api.body import Sink
from ingest_platform.api.call import Call
from ingest_platform.api.intake import Intake, Spool, Taking
from ingest_platform.api.jobs import find_job
from ingest_platform.api.multipart import FilePart, OneFile
from ingest_platform.api.problems import COMMON_SCHEMA, Family
from ingest_platform.api.replies import JSON, Reply, json_reply
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Unprocessable, UnsupportedFormat
from ingest_platform.domain.job import Job, JobState
from ingest_platform.domain.rejection import Rejection
from ingest_platform.domain.submission import Encoding, Format
from ingest_platform.feeds.machine_data import FEED, wire
from ingest_platform.feeds.machine_data.declared import declare
from ingest_platform.feeds.machine_data.reading import ReadRoutes
from ingest_platform.pipeline.verdict import Candidate, Verdict, judge
from ingest_platform.storage import outcomes
from ingest_platform.storage.ledger import Transaction

MULTIPART = "multipart/form-data"
STREAMED = {
    "application/x-ndjson": Format.NDJSON,
    "text/csv": Format.CSV,
    "application/vnd.apache.parquet": Format.PARQUET,
}
_BY_CONTENT_TYPE = {JSON: Format.JSON, "application/ndjson": Format.NDJSON, **STREAMED}
_BY_SUFFIX = {
    "json": Format.JSON,
    "ndjson": Format.NDJSON,
    "jsonl": Format.NDJSON,
    "csv": Format.CSV,
    "parquet": Format.PARQUET,
}
_COMPRESSED = {"gz": Encoding.GZIP, "zst": Encoding.ZSTD}
# In the families of paths that the first clients know besides the present one.
ALIASES = ("/tracking/v1/machine-data", "/tracking/v1/v1/machine-data")

FAMILY = Family(
    name="MachineDataProblem",
    prefixes=("/v1/machine-data/", *(f"{alias}/" for alias in ALIASES)),
    id_headers=("X-Request-Id", "Cula-Request-Id"),
    schema=COMMON_SCHEMA,
)


class ImportRoutes:
    """The handlers that take and show import jobs."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._intake = Intake(services)

    async def create_import_job(self, call: Call) -> Reply:
        """Take a submission in any of the formats."""
        if call.content_type == JSON:
            return await self._import_json(call)
        if call.content_type == MULTIPART:
            return await self._import_file(call)
        return await self._import_stream(call, STREAMED[call.content_type])

    async def _import_json(self, call: Call) -> Reply:
        assert call.body is not None
        body = await call.body.read()
        call.know_body(body, salt=b"json")
        items = await self._count(body)
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        try:
            await self._intake.keep(body, spool)
            taking = Taking.spooled(FEED, spool, job_id=job_id, format=Format.JSON, received=items)
            return await self._take_or_try(call, taking, spool)
        except BaseException:
            spool.abort()
            raise

    async def _count(self, body: bytes) -> int:
        # A large body takes tens of milliseconds, in which this thread shall answer others.
        if len(body) <= self._services.limits.inline_bytes_max:
            return len(wire.split_items(body))
        return await self._services.run(lambda: len(wire.split_items(body)))

    async def _import_stream(self, call: Call, form: Format) -> Reply:
        assert call.body is not None
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        try:
            limit = self._services.limits.upload_bytes_max
            await call.body.drain_into(self._intake.bounded(spool, encoding=call.body.encoding, bytes_max=limit))
            _require_content(call, spool, salt=form.value)
            return await self._take_or_try(call, Taking.spooled(FEED, spool, job_id=job_id, format=form), spool)
        except BaseException:
            spool.abort()
            raise

    async def _import_file(self, call: Call) -> Reply:
        assert call.body is not None
        limit = self._services.limits.upload_bytes_max
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        found: list[Format] = []

        def sink_for(part: FilePart) -> Sink:
            form, encoding = format_of(part)
            found.append(form)
            return self._intake.bounded(spool, encoding=encoding, bytes_max=limit)

        form = OneFile(call.headers["content-type"], sink_for)
        try:
            await call.body.drain_into(self._intake.bounded(form, encoding=call.body.encoding, bytes_max=limit))
            assert form.part is not None
            _require_content(call, spool, salt=found[0].value)
            taking = Taking.spooled(FEED, spool, job_id=job_id, format=found[0], file_name=form.part.name or None)
            return await self._take_or_try(call, taking, spool)
        except BaseException:
            spool.abort()
            raise

    async def _take_or_try(self, call: Call, taking: Taking, spool: Spool) -> Reply:
        if call.get("dry_run", bool):
            try:
                return json_reply(200, {**await self._try(call, taking), "dry_run": True})
            finally:
                spool.abort()
        return await self._intake.take(
            call,
            taking,
            lambda job_id, accepted_at: json_reply(
                202,
                wire.accepted_job(job_id=job_id, received=taking.received, accepted_at=accepted_at),
                headers={"Location": f"/v1/machine-data/import-jobs/{job_id}"},
            ),
        )

    async def _try(self, call: Call, taking: Taking) -> wire.Shown:
        now = datetime.now(UTC)
        verdict = await self._judge(call, taking, at=now)
        return wire.tried_job(
            job_id=taking.job_id,
            received=verdict.received,
            rejections=verdict.rejections,
            unreadable=verdict.unreadable,
            at=now,
        )

    async def _judge(self, call: Call, taking: Taking, *, at: datetime) -> Verdict:
        candidate = Candidate(
            id=taking.job_id,
            workspace=call.who.workspace,
            feed=FEED,
            format=taking.format,
            sites=call.who.sites,
            body=taking.body,
            blob=taking.blob,
            size=taking.size,
            at=at,
        )
        return await self._services.run(lambda: judge(self._services.platform, candidate))

    async def get_import_job(self, call: Call) -> Reply:
        """Show an import job."""
        job = await find_job(self._services, call, feed=FEED.name)
        return json_reply(200, await self._services.read(lambda tx: wire.import_job(job, _errors(tx, job))))

    async def send_batch(self, call: Call) -> Reply:
        """Take up to 200 items, all or none, checked before the answer."""
        assert call.body is not None
        body = await call.body.read()
        call.know_body(body, salt=b"json")
        count = await self._count(body)
        if count > wire.BATCH_ITEMS_MAX:
            message = f"items has {count} items; the limit is {wire.BATCH_ITEMS_MAX}."
            raise Unprocessable(message, code="too_many_items", param=wire.ITEMS)
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        try:
            await self._intake.keep(body, spool)
            taking = Taking.spooled(FEED, spool, job_id=job_id, format=Format.JSON, received=count)
            wire.require_good(await self._judge(call, taking, at=datetime.now(UTC)))
            answer = json_reply(200, wire.batch_answer(count))
            if call.get("dry_run", bool):
                spool.abort()
                return json_reply(200, {**wire.batch_answer(count), "dry_run": True})
            return await self._intake.take(call, taking, lambda _, __: answer)
        except BaseException:
            spool.abort()
            raise


def _errors(tx: Transaction, job: Job) -> Sequence[Rejection]:
    if job.state is not JobState.FINISHED or not job.rejected:
        return ()
    # One more than is shown tells that there are more.
    return outcomes.rejections(tx, job.id, limit=wire.ERRORS_MAX + 1)


def _require_content(call: Call, spool: Spool, *, salt: str) -> None:
    call.know_digest(spool.digest, salt=salt.encode())
    if spool.size == 0:
        raise Unprocessable("The body is empty.", code="empty")


def format_of(part: FilePart) -> tuple[Format, Encoding]:
    """Tell a file's format and compression by its name, or by its content type if the name says nothing.

    >>> format_of(FilePart(name="may.csv.gz", content_type=""))
    (<Format.CSV: 'csv'>, <Encoding.GZIP: 'gzip'>)
    """
    stem, _, last = part.name.lower().rpartition(".")
    encoding = _COMPRESSED.get(last, Encoding.IDENTITY) if stem else Encoding.IDENTITY
    suffix = stem.rpartition(".")[2] if encoding is not Encoding.IDENTITY else last
    form = _BY_SUFFIX.get(suffix) if "." in part.name else None
    form = form or _BY_CONTENT_TYPE.get(part.content_type)
    if form is None:
        message = "The file must be named .json, .ndjson, .jsonl, .csv or .parquet (also with .gz or .zst)."
        raise UnsupportedFormat(message, param="file")
    return form, encoding


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the routes."""
    return declare(ImportRoutes(services), ReadRoutes(services), services.limits)
