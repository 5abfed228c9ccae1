"""Bytes are forgotten by the version that stood when they were accepted."""

import json

import polars as pl
import pytest

from ingest_platform.feeds.stream_events.masked import forgets
from ingest_platform.pipeline.references import KNOWN_SCHEMA

MASK = {"mask": [{"pattern": "email", "how": "redact"}]}


def _entry(id_: str, version: int, revision: int, body: object, *, retired: bool = False) -> dict[str, object]:
    return {
        "workspace": "acme",
        "kind": "streams",
        "id": id_,
        "version": version,
        "revision": revision,
        "retired": retired,
        "body": json.dumps(body),
    }


KNOWN = pl.DataFrame(
    [
        _entry("s1", 1, 3, {}),
        _entry("s1", 2, 5, MASK),
        _entry("s1", 3, 7, {"mask": []}),
        _entry("s2", 1, 1, MASK),
        _entry("s2", 2, 4, {}, retired=True),
    ],
    schema=KNOWN_SCHEMA,
)


@pytest.mark.parametrize(
    ("target", "revision", "expected"),
    [("s1", 4, False), ("s1", 5, True), ("s1", 6, True), ("s1", 7, False), ("s2", 9, True), ("s1", 2, True)],
)
def test_the_version_at_the_revision_decides(target: str, revision: int, expected: bool) -> None:  # noqa: FBT001
    assert forgets(KNOWN, workspace="acme", target=target, revision=revision) is expected


def test_what_is_not_known_is_forgotten() -> None:
    assert forgets(KNOWN, workspace="globex", target="s1", revision=4)
    assert forgets(KNOWN, workspace="acme", target=None, revision=4)
