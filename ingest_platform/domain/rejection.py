"""What is wrong with one record: closed codes for programs, messages for people."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class Code(StrEnum):
    """Every reason for which a record can be rejected."""

    MISSING_FIELD = "missing_field"
    INVALID_TYPE = "invalid_type"
    INVALID_TIMESTAMP = "invalid_timestamp"
    INVALID_FORMAT = "invalid_format"
    INVALID_CHOICE = "invalid_choice"
    TOO_LONG = "too_long"
    NOT_FINITE = "not_finite"
    NOT_FOUND = "not_found"
    NOT_AN_OBJECT = "not_an_object"
    DUPLICATE_KEY = "duplicate_key"
    EXTRA_FIELD = "extra_field"
    # The bytes of this one record are no JSON (a broken line of an NDJSON file), or are nested too deeply.
    INVALID_JSON = "invalid_json"
    TOO_DEEP = "too_deep"
    # A text in it does not have the form that was declared.
    UNPARSABLE = "unparsable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault of a record: its code, the field (None for the record as a whole) and a sentence."""

    code: str
    field: str | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One rejected record of a submission: all its problems, in the order of the contract, and its bytes as sent.

    `submission` is the ordinal of the submission within its load, `record_index` counts from 0 within the submission.
    """

    submission: int
    record_index: int
    problems: tuple[Problem, ...]
    raw: bytes


def reasons(problems: Iterable[Problem]) -> list[dict[str, object]]:
    """Show why a record was rejected: the one form of the API, of the files beside archived ones and of the CLI.

    >>> reasons([Problem(code="missing_field", field="value", message="value is required")])
    [{'code': 'missing_field', 'field': 'value', 'message': 'value is required'}]
    """
    return [{"code": each.code, "field": each.field, "message": each.message} for each in problems]
