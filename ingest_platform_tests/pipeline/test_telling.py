"""What a load did to what its records are about is announced by outcome, to those who asked."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ingest_platform.domain.feed import Announced
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.submission import Load, Submission
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline import telling
from ingest_platform.pipeline.given import Given, Withdrawn
from ingest_platform.pipeline.load import LoadedJob
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.telling import EVENTS_MAX, IDS_MAX, Telling
from ingest_platform.storage import webhooks
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import accept, claim, make_workspace, new_job
from ingest_platform_tests.pipeline.working import POINT, POINT_SOUTH, declare, reading, submit, work

THINGS = replace(
    FEED,
    announced=Announced(
        id_column="thing_id",
        ids_name="thing_ids",
        by_outcome={Outcome.CREATED: "thing.created", Outcome.UPDATED: "thing.updated"},
    ),
)


def _subscribe(ledger: Ledger, *events: str, workspace: str = "acme") -> None:
    with ledger.transaction() as tx:
        webhooks.create(
            tx, workspace=workspace, url="https://x.example/", events=events, description="", secret="s" * 16
        )


def _announced(ledger: Ledger, workspace: str = "acme") -> list[tuple[str, dict[str, object]]]:
    with ledger.connection() as tx:
        rows = tx.execute(
            "SELECT convert_from(body, 'UTF8') FROM webhook_events AS event"
            " JOIN webhook_deliveries ON event_id = event.id WHERE workspace = %s ORDER BY seq",
            (workspace,),
        ).fetchall()
    events = [json.loads(body) for (body,) in rows]
    return [(event["type"], event["data"]) for event in events]


@pytest.fixture
def load(ledger: Ledger) -> Load:
    """Claim a load of two jobs of acme and one of globex."""
    make_workspace(ledger)
    make_workspace(ledger, "globex")
    accept(ledger, new_job(), new_job(), new_job(workspace="globex"))
    claimed = claim(ledger)
    assert claimed is not None
    return claimed


def _loaded(submission: Submission, *fates: Outcome) -> LoadedJob:
    return LoadedJob(
        job_id=submission.job_id,
        record_index=np.arange(len(fates), dtype=np.int64),
        outcome=np.array(fates, dtype=np.uint8),
    )


def _frame(*rows: tuple[int, int, str]) -> pl.DataFrame:
    schema = {"submission": pl.UInt32(), "record_index": pl.Int64(), "thing_id": pl.String()}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def _tell(ledger: Ledger, load: Load, given: Sequence[Given], *loaded: LoadedJob) -> None:
    told = Telling(ledger, THINGS, load.submissions)
    passed = list(told.passing(given))
    assert all(out is each for out, each in zip(passed, given, strict=True))
    with ledger.transaction() as tx:
        told.announce(tx, {each.job_id: each for each in loaded})


@pytest.mark.parametrize("suffix", ["", ".parquet", ".arrow"])
def test_records_are_announced_by_what_became_of_them(ledger: Ledger, load: Load, tmp_path: Path, suffix: str) -> None:
    _subscribe(ledger, "thing.created", "thing.updated")
    frame = _frame((0, 0, "a"), (0, 1, "b"), (0, 2, "a"), (1, 0, "b"), (2, 0, "c"))
    path = tmp_path / f"frame{suffix}"
    match suffix:
        case ".parquet":
            frame.write_parquet(path)
        case ".arrow":
            frame.write_ipc(path)
        case _:
            pass
    first, second, third = load.submissions
    _tell(
        ledger,
        load,
        [path if suffix else frame],
        _loaded(first, Outcome.CREATED, Outcome.CREATED, Outcome.UPDATED),
        _loaded(second, Outcome.UNCHANGED),
        _loaded(third, Outcome.CREATED),
    )
    assert _announced(ledger) == [
        ("thing.created", {"thing_ids": ["a", "b"], "more": False}),
        ("thing.updated", {"thing_ids": ["a"], "more": False}),
    ]
    assert not _announced(ledger, "globex")


def test_where_nobody_asked_nothing_is_noted(ledger: Ledger, load: Load) -> None:
    _subscribe(ledger, "job.finished")
    told = Telling(ledger, THINGS, load.submissions)
    # It would have to have the column if anybody looked.
    assert len(list(told.passing([pl.DataFrame({"x": [1]})]))) == 1
    assert list(Telling(ledger, FEED, load.submissions).passing([Withdrawn(0)])) == [Withdrawn(0)]
    assert not _announced(ledger)


def test_what_is_withdrawn_is_not_told(ledger: Ledger, load: Load) -> None:
    _subscribe(ledger, "thing.created")
    given = [_frame((0, 0, "a"), (1, 0, "b")), Withdrawn(0), _frame((0, 0, "c"))]
    first, second, _ = load.submissions
    _tell(ledger, load, given, _loaded(first, Outcome.CREATED), _loaded(second, Outcome.CREATED))
    assert _announced(ledger) == [("thing.created", {"thing_ids": ["c", "b"], "more": False})]


@pytest.mark.parametrize(
    ("records", "events", "more"),
    [(IDS_MAX + 1, 2, False), (IDS_MAX * EVENTS_MAX, EVENTS_MAX, False), (IDS_MAX * EVENTS_MAX + 1, EVENTS_MAX, True)],
)
def test_a_large_load_is_announced_in_so_many_events_and_says_that_there_is_more(
    ledger: Ledger, load: Load, *, records: int, events: int, more: bool
) -> None:
    _subscribe(ledger, "thing.created")
    frame = _frame(*((0, number, f"t{number}") for number in range(records)))
    _tell(ledger, load, [frame], _loaded(load.submissions[0], *[Outcome.CREATED] * records))
    found = [data for _, data in _announced(ledger)]
    assert len(found) == events
    assert [data["more"] for data in found] == [False] * (events - 1) + [more]
    told = [thing for data in found for thing in data["thing_ids"]]  # type: ignore[attr-defined]
    assert told == [f"t{number}" for number in range(min(records, IDS_MAX * EVENTS_MAX))]


def test_only_so_many_records_are_noted_and_that_there_are_more_is_said(
    ledger: Ledger, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "NOTED_MAX", 3)
    _subscribe(ledger, "thing.created")
    given = [_frame((0, 0, "a"), (0, 1, "b")), _frame((0, 2, "c"), (0, 3, "d"))]
    _tell(ledger, load, given, _loaded(load.submissions[0], *[Outcome.CREATED] * 4))
    assert _announced(ledger) == [("thing.created", {"thing_ids": ["a", "b", "c"], "more": True})]


def test_a_load_tells_of_its_records_when_it_is_settled(platform: Platform) -> None:
    by_outcome = {Outcome.CREATED: "reading.created", Outcome.UPDATED: "reading.updated"}
    announced = Announced(id_column="machine_data_point_config_id", ids_name="points", by_outcome=by_outcome)
    feed = replace(FEED, announced=announced)
    declare(platform)
    _subscribe(platform.ledger, *announced.types, "job.finished")
    submit(platform, reading(1.0), reading(1.0, point=POINT_SOUTH))
    work(platform, feed)
    submit(platform, reading(2.0), reading(1.0, point=POINT_SOUTH), reading("no"))
    work(platform, feed)
    told = [(type_, data.get("points")) for type_, data in _announced(platform.ledger)]
    assert told == [
        ("job.finished", None),
        ("reading.created", [POINT, POINT_SOUTH]),
        ("job.finished", None),
        ("reading.updated", [POINT]),
    ]
