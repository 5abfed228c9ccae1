"""Whether the promises were kept in a trial: the clients' journal against what is there afterwards.

What must be true of issues is said in `issues.py`, of datasets in `datasets.py`, of streams in `streams.py`. Pure: it
gets values and returns violations in words, each beginning with the promise's number in `design.md`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import cast

from ingest_platform_tests.crash.datasets import wrong_reply, wrong_rows
from ingest_platform_tests.crash.issues import wrong_issues
from ingest_platform_tests.crash.journal import FACTOR, Afterwards, Family, Form, Item, Journal, Sending, Shown
from ingest_platform_tests.crash.streams import wrong_deliveries
from ingest_platform_tests.crash.streams import wrong_reply as wrong_stream_reply

ENDED = frozenset({"finished", "failed"})
# Families whose records replace nothing, and what is wrong with a reply of theirs.
_APPENDED = {Family.DATASETS: wrong_reply, Family.STREAMS: wrong_stream_reply}
FATES = ("created", "updated", "unchanged", "stale", "superseded", "duplicate")


def violations(journal: Journal, after: Afterwards) -> list[str]:
    """List what was promised and not kept."""
    jobs = {str(job["id"]): job for job in after.jobs}
    senders = sent_by(journal, after.jobs)
    return [
        *(f"7: {wrong}" for wrong in journal.wrong_answers),
        *_lost_or_doubled(journal, after.jobs, senders),
        *_not_ended_once(journal, after, jobs),
        *(line for job_id, sending in senders.items() for line in _wrong_tally(sending, jobs[job_id], after)),
        *_wrong_replays(journal, after),
        *_files_with_second_effect(senders, jobs),
        *_wrong_order(senders),
        *_wrong_points(senders, jobs, after),
        *wrong_issues(senders, jobs, after),
        *wrong_rows(senders, jobs, after),
        *wrong_deliveries(senders, jobs, after),
        *(f"1: the issue {issue_id} was acknowledged and could not be read" for issue_id in sorted(journal.unread)),
        *_halves_seen(journal, senders),
        *(f"5: the file {name} is not archived exactly once" for name in after.not_archived_once),
    ]


def sent_by(journal: Journal, jobs: Sequence[Shown]) -> dict[str, Sending]:
    """Find the submission of each job, in order of acceptance: by what its client was told, or by the file's name."""
    by_id = {sending.job_id: sending for sending in journal.sendings if sending.job_id is not None}
    by_name = {sending.name: sending for sending in journal.sendings if sending.form is Form.FILE}
    found: dict[str, Sending] = {}
    for job in jobs:
        job_id, file = str(job["id"]), cast("Shown | None", job["file"])
        sending = by_id.get(job_id) or (by_name.get(str(file["name"])) if file else None)
        if sending is not None:
            found[job_id] = sending
    return found


def _lost_or_doubled(journal: Journal, jobs: Sequence[Shown], senders: Mapping[str, Sending]) -> Iterator[str]:
    answered = Counter(sending.number for sending in senders.values())
    for sending in journal.sendings:
        count = answered[sending.number]
        if sending.acked_at is None:
            yield f"8: submission {sending.number} was never taken"
        elif count == 0:
            yield f"1: submission {sending.number} was acknowledged as {sending.job_id}, and there is no such job"
        elif count > 1:
            yield f"8: submission {sending.number} has {count} jobs"
    for job in jobs:
        if str(job["id"]) not in senders:
            yield f"8: nobody was told of job {job['id']}: a submission was taken twice"


def _not_ended_once(journal: Journal, after: Afterwards, jobs: Mapping[str, Shown]) -> Iterator[str]:
    for job_id, job in jobs.items():
        if job["state"] not in ENDED:
            yield f"2: job {job_id} is still {job['state']}"
        answers = [journal.first_ends.get(job_id), *(look.get(job_id) for look in after.looks)]
        ends = [answer for answer in answers if answer is not None]
        for earlier, later in pairwise(ends):
            changed = sorted(key for key in {*earlier, *later} if earlier.get(key) != later.get(key))
            if changed:
                yield f"2: job {job_id} had ended and changed: {', '.join(changed)}"


def _wrong_end(sending: Sending, job: Shown) -> str | None:
    """Say what is wrong with how a job ended, if anything is."""
    if sending.form is Form.GARBAGE:
        return None if job["state"] == "failed" else f"can't be read, and is {job['state']}"
    error = cast("Shown | None", job.get("error"))
    if sending.lost:
        told = job["state"] == "failed" and error is not None and error["code"] == "bytes_lost"
        return None if told else f"has lost its bytes, and is {job['state']}: {error}"
    return None if job["state"] == "finished" else f"is {job['state']}: {error}"


