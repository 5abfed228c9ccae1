"""A rejected record is one line of JSON, whatever bytes were sent."""

import json

import pytest

from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.pipeline.rejected import rejected_line

PROBLEM = Problem(code="invalid_type", field="value", message='"ü" is no number')


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'{"a":\r\n1.50}', {"a": 1.5}),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"not json", "not json"),
        (b'{"a":1e999}', '{"a":1e999}'),
        # As of one whose bytes may not be kept.
        (b"", None),
        (b"[" * 2000, "[" * 2000),
        ("ü\n".encode(), "ü\n"),
    ],
)
def test_a_rejected_record_is_one_line_with_its_reasons(raw: bytes, shown: object) -> None:
    line = rejected_line(Rejection(submission=0, record_index=3, problems=(PROBLEM,), raw=raw))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "index": 3,
        "reasons": [{"code": "invalid_type", "field": "value", "message": '"ü" is no number'}],
        "record": shown,
    }


def test_a_message_that_is_no_text_in_utf_8_is_written_as_its_escape() -> None:
    problem = Problem(code="invalid_type", field=None, message="\ud800")
    line = rejected_line(Rejection(submission=0, record_index=0, problems=(problem,), raw=b"1"))
    assert json.loads(line)["reasons"][0]["message"] == "\ud800"
