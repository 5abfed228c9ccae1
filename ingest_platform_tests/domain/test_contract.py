"""A contract's fields are found by name, in the order in which faults are reported."""

import pytest

from ingest_platform.domain.contract import Contract, Field, Kind

CONTRACT = Contract(
    name="example",
    extra_allowed=False,
    fields=(Field(name="when", kind=Kind.TIMESTAMP), Field(name="note", kind=Kind.STRING, required=False)),
)


def test_a_declared_field_is_found() -> None:
    assert CONTRACT.field("note").kind is Kind.STRING
    assert CONTRACT.field("when").required


def test_a_field_that_is_not_declared_is_a_defect_of_the_caller() -> None:
    with pytest.raises(StopIteration):
        CONTRACT.field("other")


def test_a_contract_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        CONTRACT.name = "other"  # type: ignore[misc]
