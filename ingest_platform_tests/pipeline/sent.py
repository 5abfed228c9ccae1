"""What the parser's tests send: records, forms, frames of origins and of what is known."""

import json
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from ingest_platform.domain.contract import Contract
from ingest_platform.domain.rejection import Rejection
from ingest_platform.domain.submission import Encoding, Format
from ingest_platform.pipeline.check import CheckedFrame, check
from ingest_platform.pipeline.parse import ParsedFrame, Written, parse

CONFIG_ID = "mdp_01kqzcjrpyf27tge9dnvsqv8t2"
GOOD = {"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG_ID, "value": 73.9}
ORIGINS_SCHEMA = {
    "submission": pl.UInt32(),
    "job_id": pl.String(),
    "workspace": pl.String(),
    "target": pl.String(),
    "catalog_revision": pl.Int64(),
    "sites": pl.List(pl.String()),
    "secret": pl.Binary(),
}
KNOWN_SCHEMA = {
    "workspace": pl.String(),
    "kind": pl.String(),
    "id": pl.String(),
    "version": pl.Int32(),
    "revision": pl.Int64(),
    "retired": pl.Boolean(),
    "body": pl.String(),
}


def record(**changes: object) -> dict[str, object]:
    """Make a good reading, changed."""
    return GOOD | changes


def lines_of(*records: object) -> bytes:
    """Write records as NDJSON."""
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def parsed(
    body: bytes,
    contract: Contract,
    form: Format = Format.NDJSON,
    *,
    encoding: Encoding = Encoding.IDENTITY,
    frame_records: int = 250_000,
    bytes_max: int = 1 << 30,
) -> list[ParsedFrame]:
    """Parse one submission."""
    written = Written(format=form, encoding=encoding)
    return list(parse(written, 0, contract, "items", body, frame_records=frame_records, bytes_max=bytes_max))


def checked(body: bytes, contract: Contract, form: Format = Format.NDJSON) -> list[CheckedFrame]:
    """Parse and check one submission, without references."""
    return [unreferred(frame, contract) for frame in parsed(body, contract, form)]


def unreferred(frame: ParsedFrame, contract: Contract) -> CheckedFrame:
    """Check a frame, without references."""
    return check(frame, contract, refer=None, origins=origins(), known=known())


def faults(rejections: Sequence[Rejection]) -> dict[int, list[tuple[str, str | None]]]:
    """List codes and fields by record index."""
    return {each.record_index: [(found.code, found.field) for found in each.problems] for each in rejections}


def verdicts(body: bytes, contract: Contract, form: Format = Format.NDJSON) -> dict[int, list[tuple[str, str | None]]]:
    """Parse and check one submission; codes and fields by record index."""
    return {
        index: found for frame in checked(body, contract, form) for index, found in faults(frame.rejections).items()
    }


def origins(*rows: Mapping[str, object]) -> pl.DataFrame:
    """Lay out where submissions come from: number 0 of acme with all sites, unless said otherwise."""
    default = {"submission": 0, "workspace": "acme", "catalog_revision": 100, "sites": None}
    return pl.DataFrame([default | row for row in rows or ({},)], schema=ORIGINS_SCHEMA)


def config(**changes: object) -> dict[str, object]:
    """Make a version of a data point's configuration."""
    body = {"site": "north", "machine": "m", "measurement": "t", "unit": "C", "factor": 2.0}
    body |= {key: changes.pop(key) for key in list(changes) if key in body}
    default = {
        "workspace": "acme",
        "kind": "machine_data_point_configs",
        "id": CONFIG_ID,
        "version": 1,
        "revision": 1,
        "retired": False,
        "body": json.dumps(body),
    }
    return default | changes


def known(*rows: Mapping[str, object]) -> pl.DataFrame:
    """Lay out the catalog's history."""
    return pl.DataFrame(list(rows), schema=KNOWN_SCHEMA)


def good_bodies() -> Iterator[bytes]:
    """Yield documents that hold the one good record."""
    yield json.dumps([GOOD]).encode()
    yield json.dumps({"items": [GOOD]}).encode()
    yield json.dumps({"note": {"items": []}, "items": [GOOD], "more": [1]}).encode()
