"""What can be asked of the platform, as steps: datasets, readings, issues, files, jobs. Who takes them: `sync.py`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import httpx

from ingest_platform.client.asking import KEY, Patience, Request, Steps, Upload, ask, deadline, new_key
from ingest_platform.client.batching import BODY_BYTES_MAX, Compression, Encoded, array, compress, cut, encode
from ingest_platform.client.checking import faults_of
from ingest_platform.client.errors import ClientError, Invalid, JobUnfinished, RecordError, RecordsRejected
from ingest_platform.client.reading import Unread, read_records

OnError = Literal["raise", "continue"]
Record = Mapping[str, object]
# Problems that are kept; a caller who needs more is served better by the job's `rejected.ndjson`.
ERRORS_KEPT_MAX = 10_000
RECORDS_MAX = 5_000
READINGS_MAX = 25_000
ISSUES_MAX = 500
# The server waits for at most 60 s at once.
WAIT_SECONDS_MAX = 30.0
_JSON = {"Content-Type": "application/json"}
_TERMINAL = frozenset({"finished", "failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Who asks, and how: a key of the data plane, a PAT for schemas, the project, patience and compression."""

    token: str
    pat: str | None
    project: str | None
    patience: Patience
    compression: Compression | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of records: how many were given and accepted, why the others were not, the jobs that have them.

    `errors` has every problem, up to 10,000; `issue_ids` those of accepted issues, in their order.
    """

    given: int = 0
    accepted: int = 0
    errors: tuple[RecordError, ...] = ()
    job_ids: tuple[str, ...] = ()
    issue_ids: tuple[str, ...] = ()

    @property
    def rejected(self) -> int:
        """How many records were not accepted."""
        return self.given - self.accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was last seen: its state, its verdict once it has ended, its counts; `body` is the whole object."""

    id: str
    state: str
    verdict: str | None
    counts: Mapping[str, int | None]
    body: Mapping[str, object]

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in _TERMINAL


@dataclass(slots=True)
class _Tally:
    given: int = 0
    accepted: int = 0
    errors: list[RecordError] = field(default_factory=list[RecordError])
    job_ids: list[str] = field(default_factory=list[str])
    issue_ids: list[str] = field(default_factory=list[str])

    def add_errors(self, errors: Iterable[RecordError]) -> None:
        self.errors += list(errors)[: ERRORS_KEPT_MAX - len(self.errors)]

    def sent(self) -> Sent:
        return Sent(
            given=self.given,
            accepted=self.accepted,
            errors=tuple(sorted(self.errors, key=lambda error: error.index)),
            job_ids=tuple(self.job_ids),
            issue_ids=tuple(self.issue_ids),
        )


# Datasets


class DatasetSteps:
    """One dataset. Its schema never changes, so it is asked for once; without a PAT or `fields`, the server checks."""

    def __init__(
        self, settings: Settings, dataset_id: int, *, project: str | None, fields: Mapping[str, str] | None
    ) -> None:
        self._settings = settings
        self._id = dataset_id
        self._project = project or settings.project
        self._fields = None if fields is None else dict(fields)

    def schema(self) -> Steps[Mapping[str, str]]:
        """Ask for the declared fields and their types."""
        if self._fields is None:
            if self._settings.pat is None or self._project is None:
                raise ClientError("the schema can be read with a personal access token (pat=…) and its project only")
            path = f"/api/datasets/{self._project}/{self._id}/schema"
            request = Request(method="GET", path=path, token=self._settings.pat)
            read = _object((yield from ask(request, self._settings.patience)))
            self._fields = cast("dict[str, str]", cast("dict[str, object]", read["schema"])["fields"])
        return dict(self._fields)

    def send(self, record: Record, *, key: str | None) -> Steps[Sent]:
        """Send one record."""
        fields = yield from self._known_fields()
        tally = _Tally(given=1)
        (*encoded,) = _judged([record], fields, tally)
        if not encoded:
            raise RecordsRejected(tally.errors, sent=0)
        yield from self._post("", encoded[0].text, tally, params={}, key=key or new_key(), counted=encoded)
        return tally.sent()

    def send_many(self, records: Iterable[Record | Unread], *, on_error: OnError, key: str | None) -> Steps[Sent]:
        """Send records in batches, in their order."""
        fields = yield from self._known_fields()
        tally = _Tally()
        good = _judged(records, fields, tally)
        params = {"on_error": "continue"} if on_error == "continue" else {}
        for batch in cut(good, records_max=RECORDS_MAX, bytes_max=BODY_BYTES_MAX, frame_bytes=len(b"[]")):
            if tally.errors and on_error == "raise":
                raise RecordsRejected(tally.errors, sent=tally.accepted)
            own_key = new_key() if key is None else f"{key}.{batch[0].index}"
            yield from self._post("/batch", array(batch), tally, params=params, key=own_key, counted=batch)
        if tally.errors and on_error == "raise":
            raise RecordsRejected(tally.errors, sent=tally.accepted)
        return tally.sent()

    def _known_fields(self) -> Steps[Mapping[str, str] | None]:
        if self._fields is None and (self._settings.pat is None or self._project is None):
            return None
        return (yield from self.schema())

    def _post(
        self, suffix: str, body: bytes, tally: _Tally, *, params: Mapping[str, str], key: str, counted: list[Encoded]
    ) -> Steps[None]:
        path = f"/datasets/{self._id}{suffix}"
        request = _post(self._settings, path, body, params=params, key=key)
        try:
            answer = yield from ask(request, self._settings.patience)
        except Invalid as invalid:
            errors = _dataset_errors(invalid.body.get("errors"), counted)
            if not errors:
                raise
            tally.add_errors(errors)
            if not params:
                raise RecordsRejected(errors, sent=tally.accepted) from invalid
            return
        reply = _object(answer)
        count = reply.get("count", len(counted))
        tally.accepted += count if isinstance(count, int) else len(counted)
        tally.add_errors(_dataset_errors(reply.get("rejected"), counted))
        tally.job_ids += _job_ids(answer, reply)


