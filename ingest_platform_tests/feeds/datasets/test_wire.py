"""The words of datasets: errors of records in the contract's order and text, and the numbers of a quota."""

import json
from datetime import UTC, datetime

import pytest

from ingest_platform.domain.errors import Exceeded, Forbidden, Malformed, QuotaExceeded
from ingest_platform.feeds.datasets.contract import contract_of
from ingest_platform.feeds.datasets.wire import BadRecord, BadRecords, error_body, errors_of
from ingest_platform.pipeline.door import check_record

CONTRACT = contract_of({"country": "string", "amount": "number", "active": "boolean", "signup_at": "timestamp"})
GOOD = {
    "timestamp": "2026-06-10T11:00:00Z",
    "context": {},
    "country": "RO",
    "amount": 20,
    "active": True,
    "signup_at": "2026-06-01T08:00:00Z",
}


def errors(record: object) -> list[str]:
    raw = record if isinstance(record, bytes) else json.dumps(record).encode()
    problems = check_record(raw, CONTRACT)
    return [str(each["error"]) for each in errors_of([BadRecord(index=None, problems=problems)], CONTRACT)]


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in GOOD.items() if key != name}


def test_a_good_record_has_no_errors() -> None:
    assert check_record(json.dumps(GOOD).encode(), CONTRACT) == []


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ([], "Payload must be an object"),
        (None, "Payload must be an object"),
        (b"{", "Invalid JSON body"),
        (without("timestamp"), "Invalid or missing timestamp"),
        (GOOD | {"timestamp": "2026-06-10"}, "Invalid or missing timestamp"),
        (GOOD | {"timestamp": None}, "Invalid or missing timestamp"),
        (GOOD | {"timestamp": 1}, "Invalid or missing timestamp"),
        (without("context"), "context must be an object"),
        (GOOD | {"context": []}, "context must be an object"),
        (GOOD | {"context": None}, "context must be an object"),
        (GOOD | {"extra": 1}, "Extra field: extra"),
        (without("amount"), "Missing field: amount"),
        (GOOD | {"country": 1}, "Invalid string field: country"),
        (GOOD | {"country": None}, "Invalid string field: country"),
        (GOOD | {"amount": "12.5"}, "Invalid number field: amount"),
        (GOOD | {"amount": True}, "Invalid number field: amount"),
        (GOOD | {"amount": None}, "Invalid number field: amount"),
        (GOOD | {"active": 1}, "Invalid boolean field: active"),
        (GOOD | {"active": "true"}, "Invalid boolean field: active"),
        (GOOD | {"signup_at": "2026-06-01"}, "Invalid timestamp field: signup_at"),
        (GOOD | {"signup_at": 0}, "Invalid timestamp field: signup_at"),
        (GOOD | {"signup_at": None}, "Invalid timestamp field: signup_at"),
    ],
)
def test_each_problem_has_the_words_of_the_contract(record: object, said: str) -> None:
    assert errors(record) == [said]


def test_a_number_that_fits_no_double_is_of_the_wrong_type() -> None:
    raw = json.dumps(GOOD).replace(": 20,", ": 1e999,").encode()
    assert errors(raw) == ["Invalid number field: amount"]


def test_all_problems_are_told_in_the_order_of_the_contract() -> None:
    record = {"active": "x", "extra": 1, "more": 2, "country": "RO", "amount": "12"}
    assert errors(record) == [
        "Invalid or missing timestamp",
        "context must be an object",
        "Extra field: extra",
        "Extra field: more",
        "Missing field: signup_at",
        "Invalid number field: amount",
        "Invalid boolean field: active",
    ]


def _bad(index: int | None, record: object) -> BadRecord:
    return BadRecord(index=index, problems=check_record(json.dumps(record).encode(), CONTRACT))


def test_a_batch_is_told_the_first_failure_with_its_index_and_all_of_them() -> None:
    refusal = BadRecords([_bad(3, GOOD | {"extra": 1}), _bad(7, without("amount"))], CONTRACT)
    assert refusal.status == 400
    assert error_body(refusal, "req_1") == {
        "error": "Extra field: extra",
        "index": 3,
        "errors": [
            {"index": 3, "field": "extra", "code": "extra_field", "error": "Extra field: extra"},
            {"index": 7, "field": "amount", "code": "missing_field", "error": "Missing field: amount"},
        ],
    }


def test_a_single_record_has_no_index() -> None:
    body = error_body(BadRecords([_bad(None, GOOD | {"amount": "1"})], CONTRACT), "req_1")
    assert body == {
        "error": "Invalid number field: amount",
        "errors": [{"field": "amount", "code": "invalid_type", "error": "Invalid number field: amount"}],
    }


def test_an_exceeded_quota_is_told_with_its_numbers() -> None:
    exceeded = Exceeded(
        limit=100,
        used=98,
        requested=5,
        period="2026-11",
        resets_at=datetime(2026, 12, 1, tzinfo=UTC),
        retry_after_seconds=60,
    )
    refusal = QuotaExceeded("over", exceeded=exceeded)
    assert (refusal.status, refusal.headers) == (429, {"Retry-After": "60"})
    assert error_body(refusal, "req_1") == {
        "error": "Dataset quota exceeded",
        "quota": {
            "limit": 100,
            "used": 98,
            "remaining": 2,
            "requested": 5,
            "period": "2026-11",
            "resets_at": "2026-12-01T00:00:00.000Z",
        },
    }


def test_every_other_error_is_one_text() -> None:
    assert error_body(Forbidden("No."), "req_1") == {"error": "No."}
    wrong_id = Malformed("The parameter id must match …", code="invalid_parameter", param="id")
    assert error_body(wrong_id, "req_1") == {"error": "Invalid dataset ID"}
