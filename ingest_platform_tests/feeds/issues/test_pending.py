"""An issue as it stands: what a load will make of records in the lake, made of records that wait."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.identity import identify
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.pending import Issue, Issues, fold
from ingest_platform.feeds.issues.stored import Row
from ingest_platform.pipeline import work
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.making import accept, body_of, claim, make_workspace, new_job, run_out

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


def _at(minute: int | None) -> datetime | None:
    return None if minute is None else NOON + timedelta(minutes=minute)


def _record(seq: int = 1, index: int = 0, **said: object) -> Row:
    return {
        **{column.name: None for column in TABLE.columns},
        "issue_id": "iss_1",
        "key_hash": 1,
        "source": "jira",
        "source_raw": "jira",
        "source_key": "jira",
        "external_id": "A-1",
        "title": "It fails",
        "workspace": "acme",
        "job_id": f"job_{seq}",
        "record_index": index,
        "accepted_seq": seq,
        "accepted_at": _at(seq),
        **said,
    }


def test_what_is_given_replaces_and_what_is_omitted_stays() -> None:
    row = fold(None, [_record(1, body="b", team="x"), _record(2, title="Worse", team="y"), _record(3, severity="p1")])
    assert (row["title"], row["body"], row["team"], row["severity"]) == ("It fails", "b", "y", "p1")
    assert row["occurrences"] == 3
    assert (row["first_seen_at"], row["created_at"]) == (_at(1), _at(1))
    assert (row["last_seen_at"], row["updated_at"]) == (_at(3), _at(3))
    assert (row["accepted_seq"], row["accepted_index"]) == (3, 0)


def test_an_issue_that_was_never_given_a_severity_has_the_default_one() -> None:
    assert fold(None, [_record()])["severity"] == "p3"
    assert fold(None, [_record(severity="p2"), _record(2)])["severity"] == "p2"


def test_a_stale_record_changes_nothing_at_all() -> None:
    row = fold(None, [_record(1, source_updated_at=_at(10))])
    assert fold(row, [_record(2, title="Older", body="b", source_updated_at=_at(9))]) == row


@pytest.mark.parametrize("minute", [10, 11, None])
def test_a_record_that_is_not_older_counts(minute: int | None) -> None:
    row = fold(None, [_record(1, source_updated_at=_at(10)), _record(2, title="New", source_updated_at=_at(minute))])
    assert (row["title"], row["occurrences"]) == ("New", 2)
    assert row["source_updated_at"] == _at(minute or 10)


records = st.lists(
    st.fixed_dictionaries(
        {"title": st.sampled_from("abc")},
        optional={
            "body": st.sampled_from("xyz"),
            "severity": st.sampled_from(["p1", "p4"]),
            "source_updated_at": st.integers(0, 3).map(_at),
        },
    ),
    min_size=1,
    max_size=8,
)


@given(said=records, cut=st.integers(0, 8))
def test_it_does_not_matter_how_much_is_stored_already(said: list[Row], cut: int) -> None:
    placed = [_record(1 + number // 2, number % 2, **each) for number, each in enumerate(said)]
    whole = fold(None, placed)
    stored = fold(None, placed[:cut]) if placed[:cut] else None
    assert (fold(stored, placed[cut:]) if placed[cut:] else stored) == whole


NUMBERS = range(8)
KEYS = {number: identify("acme", "jira", f"A-{number}") for number in NUMBERS}


def _accept(platform: Platform, *records: Mapping[str, object]) -> None:
    new = new_job(body_of(records, envelope_key=FEED.envelope_key), feed=FEED.name)
    subjects = [identify("acme", "jira", str(record["external_id"]))[1] for record in records]
    accept(platform.ledger, replace(new, subjects=subjects))


def _work(platform: Platform) -> None:
    report = work.work_until_idle(platform, FEED, day=None, run_id="run", linger_seconds=0)
    assert report.faults == []


def _issues(platform: Platform) -> list[Issue | None]:
    issues = Issues(platform, FEED)
    return [issues.find(workspace="acme", issue_id=issue_id) for issue_id, _ in KEYS.values()]


def _seen(issues: Sequence[Issue | None]) -> list[Row | None]:
    """Leave out what nobody is shown: of which record the row is, and a digest."""
    inner = {"job_id", "record_index", "accepted_at", "said"}
    return [each and {name: value for name, value in each.row.items() if name not in inner} for each in issues]


def _some_records(chance: random.Random) -> list[Mapping[str, object]]:
    """Make records of a few issues, with little in them that is not met again."""
    optional = {"body": "xyz", "severity": ["p1", "low"], "team": "st", "metadata": [{"a": 1}, {}]}
    records: list[Mapping[str, object]] = []
    for _ in range(chance.randint(1, 8)):
        record = {"source": "jira", "external_id": f"A-{chance.choice(NUMBERS)}", "title": chance.choice("abc")}
        said = {name: chance.choice(values) for name, values in optional.items() if chance.random() < 0.4}
        newer = {"source_updated_at": f"2026-05-06T10:00:0{chance.randint(0, 3)}Z"} if chance.random() < 0.5 else {}
        records.append({**record, **said, **newer})
    return records


def test_what_waits_is_shown_as_the_load_will_store_it_whatever_is_stored_before(platform: Platform) -> None:
    chance = random.Random(20260506)
    make_workspace(platform.ledger)
    assert _issues(platform) == [None] * len(NUMBERS)
    for _ in range(3):
        for _ in range(5):
            _accept(platform, *_some_records(chance))
        before = _issues(platform)
        assert any(issue is not None and issue.pending for issue in before)
        _work(platform)
        after = _issues(platform)
        assert not any(issue is not None and issue.pending for issue in after)
        assert _seen(before) == _seen(after)


def test_a_record_that_was_accepted_earlier_than_the_last_stored_one_is_shown_in_its_place(platform: Platform) -> None:
    chance = random.Random(6052026)
    make_workspace(platform.ledger)
    for _ in range(2):
        _accept(platform, *_some_records(chance))
        _work(platform)
        # Another worker is at the first ones for long, while the others are stored.
        for _ in range(3):
            _accept(platform, *_some_records(chance))
        held = claim(platform.ledger, feed=FEED.name)
        for _ in range(3):
            _accept(platform, *_some_records(chance))
        _work(platform)
        for _ in range(2):
            _accept(platform, *_some_records(chance))
        before = _issues(platform)
        run_out(platform.ledger, held)
        _work(platform)
        assert _seen(before) == _seen(_issues(platform))


def test_what_is_stored_while_its_job_has_not_ended_yet_counts_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workspace(platform.ledger)
    _accept(platform, {"source": "jira", "external_id": "A-1", "title": "a"})
    seen: list[Issue | None] = []
    settle = work.settle

    def look_and_settle(*args: object, **named: object) -> object:
        seen.append(_issues(platform)[1])
        return settle(*args, **named)

    monkeypatch.setattr(work, "settle", look_and_settle)
    _work(platform)
    (issue,) = seen
    assert issue is not None
    assert (issue.row["occurrences"], issue.pending) == (1, False)
