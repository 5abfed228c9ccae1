"""A frame of events goes through a pipeline in its order, and each event to what follows from it alone."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import Pipeline
from ingest_platform.feeds.stream_events.declaration.reading import read_pipeline
from ingest_platform.feeds.stream_events.processing import engine
from ingest_platform.feeds.stream_events.processing.engine import EVENTS_SCHEMA, PROBLEMS_SCHEMA, Processed, process
from ingest_platform.feeds.stream_events.processing.hiding import mask_key
from ingest_platform_tests.feeds.stream_events.processing.events import EVENTS, MASKS

JOB = "evt_01kqzcjrpyf27tge33jwvjhkff"
WHEN = datetime(2026, 5, 6, 10, 15, tzinfo=UTC)
REST = {"match": "first", "rules": [], "otherwise": ["lake"]}


def frame(*texts: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "submission": pl.Series([0] * len(texts), dtype=pl.UInt32),
            "record_index": pl.Series(range(len(texts)), dtype=pl.Int64),
            "timestamp": pl.Series([WHEN] * len(texts), dtype=pl.Datetime("us", "UTC")),
            "document": pl.Series(texts, dtype=pl.String),
        }
    )


def sent(event: object, **others: object) -> str:
    return json.dumps({"timestamp": "2026-05-06T10:15:00Z", "source": "web", "event": event, **others})


def worked(body: dict[str, object], *texts: str) -> Processed:
    return process(frame(*texts), read_pipeline({"name": "p", **body}), job_ids={0: JOB}, key=mask_key(bytes(32)))


def test_an_event_that_no_step_touches_is_stored_as_it_was_sent() -> None:
    text = '{ "source":"web", "timestamp":"2026-05-06T10:15:00Z",\t"event": {"n": 1.50, "m": "\\u00fc"} }'
    found = worked({"routes": REST}, text)
    assert found.events["document"].to_list() == [text]
    assert found.events.schema == EVENTS_SCHEMA
    assert found.problems.schema == PROBLEMS_SCHEMA


def test_steps_are_taken_in_their_order() -> None:
    body: dict[str, object] = {
        "parse": [{"field": "event.message", "as": "json"}],
        "enrich": [{"derive": {"event.slow": "event.ms > 500"}}, {"rename": {"event.mail": "event.user"}}],
        "mask": [{"pattern": "email", "how": "redact"}],
        "routes": {
            "match": "first",
            "rules": [
                {"name": "raw", "when": 'event.user contains "@"', "to": ["nowhere"]},
                {"name": "slow", "when": 'event.slow and event.user == "[redacted email]"', "to": ["lake"]},
            ],
            "otherwise": "drop",
        },
    }
    found = worked(body, sent({"message": '{"ms": 501, "mail": "a@b.example"}'}), sent({"message": "no"})).events
    assert found["rules"].to_list() == ["slow", ""]
    assert found["decision"].to_list() == ["routed", "dropped"]
    assert found["document"][1] is None
    event = json.loads(found["document"][0])["event"]
    assert (event["ms"], event["slow"], event["user"]) == (501, True, "[redacted email]")


def test_the_source_is_the_one_behind_the_masks() -> None:
    body: dict[str, object] = {"mask": [{"pattern": "email", "how": "redact"}], "routes": REST}
    texts = [sent({}, source="a@b.example"), sent({}, source=r"x"), sent({}, source='"c@d.example"')]
    found = worked(body, *texts).events
    assert found["source"].to_list() == ["[redacted email]", "x", '"[redacted email]"']
    gone = worked({"mask": [{"field": "source", "how": "drop"}], "routes": REST}, *texts).events
    assert gone["source"].to_list() == [None, None, None]


def test_an_event_that_can_not_be_parsed_is_rejected_or_kept_as_declared() -> None:
    steps = [{"field": "event.m", "as": "json", "on_error": how} for how in ("keep", "reject")]
    texts = [sent({"m": "{"}), sent({"m": "{}"}), sent({"m": "secret ["})]
    kept, rejected = (worked({"parse": [step], "routes": REST}, *texts) for step in steps)
    assert (kept.events.height, kept.problems.height) == (3, 0)
    assert rejected.events["record_index"].to_list() == [1]
    assert rejected.problems.select("record_index", "code", "field").rows() == [
        (0, "unparsable", "event.m"),
        (2, "unparsable", "event.m"),
    ]
    assert not any("secret" in message for message in rejected.problems["message"])


def test_a_stream_that_takes_anything_brings_it_into_the_form_of_an_event() -> None:
    flat = '{"timestamp":"2026-05-06T10:15:00Z","service":"api","level":"ERROR"}'
    none = '{"timestamp":"2026-05-06T10:15:00Z","level":"ERROR"}'
    found = worked({"envelope": "auto", "routes": REST}, none, flat, sent({"x": 1}))
    assert found.events["source"].to_list() == ["api", "web"]
    assert json.loads(found.events["document"][0])["event"] == {"level": "ERROR"}
    assert found.problems.select("record_index", "code", "field").rows() == [(0, "missing_field", "source")]


def test_rules_see_what_is_behind_the_masks_wherever_it_changed() -> None:
    body: dict[str, object] = {
        "mask": [
            {"field": "event.card", "how": "partial", "keep_last": 4},
            {"pattern": "ipv4", "how": "redact"},
            {"field": "event.gone", "how": "drop"},
        ],
        "routes": {
            "match": "all",
            "rules": [
                {"name": "card", "when": 'event.card ends_with "***1111"', "to": ["lake"]},
                {"name": "ip", "when": 'event.m == "from [redacted ipv4]"', "to": ["lake"]},
                {"name": "gone", "when": "exists(event.gone)", "to": ["lake"]},
                {"name": "key", "when": 'exists(event."[redacted ipv4]")', "to": ["lake"]},
            ],
            "otherwise": "drop",
        },
    }
    texts = [
        sent({"card": "4111111111111111", "gone": 1}),
        sent({"m": "from 10.0.0.1"}),
        sent({"10.0.0.1": 1}),
        sent({"x": 1}),
    ]
    assert worked(body, *texts).events["rules"].to_list() == ["card", "ip", "key", ""]


@settings(max_examples=30, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=6), MASKS, st.integers(1, 7))
def test_it_does_not_matter_what_stands_beside_an_event(
    events: list[dict[str, object]], masks: tuple[object, ...], at_once: int
) -> None:
    rules = [
        {"name": "a", "when": 'event.a contains "redacted" or event.b > 5', "sample": 0.5, "to": ["lake"]},
        {"name": "b", "when": "exists(event.card)", "to": ["siem"]},
    ]
    read = read_pipeline({"name": "p", "routes": {"match": "all", "rules": rules, "otherwise": ["rest"]}})
    pipeline = Pipeline(name="p", envelope=read.envelope, masks=masks, routes=read.routes)  # type: ignore[arg-type]
    whole = frame(*map(json.dumps, events))
    key = mask_key(bytes(32))
    together = process(whole, pipeline, job_ids={0: JOB}, key=key).events
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "SLICE_EVENTS", at_once)
        patch.setattr(engine, "PARALLEL_EVENTS_MIN", 3)
        apart = process(whole, pipeline, job_ids={0: JOB}, key=key).events
    assert together.drop("document").equals(apart.drop("document"))
    assert [text and json.loads(text) for text in together["document"]] == [
        text and json.loads(text) for text in apart["document"]
    ]


def test_no_events_make_an_empty_frame_of_the_same_columns() -> None:
    found = worked({"mask": [{"pattern": "card", "how": "hash"}], "routes": REST})
    assert (found.events.schema, found.events.height) == (EVENTS_SCHEMA, 0)
