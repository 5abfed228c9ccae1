"""A stream is tried on sample events as it will run."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from ingest_platform.domain.errors import Unreadable
from ingest_platform.feeds.stream_events import trial
from ingest_platform.feeds.stream_events.kinds import STREAMS
from ingest_platform.feeds.stream_events.processing.sampling import draw_of
from ingest_platform.feeds.stream_events.trial import SAMPLES_MAX, try_stream

PAYMENTS: dict[str, Any] = yaml.safe_load("""
name: payments
parse:
  - {field: event.message, as: logfmt, on_error: keep}
  - {field: event.detail, as: json, on_error: reject}
enrich:
  - derive: {event.slow: 'event.latency_ms > 500'}
mask:
  - {field: event.card_number, how: partial, keep_last: 4}
  - {pattern: email, how: redact}
routes:
  match: all
  rules:
    - {name: errors, when: 'event.level == "ERROR"', to: [archive, siem]}
    - {name: chatter, when: 'event.latency_ms < 5', sample: 0.5, to: [archive]}
    - {name: big, when: 'event.size > 5', to: [archive]}
  otherwise: drop
""")


def sample(event: dict[str, object], **more: object) -> dict[str, object]:
    return {"timestamp": "2026-05-06T10:15:30.123Z", "source": "payments-api", "event": event, **more}


def tell(*events: object, body: dict[str, Any] = PAYMENTS) -> list[dict[str, Any]]:
    return [dict(each.told) for each in try_stream(body, json.dumps(events).encode())]


def test_an_event_is_shown_after_each_part_of_its_pipeline() -> None:
    event = {"level": "ERROR", "message": "user=a@example.com", "latency_ms": 512, "card_number": "4111111111111111"}
    (told,) = tell(sample(event))
    parsed = {**event, "user": "a@example.com"}
    enriched = {**parsed, "slow": True}
    assert told["parsed"]["event"] == parsed
    assert told["enriched"]["event"] == enriched
    assert told["masked"]["event"] == {
        **enriched,
        "message": "user=[redacted email]",
        "user": "[redacted email]",
        "card_number": "************1111",
    }
    assert (told["decision"], told["destinations"]) == ("routed", {"archive": 1, "siem": 1})
    assert [rule["name"] for rule in told["rules"]] == ["errors"]


def test_a_sample_is_drawn_by_the_events_id_and_weighs_what_it_stands_for() -> None:
    told = tell(*[sample({"latency_ms": 1})] * 20)
    draws = [draw_of(f"evt_{'0' * 26}-{index}", "chatter") for index in range(20)]
    assert [(each["decision"], each["rules"][0]["draw"]) for each in told] == [
        ("routed" if draw < 0.5 else "sampled_out", draw) for draw in draws
    ]
    assert {str(each["destinations"]) for each in told} == {"{'archive': 2}", "{}"}


def test_why_an_event_is_dropped_or_kept_as_it_is_is_told() -> None:
    (tried,) = try_stream(PAYMENTS, json.dumps(sample({"message": "plain", "size": "big"})).encode())
    assert list(tried.lines) == [
        "event 0: dropped",
        "  parse[0]: event.message could not be parsed as logfmt. It is kept as it is.",
        "  rule big is not met: a value has another type than it asks for",
        "  no rule is met: it is dropped",
    ]
    assert (tried.told["faults"], tried.outcomes) == (["big"], ["dropped"])


def test_why_an_event_is_rejected_is_told() -> None:
    told = tell({"timestamp": "2026-05-06T10:15:30Z"}, sample({"detail": "{"}), 7)
    assert [each["decision"] for each in told] == ["rejected"] * 3
    assert [[reason["code"] for reason in each["reasons"]] for each in told] == [
        ["missing_field", "missing_field"],
        ["unparsable"],
        ["not_an_object"],
    ]


def test_events_that_meet_no_rule_go_where_the_others_do_not() -> None:
    body = {"name": "all", "routes": {"otherwise": ["archive"]}}
    (tried,) = try_stream(body, json.dumps(sample({})).encode())
    assert list(tried.lines) == ["event 0: routed to archive (weight 1)", "  no rule is met: otherwise"]
    assert tried.outcomes == ["routed", "to archive"]


def test_flat_objects_are_tried_in_the_form_that_they_get() -> None:
    body = {"name": "all", "envelope": "auto", "enrich": [{"set": {"event.b": 2}}], "routes": {"otherwise": ["x"]}}
    good, bad = tell({"timestamp": "2026-05-06T10:15:30Z", "service": "api", "a": 1}, {"timestamp": "x"}, body=body)
    assert good["enriched"] == {"timestamp": "2026-05-06T10:15:30Z", "source": "api", "event": {"a": 1, "b": 2}}
    assert bad["decision"] == "rejected"


@pytest.mark.parametrize("samples", [b"", b" \n ", b"[]", b"[1", b"{}\n" * (SAMPLES_MAX + 1)])
def test_a_file_without_samples_is_told(samples: bytes) -> None:
    with pytest.raises(Unreadable):
        try_stream(PAYMENTS, samples)


@pytest.mark.parametrize(
    ("samples", "number"),
    [
        (b'{"a": 1}', 1),
        (b'\xef\xbb\xbf{\n"a": 1\n}', 1),
        (b'{"a": 1}\n\n{"a": 2}\r\n', 2),
        (b'[{"a": 1},\n {"a": 2}]', 2),
        (b"{\n}\n{\n}", 4),
    ],
)
def test_samples_are_one_event_or_an_array_or_lines(samples: bytes, number: int) -> None:
    assert len(try_stream(PAYMENTS, samples)) == number


def test_the_kind_tries_streams() -> None:
    assert STREAMS.trial is not None
    tried: Sequence[Any] = STREAMS.trial(PAYMENTS, b"{}")
    assert [each.outcomes for each in tried] == [[trial.REJECTED]]
