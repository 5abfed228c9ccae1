"""What a load of events leaves behind in the ledger, of events that were really accepted and worked."""

from datetime import timedelta

import polars as pl
import pytest

from ingest_platform.domain.feed import Ended
from ingest_platform.domain.submission import Load
from ingest_platform.feeds.stream_events.accounts import Span, read_accounts
from ingest_platform.feeds.stream_events.consign import StreamConsign, hour_of
from ingest_platform.pipeline.platform import Platform
from ingest_platform_tests.feeds.stream_events.delivering.consigned import (
    NOON,
    OTHER_STREAM,
    STREAM,
    accounts_of,
    consign,
    declare,
    event,
    figures,
    land,
    work,
)
from ingest_platform_tests.making import make_workspace

HOUR = timedelta(hours=1)


@pytest.fixture
def acme(platform: Platform) -> Platform:
    declare(platform, "archive", "siem")
    return platform


def _parcels(platform: Platform) -> list[tuple[object, ...]]:
    with platform.ledger.connection() as tx:
        return tx.execute(
            "SELECT stream_id, stream_version, destination, cardinality(seqs), events FROM stream_parcels"
            " ORDER BY stream_id, stream_version, destination"
        ).fetchall()


def test_a_load_leaves_a_parcel_for_each_version_and_destination(acme: Platform) -> None:
    land(acme, event(1, "archive"), event(2, "archive", "siem"), event(3, "siem", version=2))
    land(acme, event(4, "archive"))
    land(acme, event(5, "archive"), stream=OTHER_STREAM)
    work(acme)
    assert _parcels(acme) == [
        (OTHER_STREAM, 1, "archive", 1, 1),
        (STREAM, 1, "archive", 2, 3),
        (STREAM, 1, "siem", 1, 1),
        (STREAM, 2, "siem", 1, 1),
    ]
    assert figures(acme, "archive") == (4, 0, 4, 0)
    assert figures(acme, "siem") == (2, 0, 2, 0)


def test_everything_that_came_in_is_counted_by_what_became_of_it_and_by_rule(acme: Platform) -> None:
    consign(
        acme,
        event(1, "archive", rules="errors,slow"),
        event(2, "archive", rules="slow", faults="errors"),
        event(3, decision="sampled_out", rules="chatter"),
        event(4, decision="dropped", faults="errors,slow"),
        {"timestamp": "yesterday", "source": "api", "event": {}},
    )
    consign(acme, event(5, "archive", rules="otherwise"))
    accounts = accounts_of(acme)
    (counts,) = accounts.streams
    assert (counts.received, counts.rejected, counts.dropped, counts.sampled_out, counts.routed) == (6, 1, 1, 1, 3)
    assert counts.faults == 2
    assert {each.rule: (each.matched, each.kept, each.faults) for each in accounts.rules} == {
        "chatter": (1, 0, 0),
        "errors": (1, 1, 2),
        "otherwise": (1, 1, 0),
        "slow": (2, 2, 1),
    }


def test_submissions_without_a_good_event_are_counted_and_leave_no_parcel(acme: Platform) -> None:
    consign(acme, {"source": "api"})
    land(acme)
    with acme.ledger.transaction() as tx:
        tx.execute("UPDATE submissions SET body = '{', packed = false")
    work(acme)
    (counts,) = accounts_of(acme).streams
    assert (counts.received, counts.rejected) == (1, 1)
    assert _parcels(acme) == []


def _of_two_hours() -> tuple[pl.DataFrame, list[Ended]]:
    """Sum up two jobs with 2 and 3 events, accepted a second before an hour ended and when it had."""
    told = {"stream_version": 1, "decision": "routed", "rules": "", "faults": None}
    given = [(0, 2, '{"archive":1.0}', -1), (1, 3, '{"archive":20.0}', 0)]
    summaries = pl.DataFrame(
        [
            {**told, "submission": number, "destinations": to, "events": events, "bytes": 10 * events}
            for number, events, to, _ in given
        ],
        schema_overrides={"submission": pl.UInt32, "faults": pl.String},
    )
    ended = [
        Ended(
            submission=number,
            job_id=f"evt_{number}",
            workspace="acme",
            target=STREAM,
            accepted_seq=number,
            accepted_at=NOON + HOUR + timedelta(seconds=after),
            received=events,
            accepted=events,
            rejected=0,
        )
        for number, events, _, after in given
    ]
    return summaries, ended


def test_hours_are_those_of_acceptance_and_each_balances_by_itself(platform: Platform) -> None:
    make_workspace(platform.ledger)
    summaries, ended = _of_two_hours()
    with platform.ledger.transaction() as tx:
        for _ in range(2):
            StreamConsign().write(tx, load=_Load(), summaries=summaries, ended=ended)  # type: ignore[arg-type]
        accounts = read_accounts(tx, by_hour=True)
        first_hour = read_accounts(tx, Span(workspace="acme", stream_id=STREAM, until=NOON + HOUR))
        others = read_accounts(tx, Span(workspace="other"))
    assert accounts.balanced
    assert [(each.hour, each.received) for each in accounts.streams] == [(NOON, 4), (NOON + HOUR, 6)]
    assert [(each.hour, each.waiting) for each in accounts.destinations] == [(NOON, 4), (NOON + HOUR, 6)]
    assert [each.routed for each in first_hour.streams] == [4]
    assert others.streams == others.destinations == others.rules == []
    assert hour_of(NOON + HOUR - timedelta(seconds=1)) == NOON


class _Load:
    """What is asked of a load."""

    id, target, workspace = "load_1", STREAM, "acme"


def test_a_summary_is_small_and_says_the_same_for_parts_of_a_frame() -> None:
    consign = StreamConsign()
    frame = pl.DataFrame(
        {
            "submission": pl.Series([0] * 1_000, dtype=pl.UInt32),
            "record_index": range(1_000),
            "stream_version": [1] * 1_000,
            "decision": ["routed"] * 900 + ["dropped"] * 100,
            "rules": ["a"] * 900 + [""] * 100,
            "destinations": ['{"x":1.0}'] * 900 + [None] * 100,
            "faults": pl.Series([None] * 1_000, dtype=pl.String),
            "document": ['{"ü":1}'] * 900 + [None] * 100,
        }
    )
    assert set(consign.columns) <= set(frame.columns)
    whole = consign.summarise(frame)
    assert whole.select("decision", "events", "bytes").rows() == [("routed", 900, 7_200), ("dropped", 100, 0)]
    parts = pl.concat([consign.summarise(frame[:450]), consign.summarise(frame[450:])])
    assert parts.schema == whole.schema
    assert parts["events"].sum() == 1_000


def test_a_load_is_what_the_kernel_says_it_is() -> None:
    assert {"id", "target", "workspace"} <= {name for name in dir(Load) if not name.startswith("_")}