def _judged(records: Iterable[Record | Unread], fields: Mapping[str, str] | None, tally: _Tally) -> Iterator[Encoded]:
    """Encode the records that keep the schema; the problems of the others go to the tally."""
    tally.given = 0
    for index, record in enumerate(records):
        tally.given += 1
        if isinstance(record, Unread):
            tally.add_errors([RecordError(index=index, field=None, code=record.code, error=record.error)])
            continue
        faults = [] if fields is None else faults_of(record, fields)
        if not faults:
            yield encode(record, index=index)
        tally.add_errors(
            RecordError(index=index, field=fault.field, code=fault.code, error=fault.error) for fault in faults
        )


def _dataset_errors(told: object, counted: Sequence[Encoded]) -> list[RecordError]:
    """Read the problems of a batch's records, by their place among all records."""
    found: list[RecordError] = []
    for each in cast("list[dict[str, object]]", told if isinstance(told, list) else []):
        index, name = each.get("index", 0), each.get("field")
        found.append(
            RecordError(
                index=counted[index].index if isinstance(index, int) and index < len(counted) else counted[0].index,
                field=None if name is None else str(name),
                code=str(each.get("code", "")),
                error=str(each.get("error", "")),
            )
        )
    return found


# Readings, issues, files


def import_readings(settings: Settings, readings: Iterable[Record], *, key: str | None) -> Steps[Sent]:
    """Send machine data, each batch a job; the verdicts are the jobs' own."""
    tally = _Tally()
    for batch, own_key in _batches(readings, tally, records_max=READINGS_MAX, frame=_ITEMS, key=key):
        body = array(batch, before=_ITEMS, after=b"]}")
        answer = yield from ask(_post(settings, _IMPORT_JOBS, body, params={}, key=own_key), settings.patience)
        tally.accepted += len(batch)
        tally.job_ids += _job_ids(answer, _object(answer))
    return tally.sent()


def send_issues(settings: Settings, issues: Iterable[Record | Unread], *, key: str | None) -> Steps[Sent]:
    """Send issues, each with a verdict of its own."""
    tally = _Tally()
    for batch, own_key in _batches(issues, tally, records_max=ISSUES_MAX, frame=_RECORDS, key=key):
        body = array(batch, before=_RECORDS, after=b"]}")
        answer = yield from ask(_post(settings, "/v1/ingest/batch", body, params={}, key=own_key), settings.patience)
        reply = _object(answer)
        tally.accepted += cast("int", reply["accepted"])
        tally.add_errors(_issue_errors(cast("list[dict[str, object]]", reply["rejected"]), batch))
        tally.issue_ids += cast("list[str]", reply["issue_ids"])
        tally.job_ids += _job_ids(answer, reply)
    return tally.sent()


def import_file(settings: Settings, path: Path, *, key: str | None, see: Callable[[int], None]) -> Steps[str]:
    """Upload a file of machine data, streamed; the id of its job."""
    # A boundary that stays, because the same file sent again under its key must be the same body.
    headers = {KEY: key or new_key(), "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    request = Request(
        method="POST", path=_IMPORT_JOBS, token=settings.token, upload=Upload(path=path, see=see), headers=headers
    )
    answer = yield from ask(request, settings.patience)
    return _job_ids(answer, _object(answer))[0]


