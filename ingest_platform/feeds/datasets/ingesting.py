"""The ways in for records: one, or a batch, for a dataset by its id or for a project's default one, with an API key.

Every record is judged before the answer as the run will judge it (`verdicts.py`), so a reply's counts are the job's.
What the routes promise is in `ingest_declared.py`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ingest_platform.api.call import Call
from ingest_platform.api.intake import Intake, Taking
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Services
from ingest_platform.domain.contract import Contract
from ingest_platform.domain.errors import Forbidden, Malformed
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.datasets import FEED, registry, wire
from ingest_platform.feeds.datasets.contract import contract_of
from ingest_platform.feeds.datasets.ingest_declared import CONTINUE, DATASET_ID_HEADER, declare_ingest
from ingest_platform.feeds.datasets.registry import Dataset
from ingest_platform.feeds.datasets.standing import Place, StandingDatasets
from ingest_platform.feeds.datasets.verdicts import Judged, judge_alone, judge_batch, judge_each
from ingest_platform.pipeline.documents import BOM

# A few records take well below a millisecond; more would keep this thread from answering others.
NEAR_BYTES_MAX = 16 * 1024
# Of so many schemas what their records are read with is kept, which takes a hundred times as long to make as to use.
CONTRACTS_MAX = 256

Value = TypeVar("Value")


class IngestRoutes:
    """The handlers."""

    def __init__(self, services: Services, standing: StandingDatasets) -> None:
        self._services = services
        self._standing = standing
        self._intake = Intake(services)

    async def send_record(self, call: Call) -> Reply:
        """Take one record."""
        dataset, body = await self._asked(call)
        contract = _contract(dataset)
        judged = await self._work(body, lambda: judge_alone(body, contract))
        # What lies in the inbox is an array, as it is of a batch.
        whole = b"[%b]" % body.removeprefix(BOM)
        return await self._answer(call, dataset, whole, judged=judged, shown={"success": True, "status": "queued"})

    async def send_batch(self, call: Call) -> Reply:
        """Take a batch: all of its records or none, unless the good ones are to be taken."""
        dataset, body = await self._asked(call)
        contract = _contract(dataset)
        each = call.require("on_error", str) == CONTINUE
        judged = await self._work(body, lambda: (judge_each if each else judge_batch)(body, contract))
        shown = wire.batch_reply(
            count=judged.accepted, bad=judged.bad if each else None, rejected=judged.rejected, contract=contract
        )
        return await self._answer(call, dataset, body, judged=judged, shown=shown)

    async def _asked(self, call: Call) -> tuple[Dataset, bytes]:
        """Find the dataset and read the body; what is wrong with the dataset comes before what is with the body."""
        # A repetition gets the first answer whatever has become of the dataset since.
        early = await self._read(call) if call.keyed is not None else None
        if call.who.project is None:
            raise Forbidden(wire.NO_PROJECT_OF_KEY)
        place = Place(workspace=call.who.workspace, project=call.who.project, dataset_id=_dataset_id(call))
        dataset = await self._standing.find(place)
        if dataset is None:
            raise wire.no_schema()
        return dataset, await self._read(call) if early is None else early

    async def _read(self, call: Call) -> bytes:
        assert call.body is not None
        body = await call.body.read()
        # The same key for another dataset, or with another wish, is another request.
        ids = call.headers.getlist(DATASET_ID_HEADER)
        call.know_body(body, salt="\n".join([call.path, call.get("on_error", str) or "", *ids]).encode())
        return body

    async def _work(self, body: bytes, work: Callable[[], Value]) -> Value:
        return work() if len(body) <= NEAR_BYTES_MAX else await self._services.run(work)

    async def _answer(
        self, call: Call, dataset: Dataset, body: bytes, *, judged: Judged, shown: Mapping[str, object]
    ) -> Reply:
        if call.get("dry_run", bool):
            return json_reply(200, {**shown, "dry_run": True})
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        try:
            await self._intake.keep(body, spool)
            taking = Taking.spooled(
                FEED,
                spool,
                job_id=job_id,
                format=Format.JSON,
                target=str(dataset.id),
                received=judged.received,
                quota=judged.accepted or None,
            )
            return await self._intake.take(
                call, taking, lambda job_id, _: json_reply(202, shown, headers={"Location": f"/v1/jobs/{job_id}"})
            )
        except BaseException:
            spool.abort()
            raise


def _dataset_id(call: Call) -> int | None:
    """Read which dataset is meant; None for the default one. Raises Malformed."""
    given = [call.get("dataset_id", str), *call.headers.getlist(DATASET_ID_HEADER)]
    ids = {None if text is None else _read_id(text) for text in given} - {None}
    if len(ids) > 1:
        raise Malformed(wire.INVALID_ID)
    return next(iter(ids), None)


def _read_id(text: str) -> int:
    dataset_id = registry.read_id(text)
    if dataset_id is None:
        raise Malformed(wire.INVALID_ID)
    return dataset_id


def _contract(dataset: Dataset) -> Contract:
    assert dataset.fields is not None
    return _contract_of(tuple(dataset.fields.items()))


@functools.lru_cache(maxsize=CONTRACTS_MAX)
def _contract_of(fields: tuple[tuple[str, str], ...]) -> Contract:
    return contract_of(dict(fields))


def routes(services: Services, standing: StandingDatasets) -> Sequence[ApiRoute]:
    """Declare the routes."""
    handlers = IngestRoutes(services, standing)
    return declare_ingest(
        send_record=handlers.send_record,
        send_batch=handlers.send_batch,
        body_bytes_max=min(services.limits.body_bytes_max, wire.BODY_BYTES_MAX),
    )
