"""Checking splits a frame; every record is accepted or rejected with all its reasons; a broken check is ours."""

import dataclasses
import json

import polars as pl
import pytest

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.domain.errors import Fault
from ingest_platform.feeds.machine_data.contract import CONTRACT
from ingest_platform.feeds.machine_data.references import refer
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.parse import parse_many
from ingest_platform_tests.pipeline.sent import (
    CONFIG_ID,
    GOOD,
    checked,
    config,
    faults,
    known,
    lines_of,
    origins,
    parsed,
    record,
    unreferred,
)

STRICT = Contract(
    name="strict",
    extra_allowed=True,
    fields=(
        Field(name="at", kind=Kind.TIMESTAMP),
        Field(name="title", kind=Kind.STRING, length_max=3, pattern="^[a-z]*$"),
        Field(name="due", kind=Kind.TIMESTAMP, required=False, nullable=True),
    ),
)


def test_accepted_records_are_typed_and_the_rest_is_rejected_with_its_bytes() -> None:
    (split,) = checked(lines_of(GOOD, record(timestamp="2026-02-30T00:00:00Z"), record(value=True)), CONTRACT)
    assert split.accepted.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert split.accepted["record_index"].to_list() == [0]
    assert faults(split.rejections) == {1: [("invalid_timestamp", "timestamp")], 2: [("invalid_type", "value")]}
    assert json.loads(split.rejections[0].raw)["timestamp"] == "2026-02-30T00:00:00Z"
    assert (split.received, split.counts) == (3, {0: 3})


def test_all_reasons_of_a_record_come_in_the_contracts_order() -> None:
    body = lines_of(
        {"due": "x", "title": "ABCD", "at": "y"}, {"title": "abc", "at": "2026-05-06T10:15:00Z", "due": None}
    )
    (split,) = checked(body, STRICT)
    assert faults(split.rejections) == {
        0: [
            ("invalid_timestamp", "at"),
            ("too_long", "title"),
            ("invalid_format", "title"),
            ("invalid_timestamp", "due"),
        ]
    }
    assert split.accepted["due"].to_list() == [None]


def test_references_are_looked_up_for_what_is_good_otherwise() -> None:
    body = lines_of(GOOD, record(machine_data_point_config_id="x"), record(machine_data_point_config_id="x", value="1"))
    (frame,) = parsed(body, CONTRACT)
    split = check(frame, CONTRACT, refer=refer, origins=origins(), known=known(config(factor=2.0)))
    assert faults(split.rejections) == {
        1: [("not_found", "machine_data_point_config_id")],
        2: [("invalid_type", "value")],
    }
    assert split.accepted.select("machine_data_point_config_id", "raw_value", "value").rows() == [
        (CONFIG_ID, 73.9, 147.8)
    ]


def test_a_frame_without_records_has_the_columns_all_the_same() -> None:
    empty, _ = parse_many({}, CONTRACT, envelope_key="items")
    split = check(empty, CONTRACT, refer=refer, origins=origins(), known=known())
    (full,) = parsed(lines_of(GOOD), CONTRACT)
    other = check(full, CONTRACT, refer=refer, origins=origins(), known=known(config()))
    assert split.accepted.schema == other.accepted.schema
    assert split.received == 0


def test_a_check_that_raises_is_a_fault_and_rejects_nobody() -> None:
    # A look-around is read by Python, but not by Rust's regular expressions.
    broken = dataclasses.replace(STRICT, fields=(Field(name="title", kind=Kind.STRING, pattern="^(?=a)a$"),))
    (frame,) = parsed(lines_of({"title": "a"}), broken)
    with pytest.raises(Fault, match="could not be carried out"):
        unreferred(frame, broken)


def test_rejections_are_ordered_by_submission_and_index() -> None:
    (frame,) = parsed(lines_of(*[record(value="1"), record(timestamp="x")] * 50), CONTRACT)
    split = unreferred(frame, CONTRACT)
    assert [each.record_index for each in split.rejections] == list(range(100))