def send_file(
    settings: Settings, family: str, path: Path, *, target: str | None, see: Callable[[int], None]
) -> Steps[Sent]:
    """Send a file's records: machine data as the file that it is, others in batches."""
    if family == "machine-data":
        return Sent(job_ids=((yield from import_file(settings, path, key=None, see=see)),))
    if family == "issues":
        return (yield from send_issues(settings, read_records(path, see=see), key=None))
    if family == "datasets":
        if target is None or not (target.isascii() and target.isdigit()):
            raise ClientError("a dataset's records need its id as their target")
        steps = DatasetSteps(settings, int(target), project=None, fields=None)
        return (yield from steps.send_many(read_records(path, see=see), on_error="continue", key=None))
    raise ClientError(f"{family} takes no files over HTTP")


_BOUNDARY = "ingest-platform-client-5b0f6a2e9d3c4718a6c1d7e84f92b035"
_IMPORT_JOBS = "/v1/machine-data/import-jobs"
_ITEMS, _RECORDS = b'{"items":[', b'{"records":['


def _batches(
    records: Iterable[Record | Unread], tally: _Tally, *, records_max: int, frame: bytes, key: str | None
) -> Iterator[tuple[list[Encoded], str]]:
    """Cut records into batches, each with the idempotency key that it is sent under."""
    encoded = _judged(records, None, tally)
    for batch in cut(encoded, records_max=records_max, bytes_max=BODY_BYTES_MAX, frame_bytes=len(frame) + len(b"]}")):
        yield batch, new_key() if key is None else f"{key}.{batch[0].index}"


def _issue_errors(told: list[dict[str, object]], batch: Sequence[Encoded]) -> Iterator[RecordError]:
    for each in told:
        name = each.get("field")
        yield RecordError(
            index=batch[cast("int", each["index"])].index,
            field=None if name is None else str(name),
            code=str(each["reason_code"]),
            error=str(each["message"]),
        )


# Jobs


def get_job(settings: Settings, job_id: str, *, wait_seconds: float = 0.0) -> Steps[Job]:
    """Look at a job; with a wait, the answer comes when it has ended or the time is over."""
    params = {"wait": f"{wait_seconds:.0f}"} if wait_seconds else {}
    path = f"/v1/jobs/{job_id}"
    request = Request(method="GET", path=path, token=settings.token, params=params, seconds=wait_seconds)
    body = _object((yield from ask(request, settings.patience)))
    return Job(
        id=str(body["id"]),
        state=str(body["state"]),
        verdict=cast("str | None", body["verdict"]),
        counts=cast("dict[str, int | None]", body["counts"]),
        body=body,
    )


def rejections(settings: Settings, job_id: str, *, limit: int) -> Steps[list[RecordError]]:
    """Ask for the first problems of a job that has ended."""
    path, params = f"/v1/jobs/{job_id}/records", {"outcome": "rejected", "limit": str(limit)}
    request = Request(method="GET", path=path, token=settings.token, params=params)
    page = _object((yield from ask(request, settings.patience)))
    return [
        RecordError(
            index=cast("int", record["index"]),
            field=cast("str | None", reason.get("field")),
            code=str(reason["code"]),
            error=str(reason["message"]),
        )
        for record in cast("list[dict[str, object]]", page["data"])
        for reason in cast("list[dict[str, object]]", record["reasons"])
    ]


def wait(settings: Settings, job_id: str, *, seconds: float) -> Steps[Job]:
    """Wait for a job's end. Raises JobUnfinished when the time is over."""
    left = deadline(seconds)
    while True:
        # At least a second, so that the server waits and not we.
        job = yield from get_job(settings, job_id, wait_seconds=min(WAIT_SECONDS_MAX, max(1.0, left())))
        if job.ended:
            return job
        if not left():
            raise JobUnfinished(f"{job_id} is {job.state} after {seconds:g} s; it goes on")


# Requests and replies


def _post(settings: Settings, path: str, body: bytes, *, params: Mapping[str, str], key: str) -> Request:
    content, headers = compress(body, settings.compression)
    headers = {**_JSON, **headers, KEY: key}
    return Request(method="POST", path=path, token=settings.token, content=content, headers=headers, params=params)


def _object(answer: httpx.Response) -> dict[str, object]:
    try:
        read: object = json.loads(answer.content)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ClientError(
            f"{answer.request.url} answered {answer.status_code} with no JSON object; is it the platform?"
        )
    return cast("dict[str, object]", read)


def _job_ids(answer: httpx.Response, reply: Mapping[str, object]) -> list[str]:
    """Find the job of a submission: in the reply, or where the reply says that it can be looked at."""
    told = reply.get("job_id") or answer.headers.get("Location", "").rpartition("/")[2]
    return [str(told)] if told else []
