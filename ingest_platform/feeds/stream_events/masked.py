"""Which events' bytes may not be kept as they came: those of a version of a stream that masks anything."""

import json

import polars as pl

from ingest_platform.feeds.stream_events.shapes import STREAMS


def forgets(known: pl.DataFrame, *, workspace: str, target: str | None, revision: int) -> bool:
    """Tell whether the version that stood at a revision of the catalog has masks (`Feed.forgets`).

    What was accepted of a stream that is not known is forgotten: nobody can say that nothing in it is to be masked.
    """
    if target is None:
        return True
    versions = known.filter(kind=STREAMS, workspace=workspace, id=target, retired=False).filter(
        pl.col("revision") <= revision
    )
    if versions.is_empty():
        return True
    return bool(json.loads(versions.sort("version")["body"][-1]).get("mask"))
