"""Every format gives the same frames and the same verdicts; what can't be read harms nobody else."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.submission import Encoding, Format, Submission
from ingest_platform.feeds.machine_data.contract import CONTRACT
from ingest_platform.pipeline.parse import OVERSIZE_KEPT_BYTES, ParsedFrame, parse_many
from ingest_platform.pipeline.records import RECORD_BYTES_MAX
from ingest_platform_tests.pipeline.sent import (
    GOOD,
    faults,
    good_bodies,
    lines_of,
    parsed,
    record,
    verdicts,
)

RECORDS = [GOOD, record(value="1"), record(value=-2), record(timestamp="no"), record(value=1e-5)]


def as_csv(records: list[dict[str, object]]) -> bytes:
    rows = [",".join(GOOD), *(",".join(str(each[name]) for name in GOOD) for each in records)]
    return "\r\n".join(rows).encode()


def as_parquet(records: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: [each[name] for each in records] for name in GOOD}), buffer)
    return buffer.getvalue()


def as_arrow(records: list[dict[str, object]]) -> bytes:
    table = pa.table({name: [each[name] for each in records] for name in GOOD})
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def values_of(frames: list[ParsedFrame]) -> list[tuple[object, ...]]:
    return [row for frame in frames for row in frame.frame.rows()]


@pytest.mark.parametrize(
    ("form", "write"),
    [
        (Format.JSON, lambda records: json.dumps(records).encode()),
        (Format.JSON, lambda records: json.dumps({"items": records}, indent=1).encode()),
        (Format.NDJSON, lambda records: lines_of(*records)),
        (Format.NDJSON, lambda records: lines_of(*records).replace(b"\n", b"\r\n\r\n \n")),
        (Format.CSV, as_csv),
        (Format.PARQUET, as_parquet),
        (Format.ARROW, as_arrow),
    ],
)
@pytest.mark.parametrize("encoding", list(Encoding))
def test_every_format_and_encoding_gives_the_same_frame(
    form: Format, write: Callable[[list[dict[str, object]]], bytes], encoding: Encoding
) -> None:
    records = [GOOD, record(value=-2.5), record(value=1e-5, timestamp="no")]
    press = {Encoding.IDENTITY: bytes, Encoding.GZIP: gzip.compress, Encoding.ZSTD: zstandard.compress}[encoding]
    (frame,) = parsed(press(write(records)), CONTRACT, form, encoding=encoding)
    assert frame.frame.schema == {
        "submission": pl.UInt32,
        "record_index": pl.Int64,
        "timestamp": pl.String,
        "machine_data_point_config_id": pl.String,
        "value": pl.Float64,
    }
    assert frame.frame.rows() == [(0, index, *each.values()) for index, each in enumerate(records)]
    assert [json.loads(frame.raw(0, index)) for index in range(3)] == records
    assert (frame.rejections, frame.count, frame.counts) == ([], 3, {0: 3})


def test_a_bad_record_never_fails_its_neighbours() -> None:
    body = lines_of(*RECORDS)[:-1] + b'\n{"broken":\n{"value": "\xff"}\n[]\n'
    (frame,) = parsed(body, CONTRACT)
    assert frame.frame["record_index"].to_list() == [0, 2, 3, 4]
    assert faults(frame.rejections) == {
        1: [("invalid_type", "value")],
        5: [("invalid_json", None)],
        6: [("invalid_json", None)],
        7: [("not_an_object", None)],
    }
    assert frame.rejections[1].raw == b'{"broken":'


def test_frames_continue_the_index() -> None:
    body = lines_of(*(record(value=number) for number in range(20_000)))
    frames = parsed(body, CONTRACT, frame_records=5_000)
    assert len(frames) > 1
    assert [frame.first_index for frame in frames] == [
        0,
        *(sum(f.count for f in frames[: i + 1]) for i in range(len(frames) - 1)),
    ]
    assert [row[1] for row in values_of(frames)] == list(range(20_000))
    assert [row[4] for row in values_of(frames)] == list(range(20_000))
    last = frames[-1]
    assert json.loads(last.raw(0, 19_999))["value"] == 19_999


@pytest.mark.parametrize("body", list(good_bodies()))
def test_a_json_document_is_an_array_or_the_envelope(body: bytes) -> None:
    assert parsed(body, CONTRACT, Format.JSON)[0].frame.rows() == [(0, 0, *GOOD.values())]
    assert parsed(b"\xef\xbb\xbf \n" + body, CONTRACT, Format.JSON)[0].count == 1


def test_what_is_no_json_harms_only_the_record_in_which_it_stands() -> None:
    nan = json.dumps(record(value=float("nan")))
    surrogate = json.dumps(record(note="\udc80 \U0001f600"))
    text = f"[{json.dumps(GOOD)}, {nan},{surrogate}, {json.dumps(record(note='NaN'))}]"
    (frame,) = parsed(text.encode(), CONTRACT, Format.JSON)
    assert faults(frame.rejections) == {1: [("not_finite", "value")], 2: [("invalid_json", None)]}
    assert [each.raw.decode() for each in frame.rejections] == [nan, surrogate]
    assert frame.frame["record_index"].to_list() == [0, 3]


@pytest.mark.parametrize(
    ("form", "body", "code"),
    [
        (Format.JSON, b"", "invalid_json"),
        (Format.JSON, b"nothing", "invalid_json"),
        (Format.JSON, b"null", "invalid_json"),
        (Format.JSON, b'{"records": []}', "invalid_json"),
        (Format.JSON, b'{"items": {}}', "invalid_json"),
        (Format.JSON, b"[{}] x", "invalid_json"),
        (Format.JSON, b'[{"a":}]', "invalid_json"),
        (Format.JSON, b"[{}, NaN]", "invalid_json"),
        (Format.JSON, b'[{"a": 1NaN}]', "invalid_json"),
        (Format.JSON, b"[{NaN: 1}]", "invalid_json"),
        (Format.JSON, b'{"items": [{}], "items": [{}]}', "duplicate_key"),
        (Format.JSON, b"[" * 100_000, "too_deep"),
        (Format.JSON, b"[]", "empty"),
        (Format.JSON, b'{"items": []}', "empty"),
        (Format.NDJSON, b"", "empty"),
        (Format.NDJSON, b"\n \r\n", "empty"),
        (Format.CSV, b"", "empty"),
        (Format.CSV, b"timestamp,value\n", "empty"),
        (Format.CSV, b"a,a\n1,2\n", "duplicate_key"),
        (Format.CSV, b'timestamp,value\n"2026,1\n', "invalid_csv"),
        (Format.PARQUET, b"", "unreadable"),
        (Format.PARQUET, b"PAR1 and so on PAR1", "unreadable"),
        (Format.ARROW, b"ARROW1 and so on", "unreadable"),
        (Format.ARROW, b"", "unreadable"),
    ],
)
def test_what_cannot_be_read_as_a_whole_says_why(form: Format, body: bytes, code: str) -> None:
    with pytest.raises(Unreadable) as raised:
        parsed(body, CONTRACT, form)
    assert raised.value.code == code
    assert str(raised.value)


@pytest.mark.parametrize(("encoding", "press"), [(Encoding.GZIP, gzip.compress), (Encoding.ZSTD, zstandard.compress)])
class TestCompression:
    """Bytes behind a compression are read within a limit, and to their end."""

    def test_a_bomb_is_cut_off_at_the_limit(self, encoding: Encoding, press: Callable[[bytes], bytes]) -> None:
        bomb = press(b" " * 50_000_000)
        with pytest.raises(Unreadable) as raised:
            parsed(bomb, CONTRACT, encoding=encoding, bytes_max=1_000_000)
        assert raised.value.code == "too_large"

    def test_several_members_are_one_document(self, encoding: Encoding, press: Callable[[bytes], bytes]) -> None:
        body = press(lines_of(GOOD)) + press(lines_of(GOOD))
        assert sum(frame.count for frame in parsed(body, CONTRACT, encoding=encoding)) == 2

    def test_an_early_end_makes_it_unreadable(self, encoding: Encoding, press: Callable[[bytes], bytes]) -> None:
        body = press(lines_of(*(record(value=number) for number in range(1000))))
        for broken in (body[:-5], body[:20], b"junk" + body, b"{}"):
            with pytest.raises(Unreadable) as raised:
                parsed(broken, CONTRACT, encoding=encoding)
            assert raised.value.code == "invalid_encoding"


def test_a_line_larger_than_any_record_is_one_rejection() -> None:
    body = lines_of(GOOD) + b"x" * (3 * RECORD_BYTES_MAX) + b"\n" + lines_of(GOOD)
    (frame,) = parsed(body, CONTRACT)
    assert faults(frame.rejections) == {1: [("too_long", None)]}
    assert len(frame.rejections[0].raw) == OVERSIZE_KEPT_BYTES
    assert frame.frame["record_index"].to_list() == [0, 2]


def submission(body: bytes, form: Format = Format.JSON) -> Submission:
    return Submission(
        job_id="job_1",
        seq=1,
        workspace="acme",
        feed="machine_data",
        target=None,
        format=form,
        encoding=Encoding.IDENTITY,
        origin="api",
        body=body,
        blob=None,
        bytes_in=len(body),
        sites=None,
        catalog_revision=1,
        accepted_at=datetime(2026, 5, 6, tzinfo=UTC),
        attempts=0,
    )


def test_small_bodies_are_read_together_and_fail_alone() -> None:
    many = {
        3: submission(json.dumps({"items": [GOOD, record(value="1")]}).encode()),
        4: submission(b'{"items": [{]}'),
        5: submission(lines_of({}, GOOD) + b"\n", Format.NDJSON),
        9: submission(b'{"items": []}'),
    }
    frame, unreadable = parse_many(many, CONTRACT, envelope_key="items")
    assert {ordinal: error.code for ordinal, error in unreadable.items()} == {4: "invalid_json", 9: "empty"}
    assert frame.counts == {3: 2, 5: 2}
    assert frame.frame.select("submission", "record_index").rows() == [(3, 0), (5, 1)]
    assert [(each.submission, each.record_index, each.raw) for each in frame.rejections] == [
        (3, 1, json.dumps(record(value="1")).encode()),
        (5, 0, b"{}"),
    ]
    assert json.loads(frame.raw(5, 1)) == GOOD


def test_reading_together_and_alone_agree() -> None:
    bodies = [lines_of(*RECORDS), lines_of(RECORDS[1]), lines_of(*RECORDS[2:])]
    many = {ordinal: submission(body, Format.NDJSON) for ordinal, body in enumerate(bodies)}
    together, _ = parse_many(many, CONTRACT, envelope_key="items")
    for ordinal, body in enumerate(bodies):
        (alone,) = parsed(body, CONTRACT)
        mine = together.frame.filter(pl.col("submission") == ordinal).drop("submission")
        assert mine.equals(alone.frame.drop("submission"))
        mine_rejected = [each for each in together.rejections if each.submission == ordinal]
        assert faults(mine_rejected) == faults(alone.rejections)


def test_nothing_readable_among_many_is_an_empty_frame() -> None:
    frame, unreadable = parse_many({0: submission(b"x")}, CONTRACT, envelope_key="items")
    assert (frame.count, frame.frame.height, list(unreadable)) == (0, 0, [0])


def read_or_code(body: bytes) -> str:
    try:
        assert sum(frame.count for frame in parsed(body, CONTRACT, Format.JSON))
    except Unreadable as error:
        return error.code
    return "read"


@pytest.mark.corpus
def test_the_json_test_suite_is_read_as_it_says(shared: Path) -> None:
    paths = sorted((shared / "corpus/JSONTestSuite/test_parsing").glob("*.json"))
    assert paths
    for path in paths:
        body = path.read_bytes()
        verdict = read_or_code(body)
        if path.name.startswith("n_"):
            assert verdict in {"invalid_json", "too_deep"}, path.name
        elif path.name.startswith("y_") and body.strip().startswith(b"["):
            assert verdict in {"read", "empty"}, path.name
        else:
            assert verdict, path.name


@pytest.mark.corpus
def test_naughty_strings_are_kept_as_they_are(shared: Path) -> None:
    texts = json.loads((shared / "corpus/big-list-of-naughty-strings/blns.json").read_bytes())
    body = lines_of(*(record(machine_data_point_config_id=text, note=text) for text in texts))
    (frame,) = parsed(body, CONTRACT)
    assert frame.rejections == []
    assert frame.frame["machine_data_point_config_id"].to_list() == texts


@pytest.mark.corpus
def test_real_readings_are_all_good(shared: Path) -> None:
    body = (shared / "data/machine_temperature.csv").read_bytes()
    (frame,) = parsed(body, CONTRACT, Format.CSV)
    assert (frame.count, frame.rejections) == (22_695, [])
    assert verdicts(body, CONTRACT, Format.CSV) == {}


WHOLE = Contract(
    name="whole",
    fields=(Field(name="at", kind=Kind.TIMESTAMP), Field(name="event", kind=Kind.OBJECT, required=False)),
    extra_allowed=True,
    whole="document",
)
WHOLE_ROW = {"at": GOOD["timestamp"], "event": {"a": [1, {"b": "ü"}]}, "other": "x", "n": 12.5}


@pytest.mark.parametrize("form", [Format.NDJSON, Format.JSON, Format.CSV, Format.PARQUET, Format.ARROW])
def test_a_record_is_kept_whole_beside_its_fields_in_every_format(form: Format) -> None:
    rows = [WHOLE_ROW, {"at": GOOD["timestamp"]}, {"other": "y"}]
    (frame,) = parsed(_written(form, rows), WHOLE, form)
    assert [json.loads(each) for each in frame.frame["document"]] == [_as_told(form, row) for row in rows[:2]]
    assert frame.frame["record_index"].to_list() == [0, 1]
    assert [(each.record_index, each.problems[0].code) for each in frame.rejections] == [(2, "missing_field")]


def _as_told(form: Format, row: dict[str, object]) -> dict[str, object]:
    # An undeclared cell of a CSV is a text.
    return row | {"n": "12.5"} if form is Format.CSV and "n" in row else row


def _written(form: Format, rows: list[dict[str, object]]) -> bytes:
    if form in {Format.NDJSON, Format.JSON}:
        return lines_of(*rows) if form is Format.NDJSON else json.dumps(rows).encode()
    cells = [{**row, "event": json.dumps(row["event"])} if "event" in row else row for row in rows]
    if form is Format.CSV:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["at", "event", "other", "n"])
        writer.writeheader()
        writer.writerows(cells)
        return text.getvalue().encode()
    table = pa.Table.from_pylist(
        cells, schema=pa.schema({"at": pa.string(), "event": pa.string(), "other": pa.string(), "n": pa.float64()})
    )
    buffer = io.BytesIO()
    if form is Format.PARQUET:
        pq.write_table(table, buffer)
    else:
        with pa.ipc.new_file(buffer, table.schema) as writer:
            writer.write_table(table)
    return buffer.getvalue()
