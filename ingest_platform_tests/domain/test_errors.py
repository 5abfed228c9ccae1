"""Every refusal has a status and a closed code; rejections are values, never exceptions."""

import inspect

import pytest

from ingest_platform.domain import errors
from ingest_platform.domain.errors import Detail, Fault, IngestError, Refusal, Unprocessable, Unreadable

REFUSALS = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, Refusal)]
ALL = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, IngestError)]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_answers_with_a_status_of_its_own_kind(refusal: type[Refusal]) -> None:
    assert 400 <= refusal.status < 500 or refusal.status == 503
    assert refusal.code == refusal.code.lower()
    made = refusal("It is too large: the limit is 3 bytes.")
    assert (made.code, str(made)) == (refusal.code, "It is too large: the limit is 3 bytes.")


def test_a_refusal_carries_its_details_and_headers() -> None:
    detail = Detail(code="missing_field", message="value is missing", param="items[0].value")
    made = Unprocessable("One item is wrong.", code="invalid_items", details=[detail], headers={"Retry-After": "1"})
    assert (made.code, made.details, made.headers) == ("invalid_items", (detail,), {"Retry-After": "1"})


def test_every_error_is_in_the_picture_at_the_top_of_the_module() -> None:
    picture = errors.__doc__ or ""
    assert [each.__name__ for each in ALL if each.__name__ not in picture] == []


def test_what_can_not_be_read_says_why_in_a_closed_code() -> None:
    assert Unreadable("not JSON").code == "unreadable"
    assert Unreadable("too many rows", code="too_many_rows").code == "too_many_rows"
    assert not issubclass(Unreadable, Fault)
