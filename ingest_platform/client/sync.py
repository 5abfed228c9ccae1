"""The client that waits for each answer. What is asked, and how often: `working.py` and `asking.py`."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Self, TypeVar

import httpx

from ingest_platform.client import working
from ingest_platform.client.asking import Answer, Patience, Pause, Request, Steps
from ingest_platform.client.batching import Compression
from ingest_platform.client.errors import RecordError
from ingest_platform.client.reading import WatchedFile
from ingest_platform.client.working import DatasetSteps, Job, OnError, Record, Sent, Settings

T = TypeVar("T")
SECONDS_MAX = 30.0
WAIT_SECONDS = 60.0


class Client:
    """A connection to the platform, for one thread at a time; close it, or use it in a with statement.

    `token` is an API key (`ing_live_…`). `pat` (`pat_…`) with `project` lets datasets' schemas be read, so that records
    are checked before they are sent. `seconds_max` is the time for connecting, and between two bytes of an answer.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        pat: str | None = None,
        project: str | None = None,
        compression: Compression | None = "gzip",
        patience: Patience | None = None,
        seconds_max: float = SECONDS_MAX,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = Settings(
            token=token, pat=pat, project=project, patience=patience or Patience(), compression=compression
        )
        self._seconds_max = seconds_max
        self._http = httpx.Client(base_url=url, timeout=seconds_max, transport=transport)

    def dataset(
        self, dataset_id: int, *, project: str | None = None, fields: Mapping[str, str] | None = None
    ) -> "Dataset":
        """Speak of a dataset; `fields` are the declared ones, if they are known already."""
        return Dataset(self, DatasetSteps(self._settings, dataset_id, project=project, fields=fields))

    def import_readings(self, readings: Iterable[Record], *, key: str | None = None) -> Sent:
        """Send machine data; what becomes of it is told by the jobs. `key` makes a second call the same one."""
        return self.take(working.import_readings(self._settings, readings, key=key))

    def import_file(self, path: Path, *, key: str | None = None, see: Callable[[int], None] = lambda _: None) -> str:
        """Upload a file of machine data (.json .ndjson .csv .parquet, also .gz .zst); the id of its job."""
        return self.take(working.import_file(self._settings, path, key=key, see=see))

    def send_issues(self, issues: Iterable[Record], *, key: str | None = None) -> Sent:
        """Send issues; each has a verdict of its own."""
        return self.take(working.send_issues(self._settings, issues, key=key))

    def send_file(
        self, family: str, path: Path, *, target: str | None = None, see: Callable[[int], None] = lambda _: None
    ) -> Sent:
        """Send a file's records to a family (`machine-data`, `issues`, `datasets` with its id as the target).

        Bad ones are left out and told; of machine data the jobs tell them. `see` is told how many bytes more were read.
        """
        return self.take(working.send_file(self._settings, family, path, target=target, see=see))

    def rejections(self, job_id: str, *, limit: int = 10) -> list[RecordError]:
        """Ask for the first problems of a job that has ended."""
        return self.take(working.rejections(self._settings, job_id, limit=limit))

    def job(self, job_id: str) -> Job:
        """Look at a job."""
        return self.take(working.get_job(self._settings, job_id))

    def wait(self, job_id: str, *, seconds: float = WAIT_SECONDS) -> Job:
        """Wait for a job's end. Raises JobUnfinished."""
        return self.take(working.wait(self._settings, job_id, seconds=seconds))

    def take(self, steps: Steps[T]) -> T:
        """Take steps to their end."""
        answer: Answer = None
        with closing(steps):
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration as done:
                    return done.value
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    answer = None
                else:
                    answer = self._send(step)

    def _send(self, request: Request) -> Answer:
        options = request_options(request, seconds_max=self._seconds_max)
        try:
            if request.upload is None:
                return self._http.request(**options)  # type: ignore[arg-type]
            with WatchedFile(request.upload) as file:
                return self._http.request(**options, files={"file": (request.upload.path.name, file)})  # type: ignore[arg-type]
        except httpx.TransportError as error:
            return error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Use the client in a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class Dataset:
    """A dataset, as `Client.dataset` gives it."""

    def __init__(self, client: Client, steps: DatasetSteps) -> None:
        self._client = client
        self._steps = steps

    def schema(self) -> Mapping[str, str]:
        """Ask for the declared fields and their types, once."""
        return self._client.take(self._steps.schema())

    def send(self, record: Record, *, key: str | None = None) -> Sent:
        """Send one record. Raises RecordsRejected. `key` makes a second call the same one."""
        return self._client.take(self._steps.send(record, key=key))

    def send_many(self, records: Iterable[Record], *, on_error: OnError = "raise", key: str | None = None) -> Sent:
        """Send records in batches, in their order.

        `raise`: the first batch with a bad record ends it by RecordsRejected, and nothing of that batch is sent.
        `continue`: bad records are left out and told in the answer.
        """
        return self._client.take(self._steps.send_many(records, on_error=on_error, key=key))


def request_options(request: Request, *, seconds_max: float) -> dict[str, object]:
    """Say a request in the words of httpx."""
    return {
        "method": request.method,
        "url": request.path,
        "content": request.content,
        "headers": request.all_headers(),
        "params": dict(request.params),
        "timeout": httpx.Timeout(seconds_max, read=seconds_max + request.seconds),
    }
