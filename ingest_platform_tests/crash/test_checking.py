"""The checker itself: a journal in which all is well, and what it says when one thing is not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ingest_platform_tests.crash.checking import expected_points, violations
from ingest_platform_tests.crash.journal import FACTOR, Afterwards, Form, Journal, Sending, Writer


@dataclass
class Case:
    """A fabricated trial: `jobs`, `looks` and `points` are what the platform is made to say."""

    journal: Journal
    jobs: dict[str, dict[str, Any]]
    looks: list[dict[str, dict[str, Any]]]
    points: list[dict[str, Any]]
    replays: list[tuple[int, int, bytes]]
    repeated_keys: int = 0

    def violations(self) -> list[str]:
        return violations(
            self.journal,
            Afterwards(
                jobs=list(self.jobs.values()),
                looks=self.looks,
                points=self.points,
                replays=self.replays,
                repeated_keys=self.repeated_keys,
            ),
        )


def _job(sending: Sending, *, duplicate_of: str | None = None) -> dict[str, Any]:
    good, bad = len(sending.good), len(sending.bad)
    fates = dict.fromkeys(("created", "updated", "unchanged", "stale", "superseded", "duplicate"), 0)
    fates["duplicate" if duplicate_of else "created"] = good
    return {
        "id": f"job_{sending.number}",
        "state": "failed" if sending.form is Form.GARBAGE else "finished",
        "file": {"name": sending.name} if sending.name else None,
        "duplicate_of": duplicate_of,
        "counts": {"received": good + bad, "accepted": good, "rejected": bad, **fates},
    }


@pytest.fixture
def case() -> Case:
    """A trial in which every promise was kept."""
    writer = Writer(7)
    sendings = [writer.overlapping() for _ in range(8)]
    sendings += [writer.marked(size=5), writer.garbage(), file := writer.overlapping(Form.FILE), writer.copy_of(file)]
    jobs: dict[str, dict[str, Any]] = {}
    for clock, sending in enumerate(sendings):
        sending.first_sent, sending.acked_at = clock, clock + 0.5
        job = _job(sending, duplicate_of=f"job_{file.number}" if sending.name.startswith("copy") else None)
        jobs[job["id"]] = job
        if sending.form is not Form.FILE:
            sending.answer = json.dumps({"job_id": job["id"]}).encode()
    journal = Journal(sendings=sendings)
    by_id = dict(zip(jobs, sendings, strict=True))
    looks = [
        {
            job_id: {"errors": [{"index": i, "code": code} for i, code in sending.bad.items()] or None}
            for job_id, sending in by_id.items()
        }
        for _ in range(2)
    ]
    points = [
        {
            "machine_data_point_config_id": config,
            "timestamp": instant,
            "value": value * FACTOR,
            "raw_value": value,
            "job_id": job_id,
        }
        for (config, instant), (value, job_id) in expected_points(by_id, jobs).items()
    ]
    replays = [(each.number, 202, each.answer) for each in sendings if each.answer is not None]
    journal.sights = {(job_id, len(each.good)) for job_id, each in by_id.items() if each.marked}
    return Case(journal=journal, jobs=jobs, looks=looks, points=points, replays=replays)


def test_a_trial_in_which_all_is_well_has_no_violation(case: Case) -> None:
    assert case.violations() == []


def _lose_a_job(case: Case) -> None:
    del case.jobs["job_3"]


def _take_twice(case: Case) -> None:
    case.jobs["job_99"] = {**case.jobs["job_3"], "id": "job_99"}


def _never_end(case: Case) -> None:
    case.jobs["job_3"]["state"] = "processing"


def _fail_for_nothing(case: Case) -> None:
    case.jobs["job_3"].update(state="failed", error={"code": "attempts_exhausted"})


def _say_nothing_of_lost_bytes(case: Case) -> None:
    case.journal.sendings[2].lost = True


def _change_after_the_end(case: Case) -> None:
    case.journal.first_ends["job_3"] = {"errors": case.looks[0]["job_3"]["errors"], "finished_at": "earlier"}


def _miscount(case: Case) -> None:
    case.jobs["job_3"]["counts"]["accepted"] -= 1


def _forget_a_rejection(case: Case) -> None:
    job_id = next(job_id for job_id, answer in case.looks[1].items() if answer["errors"])
    case.looks[1][job_id] = {"errors": None}


def _answer_otherwise(case: Case) -> None:
    case.replays[0] = (1, 202, b'{"job_id": "job_other"}')


def _store_a_file_twice(case: Case) -> None:
    case.jobs["job_12"]["duplicate_of"] = None


def _lose_a_value(case: Case) -> None:
    case.points.pop()


def _keep_an_old_value(case: Case) -> None:
    case.points[0].update(raw_value=1.0, value=FACTOR, job_id="job_1")


def _store_a_value_twice(case: Case) -> None:
    case.repeated_keys = 1


def _load_again(case: Case) -> None:
    case.jobs["job_9"]["counts"].update(created=0, unchanged=5)


def _accept_out_of_order(case: Case) -> None:
    case.jobs = dict(reversed(case.jobs.items()))
    case.points.clear()


def _show_a_half(case: Case) -> None:
    case.journal.sights.add(("job_9", 3))


def _answer_500(case: Case) -> None:
    case.journal.wrong_answers.append("submission 3: 500")


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (_lose_a_job, "1"),
        (_never_end, "2"),
        (_fail_for_nothing, "2"),
        (_say_nothing_of_lost_bytes, "2"),
        (_change_after_the_end, "2"),
        (_miscount, "3"),
        (_forget_a_rejection, "3"),
        (_answer_otherwise, "4"),
        (_store_a_file_twice, "5"),
        (_answer_500, "7"),
        (_take_twice, "8"),
        (_lose_a_value, "8"),
        (_keep_an_old_value, "8"),
        (_store_a_value_twice, "8"),
        (_load_again, "8"),
        (_accept_out_of_order, "8"),
        (_show_a_half, "12"),
    ],
)
def test_one_thing_wrong_is_a_violation_of_its_promise(case: Case, spoil: Callable[[Case], None], promise: str) -> None:
    spoil(case)
    assert any(line.startswith(f"{promise}: ") for line in case.violations()), case.violations()
