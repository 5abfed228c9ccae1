"""What becomes of the events of a load: each goes through the version of its stream that stood when it was accepted.

This is the feed's `refer`: a pure function of its frames, which runs in the sandbox's process, too. The pipeline itself
is `processing/`.
"""

import functools
import json
from collections.abc import Mapping

import polars as pl

from ingest_platform.domain.rejection import Code
from ingest_platform.feeds.stream_events.declaration.pipeline import Pipeline
from ingest_platform.feeds.stream_events.declaration.reading import read_pipeline
from ingest_platform.feeds.stream_events.processing.engine import EVENTS_SCHEMA, PROBLEMS_SCHEMA, process
from ingest_platform.feeds.stream_events.processing.hiding import MaskKey, mask_key
from ingest_platform.feeds.stream_events.shapes import STREAMS

# A worker meets a few versions of a few streams again and again; with its lookup tables one may be a megabyte.
PIPELINES_MAX = 128
NOT_FOUND = "There is no such stream."
_SCHEMA: Mapping[str, pl.DataType] = {**EVENTS_SCHEMA, "stream_id": pl.String(), "stream_version": pl.Int32()}


def refer(frame: pl.DataFrame, *, origins: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take events through their pipelines; give the columns of the table, and the problems of rejected events."""
    job_ids = dict(origins.select("submission", "job_id").iter_rows())
    events = [pl.DataFrame(schema=dict(_SCHEMA))]
    problems = [pl.DataFrame(schema=dict(PROBLEMS_SCHEMA))]
    versions = _versions(frame, origins, known).partition_by("workspace", "target", "version")
    for version in versions:
        part = frame
        if len(versions) > 1:
            part = frame.filter(pl.col("submission").is_in(version["submission"].implode()))
        if version["version"][0] is None:
            problems.append(_not_found(part))
            continue
        pipeline, key = _pipeline(version["body"][0]), _key(version["secret"][0])
        done = process(part, pipeline, job_ids=job_ids, key=key)
        named = version.select(pl.col("target").alias("stream_id"), pl.col("version").alias("stream_version")).head(1)
        events.append(done.events.join(named, how="cross").select(list(_SCHEMA)))
        problems.append(done.problems)
    return pl.concat(events).sort("submission", "record_index"), pl.concat(problems)


def _versions(frame: pl.DataFrame, origins: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Find for each submission in a frame the version of its stream: the last that stood when it was accepted.

    One that was retired meanwhile still works off what it was sent.
    """
    stood = known.filter(pl.col("kind") == STREAMS, ~pl.col("retired")).rename({"id": "target"})
    present = origins.join(frame.select("submission").unique(), on="submission", how="semi")
    found = (
        present.join(stood.select("workspace", "target", "version", "revision", "body"), on=["workspace", "target"])
        .filter(pl.col("revision") <= pl.col("catalog_revision"))
        .sort("version")
        .unique("submission", keep="last")
    )
    return present.select("submission", "workspace", "target", "secret").join(
        found.select("submission", "version", "body"), on="submission", how="left", maintain_order="left"
    )


def _not_found(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(
        "submission",
        "record_index",
        code=pl.lit(Code.NOT_FOUND.value),
        field=pl.lit(None, dtype=pl.String),
        message=pl.lit(NOT_FOUND),
    )


@functools.lru_cache(maxsize=PIPELINES_MAX)
def _pipeline(body: str) -> Pipeline:
    # By what was declared, of which it is a function.
    return read_pipeline(json.loads(body))


def _key(secret: bytes | None) -> MaskKey | None:
    return None if secret is None else mask_key(secret)
