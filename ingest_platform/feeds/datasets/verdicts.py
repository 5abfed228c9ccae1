"""What the door says of records sent to a dataset, before anything is taken: the kernel's own verdict on each.

The run gives the same one on the same bytes (`pipeline/door.py`). How it is worded is `wire.py`'s business.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ingest_platform.domain.contract import Contract
from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.feeds.datasets import wire
from ingest_platform.feeds.datasets.wire import BadRecord, BadRecords
from ingest_platform.pipeline.documents import BOM, iter_document
from ingest_platform.pipeline.door import check_record, check_records
from ingest_platform.pipeline.records import BLANKS, DECODE_ERRORS

_NO_JSON = Problem(code=Code.INVALID_JSON.value, field=None, message=wire.INVALID_JSON)
_NO_BATCH = Problem(code=Code.INVALID_TYPE.value, field=None, message="Batch body must be a non-empty array")
_is_json = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How many records there are, and how many of them are good; of the first bad ones, what is wrong."""

    received: int
    accepted: int
    bad: Sequence[BadRecord]

    @property
    def rejected(self) -> int:
        """How many are bad."""
        return self.received - self.accepted


def judge_alone(body: bytes, contract: Contract) -> Judged:
    """Judge a body that is one record. Raises BadRecords if it is a bad one."""
    problems = check_record(body.removeprefix(BOM), contract)
    if problems:
        raise BadRecords([BadRecord(index=None, problems=problems)], contract)
    return Judged(received=1, accepted=1, bad=())


def judge_batch(body: bytes, contract: Contract) -> Judged:
    """Judge the records of a batch, none of which is taken if one is bad. Raises BadRecords."""
    bad: list[BadRecord] = []
    problems = received = 0
    for index, found in _verdicts(body, contract):
        received += 1
        if found:
            bad.append(BadRecord(index=index, problems=found))
            problems += len(found)
        if problems > wire.ERRORS_MAX:
            # More is not told, so the rest need not be looked at.
            break
    if bad:
        raise BadRecords(bad, contract)
    return Judged(received=received, accepted=received, bad=())


def judge_each(body: bytes, contract: Contract) -> Judged:
    """Judge the records of a batch, each by itself. Raises BadRecords only for a body that is no batch."""
    bad: list[BadRecord] = []
    received = accepted = 0
    for index, found in _verdicts(body, contract):
        received += 1
        if not found:
            accepted += 1
        elif len(bad) < wire.ERRORS_MAX:
            bad.append(BadRecord(index=index, problems=wire.in_order(found)[:1]))
    return Judged(received=received, accepted=accepted, bad=bad)


def _verdicts(body: bytes, contract: Contract) -> Iterator[tuple[int, Sequence[Problem]]]:
    first = 0
    for records in _parts(body, contract):
        bad = dict(check_records(records, contract))
        for index in range(len(records)):
            yield first + index, bad.get(index, ())
        first += len(records)


def _parts(body: bytes, contract: Contract) -> Iterator[list[bytes]]:
    """Cut a body into the elements of its array, many at a time. Raises BadRecords."""
    body = body.removeprefix(BOM)
    if body.lstrip(BLANKS)[:1] != b"[":
        try:
            _is_json(body)
        except DECODE_ERRORS:
            raise _refused(_NO_JSON, contract) from None
        raise _refused(_NO_BATCH, contract)
    empty = True
    try:
        for records in iter_document(body, envelope_key=""):
            empty = False
            yield records
    except Unreadable:
        raise _refused(_NO_JSON, contract) from None
    if empty:
        raise _refused(_NO_BATCH, contract)


def _refused(problem: Problem, contract: Contract) -> BadRecords:
    return BadRecords([BadRecord(index=None, problems=[problem])], contract)
