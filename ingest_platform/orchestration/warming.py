"""Doing once at start what the first submission would wait for otherwise: imports, compiled checks, the opened lake.

Nothing is written that anybody can see: the example of the feed's contract is read and checked, and not stored.
"""

import json
from datetime import UTC, datetime

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.ids import new_id
from ingest_platform.domain.submission import Encoding, Format, Submission
from ingest_platform.orchestration.workplace import Workplace
from ingest_platform.pipeline.given import staging_folder
from ingest_platform.pipeline.work import Reading, Stopwatch
from ingest_platform.storage.warehouse import prefix_of, quoted, rows_of


def warm_up(place: Workplace, feed: Feed) -> None:
    """Go the path of one record of the feed, up to the warehouse's door."""
    example = example_of(feed)
    with staging_folder(place.platform.staging_dir, new_id("warm_")) as folder:
        Reading(place.platform, feed, [example], folder=folder, watch=Stopwatch(), progress=lambda: None).finish()
    place.platform.warehouse.ensure([feed.table])
    # A name of a declaration, quoted.
    job_id = quoted(prefix_of(feed.table) + "job_id")
    query = f"SELECT count(*) FROM {rows_of(feed.table.name)} WHERE {job_id} = ?"  # noqa: S608
    place.platform.warehouse.query(query, [example.job_id])


def example_of(feed: Feed) -> Submission:
    """Make the submission that the contract's examples describe; it is nobody's."""
    record = {field.name: field.example for field in feed.contract.fields if field.example is not None}
    body = json.dumps([record]).encode()
    return Submission(
        job_id=new_id(feed.job_prefix),
        seq=0,
        workspace="",
        feed=feed.name,
        target=None,
        format=Format.JSON,
        encoding=Encoding.IDENTITY,
        origin="api",
        body=body,
        blob=None,
        bytes_in=len(body),
        sites=None,
        catalog_revision=0,
        accepted_at=datetime.now(UTC),
        attempts=1,
    )
