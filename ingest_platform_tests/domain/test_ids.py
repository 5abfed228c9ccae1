"""Identifiers: their form, their order, and that no two are alike."""

from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.ids import ULID_LENGTH, encode_crockford, is_id, new_id, new_ulid


def test_a_new_id_has_the_form_of_an_id() -> None:
    made = new_id("job_")
    assert is_id(made, prefix="job_")
    assert len(made) == len("job_") + ULID_LENGTH
    assert made == made.lower()


def test_ids_made_later_sort_later_and_none_is_made_twice() -> None:
    made = [new_ulid() for _ in range(2_000)]
    assert len(set(made)) == len(made)
    # The first ten letters are the milliseconds.
    moments = [ulid[:10] for ulid in made]
    assert moments == sorted(moments)


@given(number=st.integers(min_value=0, max_value=32**26 - 1))
def test_crockford_is_as_long_as_asked_and_keeps_the_number(number: int) -> None:
    written = encode_crockford(number, length=26)
    assert len(written) == 26
    read = 0
    for letter in written:
        read = read * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(letter)
    assert read == number


@given(pair=st.tuples(*[st.integers(min_value=0, max_value=32**8 - 1)] * 2))
def test_crockford_keeps_the_order_of_numbers(pair: tuple[int, int]) -> None:
    first, second = (encode_crockford(number, length=8) for number in pair)
    assert (first < second) == (pair[0] < pair[1])


@given(text=st.text(max_size=60))
def test_a_text_is_an_id_only_with_the_prefix_and_26_letters(text: str) -> None:
    assert not is_id(text, prefix="job_") or (text.startswith("job_") and len(text) == 30 and text.isascii())


def test_texts_that_look_nearly_like_ids_are_none() -> None:
    made = new_id("job_")
    for wrong in ("", "job_", made.upper(), made + "0", made[:-1], made.replace("job_", "run_"), made[:-1] + "u"):
        assert not is_id(wrong, prefix="job_")
