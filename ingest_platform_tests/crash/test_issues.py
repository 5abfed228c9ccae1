"""What is checked of issues: a trial in which all is well, and what is said when one thing is not."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ingest_platform_tests.crash.checking import violations
from ingest_platform_tests.crash.issues import Folded, Report, Reporter, expected_issues, ids_told
from ingest_platform_tests.crash.journal import Afterwards, Form, Journal, Sending


@dataclass
class Case:
    """A fabricated trial: what the platform is made to say of its issues."""

    journal: Journal
    jobs: list[dict[str, Any]]
    looks: list[dict[str, dict[str, Any]]]
    issues: list[dict[str, Any]]
    patterns: list[dict[str, Any]]
    kept_records: tuple[int, int]
    repeated_issues: int = 0

    def violations(self) -> list[str]:
        after = Afterwards(
            jobs=self.jobs,
            looks=self.looks,
            issues=self.issues,
            patterns=self.patterns,
            kept_records=self.kept_records,
            repeated_issues=self.repeated_issues,
        )
        return violations(self.journal, after)


def _answered(sending: Sending, clock: int) -> dict[str, Any]:
    """Answer a batch as the platform should; its job."""
    good, bad = len(sending.good), sending.bad
    sending.first_sent, sending.acked_at = clock, clock + 0.5
    job_id = f"ing_job_{sending.number}"
    if sending.form is not Form.FILE:
        reports = [item for item in sending.good if isinstance(item, Report)]
        reply = {
            "accepted": good,
            "rejected": [{"index": index, "reason_code": code} for index, code in bad.items()],
            "job_id": job_id,
            "issue_ids": [f"iss_{'_'.join(report.key)}" for report in reports],
        }
        sending.answer = json.dumps(reply).encode()
    fates = {"created": good, "updated": 0, "unchanged": 0, "stale": 0, "superseded": 0, "duplicate": 0}
    return {
        "id": job_id,
        "state": "finished",
        "family": "issues",
        "file": {"name": sending.name} if sending.name else None,
        "duplicate_of": None,
        "counts": {"received": good + len(bad), "accepted": good, "rejected": len(bad), **fates},
    }


def _look(sending: Sending) -> dict[str, Any]:
    good, bad = len(sending.good), len(sending.bad)
    return {"result": {"accepted": good, "rejected_count": bad, "total": good + bad}}


@pytest.fixture
def case() -> Case:
    """A trial in which every promise was kept."""
    reporter = Reporter(3)
    sendings = [*(reporter.batch() for _ in range(5)), reporter.batch(Form.FILE)]
    jobs = [_answered(sending, clock) for clock, sending in enumerate(sendings)]
    senders = dict(zip([job["id"] for job in jobs], sendings, strict=True))
    folded = expected_issues(senders, {job["id"]: job for job in jobs})
    issues = [
        {
            "id": f"iss_{'_'.join(key)}",
            "external_id": key[1],
            "pattern_id": f"pat_{place % 3}",
            "pending": False,
            "occurrences": each.occurrences,
            **each.shown,
        }
        for place, (key, each) in enumerate(folded.items())
    ]
    counts = Counter(issue["pattern_id"] for issue in issues)
    accepted = sum(len(sending.good) for sending in sendings)
    return Case(
        journal=Journal(sendings=sendings),
        jobs=jobs,
        looks=[{job_id: _look(sending) for job_id, sending in senders.items()} for _ in range(2)],
        issues=issues,
        patterns=[{"id": pattern_id, "issue_count": count} for pattern_id, count in counts.items()],
        kept_records=(accepted, accepted),
    )


def test_a_trial_in_which_all_is_well_has_no_violation(case: Case) -> None:
    assert case.violations() == []
    assert len(ids_told(case.journal.sendings)) == len(case.issues)


def _lose(case: Case) -> None:
    case.issues.pop()


def _double(case: Case) -> None:
    case.issues.append(case.issues[0])


def _double_in_the_lake(case: Case) -> None:
    case.repeated_issues = 1


def _miscount(case: Case) -> None:
    case.issues[0]["occurrences"] += 1


def _keep_an_old_title(case: Case) -> None:
    case.issues[0]["title"] = "Something else"


def _keep_a_record_twice(case: Case) -> None:
    accepted, _ = case.kept_records
    case.kept_records = (accepted + 1, accepted)


def _leave_without_a_pattern(case: Case) -> None:
    case.issues[0]["pattern_id"] = None


def _count_in_two_patterns(case: Case) -> None:
    case.patterns[0]["issue_count"] += 1


def _call_it_otherwise(case: Case) -> None:
    case.issues[0]["id"] = "iss_other"


def _leave_pending(case: Case) -> None:
    case.issues[0]["pending"] = True


def _reject_a_good_one(case: Case) -> None:
    (sending, *_) = case.journal.sendings
    assert sending.answer is not None
    reply = json.loads(sending.answer)
    reply["rejected"] = [{"index": 0, "reason_code": "too_long"}]
    sending.answer = json.dumps(reply).encode()


def _end_with_other_counts(case: Case) -> None:
    case.looks[1]["ing_job_2"]["result"]["total"] += 1


def _hide(case: Case) -> None:
    case.journal.unread.add("iss_1")


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (_lose, "8"),
        (_double, "8"),
        (_double_in_the_lake, "8"),
        (_miscount, "8"),
        (_keep_an_old_title, "8"),
        (_keep_a_record_twice, "8"),
        (_leave_without_a_pattern, "8"),
        (_count_in_two_patterns, "8"),
        (_call_it_otherwise, "8"),
        (_leave_pending, "8"),
        (_reject_a_good_one, "3"),
        (_end_with_other_counts, "3"),
        (_hide, "1"),
    ],
)
def test_one_thing_wrong_is_a_violation_of_its_promise(case: Case, spoil: Callable[[Case], None], promise: str) -> None:
    spoil(case)
    assert any(line.startswith(f"{promise}: ") for line in case.violations()), case.violations()


def test_a_record_is_laid_over_what_was_said_before_unless_something_newer_is_known() -> None:
    folded = Folded()
    for said in (
        {"title": "one", "team": "core", "source_updated_at": "2026-05-06T10:30:00.000Z"},
        {"title": "older", "severity": "p1", "source_updated_at": "2026-05-06T10:20:00.000Z"},
        {"title": "of no time"},
    ):
        folded.take(Report(source="jira", external_id="A-1", said=said))
    assert folded.occurrences == 2
    assert (folded.shown["title"], folded.shown["team"], folded.shown["severity"]) == ("of no time", "core", "p3")
