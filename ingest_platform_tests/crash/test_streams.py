"""What is checked of streams: a trial in which all is well, and what is said when one thing is not."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from ingest_platform.domain.ids import new_id
from ingest_platform_tests.crash.checking import violations
from ingest_platform_tests.crash.journal import Afterwards, Form, Journal, Sending
from ingest_platform_tests.crash.streams import COUNTED, Delivered, Streamer, fates


@dataclass
class Case:
    """A fabricated trial: what the platform is made to say, and to deliver of a stream's events."""

    journal: Journal
    jobs: list[dict[str, Any]]
    delivered: Delivered

    @property
    def stats(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.delivered.stats)

    def violations(self) -> list[str]:
        return violations(self.journal, Afterwards(jobs=self.jobs, delivered=self.delivered))


def _answered(sending: Sending, clock: int) -> dict[str, Any]:
    """Answer a request as the platform should; its job."""
    good, bad = len(sending.good), sending.bad
    sending.first_sent, sending.acked_at = clock, clock + 0.5
    job_id = new_id("evt_")
    if sending.form is not Form.FILE:
        rejected = [{"index": index, "error": "invalid_format"} for index in sorted(bad)]
        sending.answer = json.dumps({"ingest_id": job_id, "accepted_items": good, "rejected": rejected}).encode()
    fates = {"created": good, "updated": 0, "unchanged": 0, "stale": 0, "superseded": 0, "duplicate": 0}
    return {
        "id": job_id,
        "state": "finished",
        "family": "stream_events",
        "file": {"name": sending.name} if sending.name else None,
        "duplicate_of": None,
        "counts": {"received": good + len(bad), "accepted": good, "rejected": len(bad), **fates},
    }


@pytest.fixture
def case() -> Case:
    """A trial in which every promise was kept."""
    streamer = Streamer(3, first=1)
    sendings = [*(streamer.batch() for _ in range(5)), streamer.batch(Form.FILE, size=30)]
    jobs = [_answered(sending, clock) for clock, sending in enumerate(sendings)]
    ids = [job["id"] for job in jobs]
    expected = fates(dict(zip(ids, sendings, strict=True)), {job["id"]: job for job in jobs})
    counts = Counter(expected.values())
    stats = {
        "balanced": True,
        "total": {name: counts[name] for name in COUNTED} | {"received": len(expected)},
        "destinations": [{"destination": "disk", "delivered": counts["routed"], "waiting": 0, "dead": 0}],
    }
    files = Counter(place for place, fate in expected.items() if fate == "routed")
    return Case(journal=Journal(sendings=sendings), jobs=jobs, delivered=Delivered(files=files, stats=stats))


def test_a_trial_in_which_all_is_well_has_no_violation(case: Case) -> None:
    assert case.violations() == []
    assert all(case.stats["total"][name] > 3 for name in COUNTED)


def _lose(case: Case) -> None:
    case.delivered.files.popitem()


def _double(case: Case) -> None:
    case.delivered.files[next(iter(case.delivered.files))] += 1


def _deliver_what_was_not_routed(case: Case) -> None:
    case.delivered.files[f"{case.jobs[0]['id']}-99", 99] = 1


def _unbalance(case: Case) -> None:
    case.stats["balanced"] = False


def _count_twice(case: Case) -> None:
    case.stats["total"]["received"] += 12


def _sample_otherwise(case: Case) -> None:
    case.stats["total"]["sampled_out"] -= 1
    case.stats["total"]["routed"] += 1


def _wait(case: Case) -> None:
    case.stats["destinations"][0].update(waiting=1)


def _answer_more(case: Case) -> None:
    (sending, *_) = case.journal.sendings
    assert sending.answer is not None
    sending.answer = json.dumps(json.loads(sending.answer) | {"accepted_items": 13}).encode()


def _keep_a_file(case: Case) -> None:
    case.delivered.unmasked.append("blobs/submissions/evt_1")


def _keep_a_body(case: Case) -> None:
    case.delivered.bodies_kept = 1


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        *((_lose, "8"), (_double, "8"), (_deliver_what_was_not_routed, "8")),
        *((_unbalance, "3"), (_count_twice, "3"), (_sample_otherwise, "3"), (_wait, "3"), (_answer_more, "3")),
        *((_keep_a_file, "21"), (_keep_a_body, "21")),
    ],
)
def test_one_thing_wrong_is_a_violation_of_its_promise(case: Case, spoil: Callable[[Case], None], promise: str) -> None:
    spoil(case)
    assert any(line.startswith(f"{promise}: ") for line in case.violations()), case.violations()
