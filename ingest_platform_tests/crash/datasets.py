"""Records of a dataset in a trial, as plain values: what is sent, and which rows and what quota must be there.

Nothing is sent here (`clients.py`). Nobody replaces anything: each accepted record is a row, once, and counts once.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from ingest_platform_tests.crash.journal import Afterwards, Family, Form, Sending, Shown

FIELDS = {"amount": "number", "country": "string"}
COUNTRIES = ("RO", "DE", "JP")

# Where a record lies and what it says: job, index, amount, country.
Row = tuple[str, int, float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A record as it is sent; `code` says why it must be rejected, None that it must not."""

    amount: int
    country: str
    day: int
    code: str | None = None

    def record(self) -> dict[str, object]:
        """Write it as a client does."""
        said = {
            "timestamp": f"2026-05-{self.day:02}T10:00:00Z",
            "context": {"n": self.amount, "by": {"till": 3}},
            "amount": self.amount,
            "country": self.country,
        }
        match self.code:
            case "invalid_type":
                return said | {"amount": str(self.amount)}
            case "extra_field":
                return said | {"colour": "red"}
            case _:
                return said


class Seller:
    """Makes batches of records of one trial from its seed, for a dataset; `first` is the number of the first."""

    def __init__(self, seed: int, *, first: int, dataset: str) -> None:
        self._random = random.Random(seed)
        self._next = first
        self._dataset = dataset

    def batch(self, form: Form = Form.JSON, *, size: int = 12) -> Sending:
        """Make records that nobody else sends, some of them bad."""
        number, self._next = self._next, self._next + 1
        chance = self._random
        bad = chance.sample(range(size), k=chance.choice((0, 0, 1, 2)))
        sales = tuple(
            Sale(
                amount=number * 1_000 + place,
                country=chance.choice(COUNTRIES),
                day=chance.randint(1, 3),
                code=chance.choice(("invalid_type", "extra_field")) if place in bad else None,
            )
            for place in range(size)
        )
        records = [sale.record() for sale in sales]
        if form is Form.FILE:
            content = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        else:
            content = json.dumps(records).encode()
        name = f"sales-{number}.ndjson" if form is Form.FILE else ""
        return Sending(
            number=number,
            form=form,
            items=sales,
            content=content,
            name=name,
            family=Family.DATASETS,
            target=self._dataset,
        )

    def copy_of(self, first: Sending) -> Sending:
        """Make a file of the same content under another name."""
        number, self._next = self._next, self._next + 1
        return Sending(
            number=number,
            form=first.form,
            items=first.items,
            content=first.content,
            name=f"copy-of-sales-{number}.ndjson",
            family=first.family,
            target=first.target,
        )


def expected_rows(senders: Mapping[str, Sending], jobs: Mapping[str, Shown]) -> list[Row]:
    """List the rows that must be there."""
    return [
        (job_id, index, float(sale.amount), sale.country)
        for job_id, sending in senders.items()
        if sending.family is Family.DATASETS
        and jobs[job_id]["state"] == "finished"
        and jobs[job_id]["duplicate_of"] is None
        for index, sale in enumerate(cast("tuple[Sale, ...]", sending.items))
        if sale.code is None
    ]


def wrong_rows(senders: Mapping[str, Sending], jobs: Mapping[str, Shown], after: Afterwards) -> Iterator[str]:
    """List what is wrong with the rows that are there, and with what was counted of the quota."""
    expected, stored = Counter(expected_rows(senders, jobs)), Counter(after.rows)
    lost, more = expected - stored, stored - expected
    if lost:
        yield f"8: {lost.total()} records of a dataset are lost, such as {min(lost)}"
    if more:
        yield f"8: {more.total()} rows of a dataset are there twice or were never sent, such as {min(more)}"
    if after.quota_used != expected.total():
        yield f"8: {expected.total()} records were accepted, and {after.quota_used} are counted of the quota"


def wrong_reply(sending: Sending, *, where: str) -> Iterator[str]:
    """What a batch was answered is what became of it."""
    if sending.answer is None:
        return
    reply = json.loads(sending.answer)
    told = {each["index"]: each["code"] for each in reply.get("rejected", ())}
    if (reply["count"], told) != (len(sending.good), sending.bad):
        yield f"3: {where} was answered {reply}, sent were {len(sending.good)} good records and bad ones {sending.bad}"
