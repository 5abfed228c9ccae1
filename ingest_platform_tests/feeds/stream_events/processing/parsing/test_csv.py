"""A row of CSV is named by its columns, or is none of them."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.processing.parsing.csv import lift

COLUMNS = ("a", "b", "c")


def read(text: str, separator: str = ",") -> object:
    (lifted,) = lift([text], columns=COLUMNS, separator=separator)
    return None if lifted is None else dict(lifted)


@pytest.mark.parametrize(
    ("text", "separator", "members"),
    [
        ("1,2,3", ",", {"a": "1", "b": "2", "c": "3"}),
        ('"1,5","say ""hi""",x', ",", {"a": "1,5", "b": 'say "hi"', "c": "x"}),
        ('1,"two\nlines",3', ",", {"a": "1", "b": "two\nlines", "c": "3"}),
        ("1,,\r\n", ",", {"a": "1"}),
        (" 1;2,5;ö", ";", {"a": " 1", "b": "2,5", "c": "ö"}),
        ("1\t2\t", "\t", {"a": "1", "b": "2"}),
    ],
)
def test_cells_become_members_and_an_empty_one_is_missing(text: str, separator: str, members: object) -> None:
    assert read(text, separator) == members


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", '1,2,"3', '1,2,"3"x', "1,2,3\n4,5,6", "1,2\n,3", '"a"\n,b,c'])
def test_what_is_no_row_of_the_columns_is_not_lifted(text: str) -> None:
    assert read(text) is None


@given(st.text() | st.text(alphabet='a,"\r\n'))
def test_no_text_breaks_it(text: str) -> None:
    assert len(list(lift([text, "1,2,3"], columns=COLUMNS, separator=","))) == 2


@given(st.lists(st.text(alphabet='aö,;" \n\r', max_size=6), min_size=3, max_size=3))
def test_what_is_written_is_read(cells: list[str]) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="").writerow(cells)
    assert read(written.getvalue()) == {name: cell for name, cell in zip(COLUMNS, cells, strict=True) if cell}
