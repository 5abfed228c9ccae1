"""Issues in a trial, as plain values: what is said of them, and what must be stored when all of it is folded.

Nothing is sent here (`clients.py`). The fold is written anew, record by record, so that the platform's is not believed.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ingest_platform_tests.crash.journal import Afterwards, Family, Form, Sending, Shown

# Few issues, so that nearly every batch speaks of what another one speaks of, most of them several times.
SOURCES = ("jira", " Jira", "Pager of ours")
NUMBERS = 6
WORDINGS = (
    "Disk of node {n} is full",
    "Checkout times out after {n} s",
    "Mail to {n} customers is late",
    "Login of tenant {n} fails with an error nobody knows",
)
FIELDS = ("title", "team", "severity", "source_updated_at")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a record says of an issue; `code` says why it must be rejected, None that it must not."""

    source: str
    external_id: str
    said: Mapping[str, str]
    code: str | None = None

    @property
    def key(self) -> Key:
        """Which issue it is about."""
        return self.source.strip().lower(), self.external_id

    def record(self) -> dict[str, object]:
        """Write it as a client does."""
        return {"source": self.source, "external_id": self.external_id, **self.said}


@dataclass(slots=True)
class Folded:
    """An issue as all that was said of it makes it; `ids` are the ids that clients were told for it."""

    shown: dict[str, str | None] = field(default_factory=dict[str, str | None])
    occurrences: int = 0
    ids: set[str] = field(default_factory=set[str])

    def take(self, report: Report) -> None:
        """Fold a record in, unless something newer is known."""
        newer, known = report.said.get("source_updated_at"), self.shown.get("source_updated_at")
        # All are of one zone and length, so that the texts sort as the instants do.
        if newer is not None and known is not None and newer < known:
            return
        self.shown = {**dict.fromkeys(FIELDS), "severity": "p3", **self.shown, **report.said}
        self.shown["source_raw"] = report.source
        self.occurrences += 1


class Reporter:
    """Makes batches of issues of one trial from its seed; `first` is the number of the first."""

    def __init__(self, seed: int, *, first: int = 1) -> None:
        self._random = random.Random(seed)
        self._next = first

    def batch(self, form: Form = Form.JSON, *, size: int = 12) -> Sending:
        """Make records of which several are about one issue, some of them bad."""
        number, self._next = self._next, self._next + 1
        reports = [self._report() for _ in range(size)]
        for index in self._random.sample(range(size), k=self._random.choice((0, 0, 1, 2))):
            reports[index] = self._spoilt(reports[index])
        records = [report.record() for report in reports]
        if form is Form.FILE:
            content = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        else:
            content = json.dumps({"records": records}).encode()
        name = f"issues-{number}.ndjson" if form is Form.FILE else ""
        return Sending(number=number, form=form, items=tuple(reports), content=content, name=name, family=Family.ISSUES)

    def _report(self) -> Report:
        chance = self._random
        said = {"title": chance.choice(WORDINGS).format(n=chance.randrange(100))}
        if chance.random() < 0.5:
            said["team"] = chance.choice(("core", "web", "night shift"))
        if chance.random() < 0.5:
            said["severity"] = chance.choice(("p1", "p2", "p4"))
        if chance.random() < 0.4:
            said["source_updated_at"] = f"2026-05-06T10:{chance.randrange(60):02}:00.000Z"
        return Report(source=chance.choice(SOURCES), external_id=f"A-{chance.randrange(NUMBERS)}", said=said)

    def _spoilt(self, report: Report) -> Report:
        without_title = {name: value for name, value in report.said.items() if name != "title"}
        source, external_id = report.source, report.external_id
        return self._random.choice(
            (
                Report(source=source, external_id=external_id, said=without_title, code="missing_field"),
                Report(
                    source=source,
                    external_id=external_id,
                    said={**report.said, "severity": "p9"},
                    code="invalid_choice",
                ),
            )
        )


