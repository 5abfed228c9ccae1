"""The codes of rejections are closed: clients have written programs against them."""

from ingest_platform.domain.rejection import Code


def test_the_codes_of_the_documents_are_all_there() -> None:
    documented = {
        *("missing_field", "invalid_type", "invalid_timestamp", "not_finite", "not_found", "not_an_object"),
        "duplicate_key",
    }
    assert documented <= {code.value for code in Code}


def test_a_codes_value_is_its_name_in_lower_case() -> None:
    assert [code.value for code in Code] == [code.name.lower() for code in Code]
