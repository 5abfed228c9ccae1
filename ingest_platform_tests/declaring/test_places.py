"""Where something stands in a file, what of a body is no JSON, and what of a value a field may not have."""

from pathlib import Path

import pytest
import yaml

from ingest_platform.declaring import files
from ingest_platform.declaring.bodies import VALUES_MAX, why_no_json
from ingest_platform.declaring.files import Sections, read_text
from ingest_platform.declaring.mistakes import Mistake, line_of
from ingest_platform.declaring.schemas import check_value
from ingest_platform.declaring.spaces import check_workspace
from ingest_platform.declaring.variables import fill_variables

TEXT = """name: payments
routes:
  rules:
    - name: errors
      when: >-
        a == 1
    - {name: other,
       when: b}
derive:
  event: 1
  event.slow: 2
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 7),
        ("name", 1),
        ("routes.rules", 3),
        ("routes.rules[0]", 4),
        ("routes.rules[0].when", 5),
        ("routes.rules[0].when.deeper", 5),
        ("routes.rules[1].when", 8),
        ("routes.rules[2].when", 3),
        ("routes.match", 2),
        ("derive.event.slow", 11),
        ("elsewhere", 7),
    ],
)
def test_a_place_has_the_line_of_the_deepest_that_exists(path: str, line: int) -> None:
    assert line_of(yaml.compose(TEXT), path, line=7) == line


def test_a_body_has_an_end() -> None:
    twice: list[object] = [0] * 1000
    flaw = why_no_json({"a": [twice] * (VALUES_MAX // 1000 + 1)})
    assert flaw is not None
    assert (flaw.path, flaw.message) == ("", "has more than 100,000 values")
    assert why_no_json({"a": [twice]}) is None


def test_variables_are_left_open_where_nobody_reads_them() -> None:
    filled = fill_variables({"token": "${A}-${B}", "plain": "$A"}, None)
    assert (filled.given, filled.open, list(filled.flaws)) == ({"token": "open-open"}, {"token"}, [])


def test_a_value_of_a_variable_is_put_in_once() -> None:
    filled = fill_variables({"token": "${A}"}, {"A": "${B}", "B": "x"}.get)
    assert filled.given == {"token": "${B}"}
    assert "${B}" not in repr(filled)


def test_a_whole_number_is_no_truth() -> None:
    assert check_value(1, {"type": "boolean"}) == "must be a boolean, not 1"


def test_entries_of_a_file_keep_their_places() -> None:
    mistakes = list[Mistake]()
    sections = Sections(names=("workspaces",), by_id={})
    (entry,) = read_text("workspaces:\n  - name: UPPER\n", file="a.yaml", sections=sections, mistakes=mistakes)
    assert check_workspace(entry, mistakes) is None
    assert [(each.line, each.path) for each in mistakes] == [(2, "workspaces[0].name")]


def test_a_file_that_is_too_large_is_not_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 10)
    path = tmp_path / "a.yaml"
    path.write_text("a: []\nb: []\n")
    mistakes = list[Mistake]()
    assert files.read_files([path], sections=Sections(names=("a",), by_id={}), mistakes=mistakes) == []
    assert [each.message for each in mistakes] == ["has more than 10 bytes; part it into several files"]