def expected_issues(senders: Mapping[str, Sending], jobs: Mapping[str, Shown]) -> dict[Key, Folded]:
    """Fold all that was sent, record by record, in order of acceptance."""
    found: dict[Key, Folded] = {}
    for job_id, sending in _stored(senders, jobs).items():
        reports = cast("list[Report]", sending.good)
        told = json.loads(sending.answer)["issue_ids"] if sending.answer else [None] * len(reports)
        for report, issue_id in zip(reports, told, strict=len(told) == len(reports)):
            folded = found.setdefault(report.key, Folded())
            folded.take(report)
            folded.ids |= {issue_id} - {None}
        assert jobs[job_id]["duplicate_of"] is None
    return found


def _stored(senders: Mapping[str, Sending], jobs: Mapping[str, Shown]) -> dict[str, Sending]:
    return {
        job_id: sending
        for job_id, sending in senders.items()
        if sending.family is Family.ISSUES
        and jobs[job_id]["state"] == "finished"
        and jobs[job_id]["duplicate_of"] is None
    }


def wrong_issues(senders: Mapping[str, Sending], jobs: Mapping[str, Shown], after: Afterwards) -> Iterator[str]:
    """List what is wrong with the issues that are there."""
    expected = expected_issues(senders, jobs)
    stored = {(_key_of(issue)): issue for issue in after.issues}
    if after.repeated_issues or len(stored) != len(after.issues):
        yield f"8: {after.repeated_issues} issues have two rows; {len(after.issues)} are listed, of {len(stored)} keys"
    accepted = sum(len(sending.good) for sending in _stored(senders, jobs).values())
    if after.kept_records != (accepted, accepted):
        yield f"8: {accepted} records were accepted; kept (and of different places) are {after.kept_records}"
    lost, foreign = expected.keys() - stored.keys(), stored.keys() - expected.keys()
    if lost or foreign:
        yield f"8: {len(lost)} issues are lost, {len(foreign)} were never sent: {sorted(lost | foreign)[:3]}"
    for key in sorted(expected.keys() & stored.keys()):
        yield from _wrong_issue(expected[key], stored[key])
    yield from _wrong_patterns(after)


def _key_of(issue: Shown) -> Key:
    return str(issue["source_raw"]).strip().lower(), str(issue["external_id"])


def _wrong_issue(expected: Folded, issue: Shown) -> Iterator[str]:
    if issue["occurrences"] != expected.occurrences:
        yield f"8: {issue['id']} was seen {expected.occurrences} times, and says {issue['occurrences']}"
    differing = {name: (issue[name], value) for name, value in expected.shown.items() if issue[name] != value}
    if differing:
        yield f"8: {issue['id']} says something else than was said of it last: {differing}"
    if issue["pending"]:
        yield f"8: {issue['id']} is still pending"
    if expected.ids - {issue["id"]}:
        yield f"8: {issue['id']} was called {expected.ids} in replies"


def _wrong_patterns(after: Afterwards) -> Iterator[str]:
    """Every issue belongs to one pattern, and every pattern counts its own."""
    without = [str(issue["id"]) for issue in after.issues if issue["pattern_id"] is None]
    if without:
        yield f"8: {len(without)} issues have no pattern, such as {without[0]}"
    counts = Counter(str(issue["pattern_id"]) for issue in after.issues if issue["pattern_id"] is not None)
    shown = {str(pattern["id"]): pattern["issue_count"] for pattern in after.patterns}
    if shown != counts:
        yield f"8: patterns count {shown}, their issues are {dict(counts)}"


def ids_told(sendings: Sequence[Sending]) -> list[str]:
    """List the ids of issues that clients were told."""
    answers = [each.answer for each in sendings if each.family is Family.ISSUES and each.answer is not None]
    return sorted({issue_id for answer in answers for issue_id in json.loads(answer)["issue_ids"]})
