"""The client whose answers are awaited. What is asked, and how often: `working.py` and `asking.py`."""

import asyncio
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
from ingest_platform.client.sync import SECONDS_MAX, WAIT_SECONDS, request_options
from ingest_platform.client.working import DatasetSteps, Job, OnError, Record, Sent, Settings

T = TypeVar("T")


class AsyncClient:
    """What `Client` is, for asyncio. Records are checked and encoded between the awaits, a batch at a time."""

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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = Settings(
            token=token, pat=pat, project=project, patience=patience or Patience(), compression=compression
        )
        self._seconds_max = seconds_max
        self._http = httpx.AsyncClient(base_url=url, timeout=seconds_max, transport=transport)

    def dataset(
        self, dataset_id: int, *, project: str | None = None, fields: Mapping[str, str] | None = None
    ) -> "AsyncDataset":
        """Speak of a dataset; `fields` are the declared ones, if they are known already."""
        return AsyncDataset(self, DatasetSteps(self._settings, dataset_id, project=project, fields=fields))

    async def import_readings(self, readings: Iterable[Record], *, key: str | None = None) -> Sent:
        """Send machine data; what becomes of it is told by the jobs. `key` makes a second call the same one."""
        return await self.take(working.import_readings(self._settings, readings, key=key))

    async def import_file(
        self, path: Path, *, key: str | None = None, see: Callable[[int], None] = lambda _: None
    ) -> str:
        """Upload a file of machine data (.json .ndjson .csv .parquet, also .gz .zst); the id of its job."""
        return await self.take(working.import_file(self._settings, path, key=key, see=see))

    async def send_issues(self, issues: Iterable[Record], *, key: str | None = None) -> Sent:
        """Send issues; each has a verdict of its own."""
        return await self.take(working.send_issues(self._settings, issues, key=key))

    async def send_file(
        self, family: str, path: Path, *, target: str | None = None, see: Callable[[int], None] = lambda _: None
    ) -> Sent:
        """Send a file's records to a family (`machine-data`, `issues`, `datasets` with its id as the target).

        Bad ones are left out and told; of machine data the jobs tell them. `see` is told how many bytes more were read.
        """
        return await self.take(working.send_file(self._settings, family, path, target=target, see=see))

    async def rejections(self, job_id: str, *, limit: int = 10) -> list[RecordError]:
        """Ask for the first problems of a job that has ended."""
        return await self.take(working.rejections(self._settings, job_id, limit=limit))

    async def job(self, job_id: str) -> Job:
        """Look at a job."""
        return await self.take(working.get_job(self._settings, job_id))

    async def wait(self, job_id: str, *, seconds: float = WAIT_SECONDS) -> Job:
        """Wait for a job's end. Raises JobUnfinished."""
        return await self.take(working.wait(self._settings, job_id, seconds=seconds))

    async def take(self, steps: Steps[T]) -> T:
        """Take steps to their end."""
        answer: Answer = None
        with closing(steps):
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration as done:
                    return done.value
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    answer = None
                else:
                    answer = await self._send(step)

    async def _send(self, request: Request) -> Answer:
        options = request_options(request, seconds_max=self._seconds_max)
        try:
            if request.upload is None:
                return await self._http.request(**options)  # type: ignore[arg-type]
            with WatchedFile(request.upload) as file:
                return await self._http.request(**options, files={"file": (request.upload.path.name, file)})  # type: ignore[arg-type]
        except httpx.TransportError as error:
            return error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Use the client in an async with statement."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()


class AsyncDataset:
    """A dataset, as `AsyncClient.dataset` gives it."""

    def __init__(self, client: AsyncClient, steps: DatasetSteps) -> None:
        self._client = client
        self._steps = steps

    async def schema(self) -> Mapping[str, str]:
        """Ask for the declared fields and their types, once."""
        return await self._client.take(self._steps.schema())

    async def send(self, record: Record, *, key: str | None = None) -> Sent:
        """Send one record. Raises RecordsRejected. `key` makes a second call the same one."""
        return await self._client.take(self._steps.send(record, key=key))

    async def send_many(
        self, records: Iterable[Record], *, on_error: OnError = "raise", key: str | None = None
    ) -> Sent:
        """Send records in batches, in their order.

        `raise`: the first batch with a bad record ends it by RecordsRejected, and nothing of that batch is sent.
        `continue`: bad records are left out and told in the answer.
        """
        return await self._client.take(self._steps.send_many(records, on_error=on_error, key=key))
