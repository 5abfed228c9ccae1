"""What is checked of datasets: a trial in which all is well, and what is said when one thing is not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ingest_platform_tests.crash.checking import violations
from ingest_platform_tests.crash.datasets import Row, Seller, expected_rows
from ingest_platform_tests.crash.journal import Afterwards, Form, Journal, Sending


@dataclass
class Case:
    """A fabricated trial: what the platform is made to say and to store of a dataset's records."""

    journal: Journal
    jobs: list[dict[str, Any]]
    rows: list[Row]
    quota_used: int

    def violations(self) -> list[str]:
        return violations(self.journal, Afterwards(jobs=self.jobs, rows=self.rows, quota_used=self.quota_used))


def _answered(sending: Sending, clock: int, *, duplicate_of: str | None = None) -> dict[str, Any]:
    """Answer a batch as the platform should; its job."""
    good, bad = len(sending.good), sending.bad
    sending.first_sent, sending.acked_at = clock, clock + 0.5
    job_id = f"ds_job_{sending.number}"
    if sending.form is not Form.FILE:
        rejected = [{"index": index, "code": code} for index, code in bad.items()]
        sending.answer = json.dumps({"success": True, "count": good, "rejected": rejected}).encode()
        sending.location = f"/v1/jobs/{job_id}"
    fates = {"created": good, "updated": 0, "unchanged": 0, "stale": 0, "superseded": 0, "duplicate": 0}
    return {
        "id": job_id,
        "state": "finished",
        "family": "datasets",
        "file": {"name": sending.name} if sending.name else None,
        "duplicate_of": duplicate_of,
        "counts": {"received": good + len(bad), "accepted": good, "rejected": len(bad), **fates},
    }


@pytest.fixture
def case() -> Case:
    """A trial in which every promise was kept."""
    seller = Seller(3, first=1, dataset="7")
    sendings = [*(seller.batch() for _ in range(5)), file := seller.batch(Form.FILE)]
    jobs = [_answered(sending, clock) for clock, sending in enumerate(sendings)]
    copy = seller.copy_of(file)
    jobs.append(_answered(copy, 6, duplicate_of=jobs[-1]["id"]))
    senders = dict(zip([job["id"] for job in jobs], [*sendings, copy], strict=True))
    rows = expected_rows(senders, {job["id"]: job for job in jobs})
    return Case(journal=Journal(sendings=[*sendings, copy]), jobs=jobs, rows=rows, quota_used=len(rows))


def test_a_trial_in_which_all_is_well_has_no_violation(case: Case) -> None:
    assert case.violations() == []
    assert any(sending.bad for sending in case.journal.sendings)
    assert case.quota_used > 50


def _lose(case: Case) -> None:
    case.rows.pop()


def _double(case: Case) -> None:
    case.rows.append(case.rows[0])


def _garble(case: Case) -> None:
    case.rows[3] = (*case.rows[3][:2], -1.0, case.rows[3][3])


def _count_twice(case: Case) -> None:
    case.quota_used += 12


def _refund(case: Case) -> None:
    case.quota_used -= 1


def _merge(case: Case) -> None:
    counts = case.jobs[0]["counts"]
    counts.update(created=counts["created"] - 1, updated=1)


def _answer_more(case: Case) -> None:
    (sending, *_) = case.journal.sendings
    assert sending.answer is not None
    sending.answer = json.dumps(json.loads(sending.answer) | {"count": 13}).encode()


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        *((_lose, "8"), (_double, "8"), (_garble, "8"), (_count_twice, "8"), (_refund, "8"), (_merge, "8")),
        (_answer_more, "3"),
    ],
)
def test_one_thing_wrong_is_a_violation_of_its_promise(case: Case, spoil: Callable[[Case], None], promise: str) -> None:
    spoil(case)
    assert any(line.startswith(f"{promise}: ") for line in case.violations()), case.violations()
