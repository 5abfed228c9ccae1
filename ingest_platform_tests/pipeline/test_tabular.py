"""CSV: the dialect, and cells typed by the contract."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.machine_data.contract import CONTRACT
from ingest_platform.pipeline.tabular import COLUMNS_MAX
from ingest_platform_tests.pipeline.sent import CONFIG_ID, faults, lines_of, parsed, verdicts
from ingest_platform_tests.pipeline.test_door import EVERY, LOOSE

HEADER = "timestamp,machine_data_point_config_id,value"
START = f"2026-05-06T10:15:00Z,{CONFIG_ID}"


def table(*rows: str) -> bytes:
    return "\n".join([HEADER, *rows]).encode(errors="surrogateescape")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("12.5", None),
        ("-0", None),
        ("1E5", None),
        ('"1"', None),
        ("9007199254740993", None),
        ("abc", "invalid_type"),
        (" 12.5", "invalid_type"),
        ("12,5", "invalid_format"),
        ("+1", "invalid_type"),
        (".5", "invalid_type"),
        ("1.", "invalid_type"),
        ("0x10", "invalid_type"),
        ("1_000", "invalid_type"),
        ("NaN", "invalid_type"),
        ("inf", "invalid_type"),
        ("true", "invalid_type"),
        ("1e400", "not_finite"),
        ("9223372036854775808", "not_finite"),
        ("", "missing_field"),
        ('""', "missing_field"),
    ],
)
def test_a_number_cell_is_written_as_in_json(cell: str, expected: str | None) -> None:
    found = verdicts(table(f"{START},1", f"{START},{cell}"), CONTRACT, Format.CSV)
    assert {index: [code for code, _ in each] for index, each in found.items()} == ({1: [expected]} if expected else {})


def test_a_row_that_is_none_of_the_table_harms_only_itself() -> None:
    rows = [f"{START},1", "1,2", f"{START},1,2", f'"x"y,{START},1', "\udcff,b,1", "", f"{START},2"]
    (frame,) = parsed(table(*rows), CONTRACT, Format.CSV)
    assert faults(frame.rejections) == {
        1: [("invalid_format", None)],
        2: [("invalid_format", None)],
        3: [("invalid_format", None)],
        4: [("invalid_json", None)],
    }
    assert [each.raw for each in frame.rejections][::3] == [b"1,2", b"\xff,b,1"]
    assert frame.frame["record_index"].to_list() == [0, 5]
    assert frame.rejections[0].problems[0].message == "The row has 2 cells, but the header has 3."


def test_a_rejected_row_is_laid_out_as_a_json_object() -> None:
    (frame,) = parsed(f"note,{HEADER}\nhä,,{CONFIG_ID},1.50\n".encode(), CONTRACT, Format.CSV)
    (rejection,) = frame.rejections
    assert rejection.raw.decode() == f'{{"note":"hä","machine_data_point_config_id":"{CONFIG_ID}","value":1.50}}'
    assert faults([rejection]) == {0: [("missing_field", "timestamp")]}


def test_a_column_that_is_not_there_is_missing_in_every_row() -> None:
    assert verdicts(b"timestamp\n2026-05-06T10:15:00Z\n", CONTRACT, Format.CSV) == {
        0: [("missing_field", "machine_data_point_config_id"), ("missing_field", "value")]
    }


def test_a_header_that_is_too_wide_is_refused() -> None:
    with pytest.raises(Unreadable):
        parsed((",".join(map(str, range(COLUMNS_MAX + 1))) + "\n").encode(), CONTRACT, Format.CSV)


CELLS = st.one_of(
    st.sampled_from(["", "1", "1.5", "1e400", "true", "false", "null", "{}", '{"a":1,"a":2}', "[1]", "abc", "p1"]),
    st.sampled_from(["2026-05-06T10:15:00Z", "2026-02-30T00:00:00Z", "9223372036854775808", '{"a":NaN}', "{"]),
    st.sampled_from(["9007199254740992", "9007199254740993", "-9007199254740993.0"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=5),
)


@pytest.mark.parametrize("contract", [EVERY, LOOSE], ids=lambda contract: contract.name)
@given(
    rows=st.lists(
        st.lists(CELLS, min_size=len(EVERY.fields) + 1, max_size=len(EVERY.fields) + 1), min_size=1, max_size=5
    )
)
def test_a_row_has_the_verdict_of_the_object_that_it_is_laid_out_as(contract: Contract, rows: list[list[str]]) -> None:
    header = [*(field.name for field in contract.fields), "x"]
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in (header, *rows)]
    body = "\n".join(quoted).encode()
    (frame,) = parsed(body, contract, Format.CSV)
    objects = [frame.raw(0, index) for index in range(len(rows))]
    assert verdicts(body, contract, Format.CSV) == verdicts(b"\n".join(objects), contract)


@pytest.mark.corpus
def test_the_csv_spectrum_is_read_as_it_says(shared: Path) -> None:
    paths = sorted((shared / "corpus/csv-spectrum/csvs").glob("*.csv"))
    assert paths
    for path in paths:
        # The CRLF in cells of the original was lost where the corpus was copied.
        text = (shared / f"corpus/csv-spectrum/json/{path.stem}.json").read_text()
        expected = json.loads(text.replace("\\r\\n", "\\n"))
        fields = tuple(Field(name=name, kind=Kind.STRING, required=False) for name in expected[0])
        contract = Contract(name="any", fields=fields, extra_allowed=False)
        (frame,) = parsed(path.read_bytes(), contract, Format.CSV)
        found = frame.frame.drop("submission", "record_index").fill_null("").to_dicts()
        assert found == expected, path.name


@pytest.mark.corpus
def test_formulas_are_only_text(shared: Path) -> None:
    paths = list((shared / "corpus/csv-injection-payloads").rglob("*.txt"))
    texts = [line for path in paths for line in path.read_text(errors="ignore").splitlines() if line]
    contract = Contract(name="any", fields=(Field(name="a", kind=Kind.STRING),), extra_allowed=False)
    body = "\n".join(["a", *('"' + text.replace('"', '""') + '"' for text in texts)]).encode()
    (frame,) = parsed(body, contract, Format.CSV)
    assert frame.frame["a"].to_list() == texts
    assert lines_of() == b""
