"""Real log lines through a pipeline: what each rule takes and keeps is what Polars counts on the files themselves."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest

from ingest_platform.domain.ids import encode_crockford
from ingest_platform.domain.submission import Format
from ingest_platform.feeds.stream_events.contract import STRICT
from ingest_platform.feeds.stream_events.refer import refer
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.parse import Written, parse
from ingest_platform.pipeline.references import KNOWN_SCHEMA, ORIGINS_SCHEMA

FILES = ("Apache", "HDFS", "OpenSSH", "Zookeeper")
PIPELINE = {
    "name": "logs",
    "parse": [
        {"field": "event.line", "as": "regex", "pattern": r"^(?P<level>\w+): (?P<text>.*)$", "on_error": "reject"}
    ],
    "mask": [{"pattern": "ipv4", "how": "redact"}, {"field": "event.line", "how": "drop"}],
    "routes": {
        "match": "first",
        "rules": [
            {"name": "bad", "when": 'event.level in ["error", "ERROR", "WARN"]', "to": ["siem"]},
            {"name": "addresses", "when": 'event.text contains "[redacted ipv4]"', "sample": 0.25, "to": ["lake"]},
            {"name": "blocks", "when": 'event.text matches "blk_-?[0-9]+"', "sample": 0.1, "to": ["lake"]},
        ],
        "otherwise": ["rest"],
    },
}
SAMPLES = {"bad": 1.0, "addresses": 0.25, "blocks": 0.1, "otherwise": 1.0}
MASK = 2**64 - 1


@pytest.fixture(scope="module")
def lines(shared: Path) -> pl.DataFrame:
    """Read the files: where each line is from, its level (not all files have one) and its text."""
    folder = shared / "data/loghub"
    if not folder.is_dir():
        pytest.skip("shared/data/loghub with real log lines is not beside this checkout")
    files = [
        pl.read_csv(folder / f"{name}_2k.log_structured.csv", infer_schema=False).select(
            source=pl.lit(name.lower()),
            level=pl.coalesce(pl.col("^Level$"), pl.lit("none")),
            text="Content",
        )
        for name in FILES
    ]
    return pl.concat(files).with_row_index("place")


def job_id(number: int) -> str:
    return f"evt_{encode_crockford(number, length=26)}"


def draw(job: str, index: int, rule: str) -> float:
    """Draw by the book (SplitMix64), one at a time."""

    def mix(word: int) -> int:
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
        return word ^ (word >> 31)

    seed = int.from_bytes(hashlib.sha256(f"{job.removeprefix('evt_')}\0{rule}".encode()).digest()[:8])
    return (mix((seed + mix(((index + 1) * 0x9E3779B97F4A7C15) & MASK)) & MASK) >> 11) / 2**53


def processed(lines: pl.DataFrame) -> pl.DataFrame:
    """Send the lines of each file as a submission of its own, through all that a load does with its frames."""
    row = {"workspace": "acme", "kind": "streams", "id": "logs", "version": 1, "revision": 1, "retired": False}
    known = pl.DataFrame([{**row, "body": json.dumps(PIPELINE)}], schema=KNOWN_SCHEMA)
    origin = {"workspace": "acme", "target": "logs", "catalog_revision": 1, "sites": None, "secret": bytes(32)}
    origins = pl.DataFrame(
        [{"submission": place, "job_id": job_id(place), **origin} for place in range(len(FILES))], schema=ORIGINS_SCHEMA
    )
    frames: list[pl.DataFrame] = []
    for place, name in enumerate(FILES):
        events = [
            {"timestamp": "2026-05-06T10:15:00Z", "source": source, "event": {"line": f"{level}: {text}"}}
            for source, level, text in lines.filter(source=name.lower()).select("source", "level", "text").iter_rows()
        ]
        body = "\n".join(map(json.dumps, events)).encode()
        for parsed in parse(Written(format=Format.NDJSON), place, STRICT, "", body):
            checked = check(parsed, STRICT, refer=refer, origins=origins, known=known)
            assert checked.rejections == []
            frames.append(checked.accepted)
    return pl.concat(frames)


def test_counts_by_rule_are_those_of_polars_on_the_files(lines: pl.DataFrame) -> None:
    found = processed(lines)
    octet = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
    rule = (
        pl.when(pl.col("level").is_in(["error", "ERROR", "WARN"]))
        .then(pl.lit("bad"))
        .when(pl.col("text").str.contains(rf"({octet}\.){{3}}{octet}"))
        .then(pl.lit("addresses"))
        .when(pl.col("text").str.contains("blk_-?[0-9]+"))
        .then(pl.lit("blocks"))
        .otherwise(pl.lit("otherwise"))
    )
    expected = lines.with_columns(rule=rule)
    kept = [
        draw(job_id(place // 2_000), place % 2_000, rule) < SAMPLES[rule]
        for place, rule in expected.select("place", "rule").iter_rows()
    ]
    expected = expected.with_columns(decision=pl.Series(kept)).with_columns(
        decision=pl.when("decision").then(pl.lit("routed")).otherwise(pl.lit("sampled_out"))
    )
    counted = expected.group_by("source", "rule", "decision").len().sort("source", "rule", "decision")
    by_source = found.rename({"rules": "rule"}).group_by("source", "rule", "decision").len()
    assert by_source.sort("source", "rule", "decision").rows() == counted.rows()
    assert set(counted["rule"]) == set(SAMPLES)
    # Nothing that goes anywhere has an address left, or the line that was parsed.
    documents = found["document"].drop_nulls()
    assert len(documents) == found.filter(decision="routed").height
    assert not documents.str.contains(rf"({octet}\.){{3}}{octet}|\"line\"").any()
