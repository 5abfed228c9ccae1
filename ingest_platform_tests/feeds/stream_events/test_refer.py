"""Events go through the version of their stream that stood when they were accepted, also in the sandbox's process."""

import json
import pickle
from collections.abc import Sequence

import polars as pl

from ingest_platform.feeds.stream_events.load import TABLE
from ingest_platform.feeds.stream_events.refer import refer
from ingest_platform.pipeline.references import KNOWN_SCHEMA, ORIGINS_SCHEMA

Row = dict[str, object]
JOBS = ("evt_01kqzcjrpyf27tge33jwvjhkff", "evt_01kqzcjrpyf27tge33jwvjhkfg", "evt_01kqzcjrpyf27tge33jwvjhkfh")
DOCUMENT = '{"timestamp":"2026-05-06T10:15:00Z","source":"web","event":{"to":"a@b.example"}}'


def frame(*submissions: int, document: str = DOCUMENT) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "submission": pl.Series(submissions, dtype=pl.UInt32),
            "record_index": pl.Series(range(len(submissions)), dtype=pl.Int64),
            "timestamp": pl.Series([0] * len(submissions), dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "source": ["web"] * len(submissions),
            "event": ["{}"] * len(submissions),
            "metadata": pl.Series([None] * len(submissions), dtype=pl.String),
            "document": pl.Series([document] * len(submissions), dtype=pl.String),
        }
    )


def origins(*revisions: int, secrets: Sequence[bytes | None] = (bytes(32),) * 3, **others: object) -> pl.DataFrame:
    rows = [
        {
            "submission": place,
            "job_id": JOBS[place],
            "workspace": "acme",
            "target": "payments",
            "catalog_revision": revision,
            "sites": None,
            "secret": secrets[place],
            **others,
        }
        for place, revision in enumerate(revisions)
    ]
    return pl.DataFrame(rows, schema=ORIGINS_SCHEMA)


def version(number: int, *, revision: int, to: str = "lake", **others: object) -> Row:
    mask = [{"pattern": "email", "how": "hash"}]
    body = {"name": "payments", "mask": mask, "routes": {"otherwise": [to]}}
    row: Row = {"workspace": "acme", "kind": "streams", "id": "payments", "version": number, "revision": revision}
    return {**row, "retired": False, "body": json.dumps(body), **others}


def known(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=KNOWN_SCHEMA)


def test_a_change_takes_effect_at_one_point_of_the_sequence() -> None:
    history = known(version(1, revision=3, to="old"), version(2, revision=7, to="new"))
    events, problems = refer(frame(0, 1, 2, 1), origins=origins(3, 6, 7), known=history)
    assert events["stream_version"].to_list() == [1, 1, 1, 2]
    assert events["destinations"].to_list() == ['{"old":1}'] * 3 + ['{"new":1}']
    assert events["submission"].to_list() == [0, 1, 1, 2]
    assert problems.is_empty()


def test_the_frame_has_the_columns_of_the_table() -> None:
    for height in (0, 2):
        events, _ = refer(frame(*[0] * height), origins=origins(5), known=known(version(1, revision=3)))
        assert set(events.columns) == {"submission", "record_index", *(column.name for column in TABLE.columns)}
        assert events.height == height
        assert (events.schema["stream_version"], events.schema["document"]) == (pl.Int32, pl.String)


def test_a_stream_that_was_retired_meanwhile_works_off_what_it_was_sent() -> None:
    history = known(version(1, revision=3), version(2, revision=4, retired=True, body="{}"))
    events, _ = refer(frame(0), origins=origins(5), known=history)
    assert events["stream_version"].to_list() == [1]


def test_events_of_a_stream_that_never_stood_are_rejected() -> None:
    others = [version(1, revision=9), version(1, revision=1, workspace="umbrella"), version(1, revision=1, id="x")]
    events, problems = refer(frame(0, 0), origins=origins(5), known=known(*others))
    assert events.is_empty()
    assert problems.select("submission", "record_index", "code").rows() == [(0, 0, "not_found"), (0, 1, "not_found")]


def test_workspaces_mask_by_keys_of_their_own() -> None:
    history = known(version(1, revision=1))
    one, other = (
        refer(frame(0), origins=origins(1, secrets=[secret]), known=history)[0]["document"][0]
        for secret in (bytes(32), b"x" * 32)
    )
    assert one != other
    assert "a@b" not in one + other
    assert one == refer(frame(0), origins=origins(1), known=history)[0]["document"][0]


def test_it_goes_to_the_sandbox_and_back() -> None:
    assert pickle.loads(pickle.dumps(refer)) is refer
