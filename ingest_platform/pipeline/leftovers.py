"""What processes that were killed left on the disk and in the blob store, and nobody will ever ask for."""

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import islice

from ingest_platform.domain.ids import ULID_LENGTH, encode_crockford
from ingest_platform.pipeline.forgetting import delete_forgotten
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import jobs, scratch

# The bodies of submissions that are too large for their row; the rest of the key is the job's id.
SUBMISSIONS_PREFIX = "submissions/"
# Between a body and its job lies the rest of one request; no clock is wrong by a day.
ORPHAN_AGE = timedelta(days=1)
# The milliseconds at the front of a ULID.
_ULID_TIME_LENGTH = 10
_ASKED_TOGETHER = 1_000


def sweep_scratch(platform: Platform) -> Mapping[str, int]:
    """Delete what loads of dead processes staged and spilled; how many folders of each."""
    return {
        "staging folders deleted": scratch.sweep(platform.staging_dir),
        "spill folders deleted": scratch.sweep(platform.spill_dir),
    }


def sweep_blobs(platform: Platform, *, age: timedelta = ORPHAN_AGE) -> Mapping[str, int]:
    """Delete half-written blobs, and bodies that were never accepted: their API process died before it could."""
    orphans = 0
    doubted = _older(platform, age)
    while keys := list(islice(doubted, _ASKED_TOGETHER)):
        ids = {key.removeprefix(SUBMISSIONS_PREFIX): key for key in keys}
        with platform.ledger.connection() as tx:
            known = jobs.known_ids(tx, list(ids))
        for job_id in ids.keys() - known:
            platform.blobs.delete(ids[job_id])
            orphans += 1
    return {
        "half-written blobs deleted": platform.blobs.sweep(),
        "bodies without a job deleted": orphans,
        "forgotten blobs deleted": delete_forgotten(platform),
    }


def _older(platform: Platform, age: timedelta) -> Iterator[str]:
    until = encode_crockford(round((time.time() - age.total_seconds()) * 1000), length=_ULID_TIME_LENGTH)
    for key in platform.blobs.list(SUBMISSIONS_PREFIX):
        if key[-ULID_LENGTH:][:_ULID_TIME_LENGTH] < until:
            yield key