def _wrong_tally(sending: Sending, job: Shown, after: Afterwards) -> Iterator[str]:
    counts = cast("Mapping[str, int | None]", job["counts"])
    where = f"job {job['id']} (submission {sending.number})"
    if (wrong := _wrong_end(sending, job)) is not None:
        yield f"2: {where} {wrong}"
    if job["state"] != "finished":
        return
    if job["duplicate_of"] is not None:
        return
    good, bad = len(sending.good), sending.bad
    told = (counts["received"], counts["accepted"], counts["rejected"])
    if told != (good + len(bad), good, len(bad)):
        yield f"3: {where} tells {told}, sent were {good} good and {len(bad)} bad records"
    if sum(counts[fate] or 0 for fate in FATES) != good:
        yield f"3: {where}: the fates {dict(counts)} do not add up to {good}"
    appended = sending.family in _APPENDED
    if (sending.marked or appended) and counts["created"] != good:
        yield f"8: {where} created {counts['created']} of {good} records that nobody else sent"
    if appended:
        yield from (_APPENDED[sending.family])(sending, where=where)
        return
    if sending.family is Family.ISSUES:
        yield from _wrong_reply(sending, job, after, where=where)
        return
    shown = cast("Sequence[Shown]", after.looks[-1][str(job["id"])]["errors"] or ()) if after.looks else ()
    if after.looks and {error["index"]: error["code"] for error in shown} != bad:
        yield f"3: {where} was to reject {bad}, and shows {[(e['index'], e['code']) for e in shown]}"


def _wrong_reply(sending: Sending, job: Shown, after: Afterwards, *, where: str) -> Iterator[str]:
    """What a batch was answered is what became of it."""
    good, bad = len(sending.good), sending.bad
    if sending.answer is not None:
        reply = json.loads(sending.answer)
        told = {each["index"]: each["reason_code"] for each in reply["rejected"]}
        if (reply["accepted"], told) != (good, bad):
            yield f"3: {where} was answered {reply}, sent were {good} good records and bad ones {bad}"
    for look in after.looks:
        result = look[str(job["id"])]["result"]
        if result != {"accepted": good, "rejected_count": len(bad), "total": good + len(bad)}:
            yield f"3: {where} has the result {result}, sent were {good} good and {len(bad)} bad records"


def _wrong_replays(journal: Journal, after: Afterwards) -> Iterator[str]:
    sent = {sending.number: sending for sending in journal.sendings}
    for number, status, body in after.replays:
        if status != sent[number].family.accepted or body != sent[number].answer:
            yield f"4: submission {number} sent again was answered {status} {body!r} instead of {sent[number].answer!r}"


def _files_with_second_effect(senders: Mapping[str, Sending], jobs: Mapping[str, Shown]) -> Iterator[str]:
    by_content: dict[bytes, list[str]] = defaultdict(list)
    for job_id, sending in senders.items():
        if sending.form is Form.FILE:
            by_content[sending.content].append(job_id)
    for ids in by_content.values():
        firsts = [job_id for job_id in ids if jobs[job_id]["duplicate_of"] is None]
        if len(firsts) != 1 or any(jobs[job_id]["duplicate_of"] not in {None, firsts[0]} for job_id in ids):
            yield f"5: of the files {ids} of one content, {len(firsts)} had an effect"


def _wrong_order(senders: Mapping[str, Sending]) -> Iterator[str]:
    """What was acknowledged before something else was first sent must come before it."""
    in_order = [each for each in senders.values() if each.form is not Form.FILE]
    for place, later in enumerate(in_order):
        for earlier in in_order[:place]:
            if later.acked_at is not None and earlier.first_sent is not None and later.acked_at < earlier.first_sent:
                yield f"8: submission {later.number} was acknowledged before {earlier.number} was sent, and comes after"


def expected_points(
    senders: Mapping[str, Sending], jobs: Mapping[str, Shown]
) -> dict[tuple[str, str], tuple[float, str]]:
    """Work out what must be stored: (raw value, job) by data point and instant; the job accepted last wins."""
    points: dict[tuple[str, str], tuple[float, str]] = {}
    for job_id, sending in senders.items():
        if sending.family is not Family.READINGS:
            continue
        if jobs[job_id]["state"] == "finished" and jobs[job_id]["duplicate_of"] is None:
            for item in cast("list[Item]", sending.good):
                points[item.config, item.instant] = (float(cast("int", item.value)), job_id)
    return points


def _wrong_points(senders: Mapping[str, Sending], jobs: Mapping[str, Shown], after: Afterwards) -> Iterator[str]:
    if after.repeated_keys:
        yield f"8: {after.repeated_keys} data points have two values at one instant"
    expected = expected_points(senders, jobs)
    stored: dict[tuple[str, str], tuple[float, str]] = {}
    for point in after.points:
        place = (str(point["machine_data_point_config_id"]), str(point["timestamp"]))
        stored[place] = (cast("float", point["raw_value"]), str(point["job_id"]))
        if point["value"] != cast("float", point["raw_value"]) * FACTOR:
            yield f"8: the value at {place} is not its raw value times the factor: {point}"
    if len(stored) != len(after.points):
        yield f"8: {len(after.points)} points were read at {len(stored)} instants"
    lost, foreign = expected.keys() - stored.keys(), stored.keys() - expected.keys()
    if lost:
        yield f"8: {len(lost)} values are lost, such as {min(lost)} of {expected[min(lost)]}"
    if foreign:
        yield f"8: {len(foreign)} values were never sent, such as {min(foreign)}: {stored[min(foreign)]}"
    wrong = sorted(place for place in expected.keys() & stored.keys() if expected[place] != stored[place])
    if wrong:
        yield f"8: {len(wrong)} wrong values, such as {wrong[0]}: {stored[wrong[0]]} for {expected[wrong[0]]}"


def _halves_seen(journal: Journal, senders: Mapping[str, Sending]) -> Iterator[str]:
    for job_id, count in sorted(journal.sights):
        sending = senders.get(job_id)
        if sending is not None and sending.marked and count != len(sending.good):
            yield f"12: a reader saw {count} of the {len(sending.good)} records of job {job_id}"
