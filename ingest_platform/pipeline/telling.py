"""Announce what a load did to the things that its records are about: ids noted on the way, told when it is settled.

Which outcome is announced as what is declared by the feed (`Announced`); where nobody asked, nothing is noted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from ingest_platform.domain.feed import Feed
from ingest_platform.domain.submission import Submission
from ingest_platform.pipeline.announce import make_event, wants
from ingest_platform.pipeline.given import Given, Withdrawn
from ingest_platform.pipeline.load import LoadedJob
from ingest_platform.storage import webhooks
from ingest_platform.storage.ledger import Ledger, Transaction
from ingest_platform.storage.webhooks import Event, Subscriber

# Ids of one event: about 3 kB, which every receiver takes.
IDS_MAX = 100
# Events of one type that one load announces to a workspace. A file of a million new records is no reason to call
# somebody ten thousand times: the last event says that there is more, and the job is announced as well.
EVENTS_MAX = 100
# Records of one load whose ids are noted, in 50 MB: far more than are ever told of, few enough for any load.
NOTED_MAX = 1_000_000


class Telling:
    """What is to be told of one load. Who asked is looked up before it is read, so that mostly nothing is done."""

    def __init__(self, ledger: Ledger, feed: Feed, submissions: Sequence[Submission]) -> None:
        self._announced = feed.announced
        self._submissions = submissions
        self._noted: list[pl.DataFrame] = []
        self._room = NOTED_MAX
        self._left_out = False
        self._asked = feed.announced is not None and self._anybody_asked(ledger)

    def _anybody_asked(self, ledger: Ledger) -> bool:
        with ledger.connection() as connection:
            to = webhooks.subscribers(connection, {each.workspace for each in self._submissions})
        return any(not set(each.events).isdisjoint(self._types.values()) for each in to)

    @property
    def _types(self) -> Mapping[int, str]:
        assert self._announced is not None
        return {outcome.value: type_ for outcome, type_ in self._announced.by_outcome.items()}

    def passing(self, frames: Iterable[Given]) -> Iterator[Given]:
        """Note the ids of accepted records while they pass."""
        if not self._asked:
            yield from frames
            return
        for given in frames:
            if isinstance(given, Withdrawn):
                self._noted = [each.filter(pl.col("submission") != given.submission) for each in self._noted]
                self._room = NOTED_MAX - sum(each.height for each in self._noted)
            else:
                self._note(given)
            yield given

    def _note(self, given: pl.DataFrame | Path) -> None:
        assert self._announced is not None
        place = (pl.col("submission").cast(pl.UInt32), pl.col("record_index").cast(pl.Int64))
        columns = [*place, pl.col(self._announced.id_column).alias("id")]
        if isinstance(given, Path):
            scanned = pl.scan_parquet(given) if given.suffix == ".parquet" else pl.scan_ipc(given)
            found = scanned.select(columns).head(self._room + 1).collect()
        else:
            found = given.lazy().select(columns).head(self._room + 1).collect()
        self._left_out = self._left_out or found.height > self._room
        self._noted.append(found.head(self._room))
        self._room -= self._noted[-1].height

    def announce(self, tx: Transaction, loaded: Mapping[str, LoadedJob]) -> None:
        """Announce what became of what was noted, in the transaction that settles the load."""
        if not self._noted or not loaded:
            return
        to = webhooks.subscribers(tx, {each.workspace for each in self._submissions})
        webhooks.announce(tx, list(self._events(to, loaded)), to)

    def _events(self, to: Sequence[Subscriber], loaded: Mapping[str, LoadedJob]) -> Iterator[Event]:
        found = self._with_outcomes(loaded)
        for workspace in sorted({each.workspace for each in to}):
            for outcome, type_ in self._types.items():
                if wants(to, workspace, type_):
                    which = (pl.col("workspace") == workspace) & (pl.col("outcome") == outcome)
                    ids = found.filter(which)["id"].unique(maintain_order=True).to_list()
                    yield from self._id_events(workspace, type_, ids)

    def _with_outcomes(self, loaded: Mapping[str, LoadedJob]) -> pl.DataFrame:
        """Join ids with what became of the records, in order of acceptance: `workspace`, `id`, `outcome`."""
        outcomes = pl.concat(
            pl.DataFrame({"record_index": job.record_index, "outcome": job.outcome}).with_columns(
                submission=pl.lit(ordinal, pl.UInt32), workspace=pl.lit(each.workspace)
            )
            for ordinal, each in enumerate(self._submissions)
            if (job := loaded.get(each.job_id)) is not None
        )
        ids = pl.concat(self._noted)
        return ids.join(outcomes, on=["submission", "record_index"]).sort("submission", "record_index")

    def _id_events(self, workspace: str, type_: str, ids: Sequence[str]) -> Iterator[Event]:
        assert self._announced is not None
        rest = iter(ids)
        pages = [page for _ in range(EVENTS_MAX) if (page := list(islice(rest, IDS_MAX)))]
        for place, page in enumerate(pages, start=1):
            more = place == len(pages) and (self._left_out or len(ids) > EVENTS_MAX * IDS_MAX)
            yield make_event(workspace, type_, {self._announced.ids_name: page, "more": more})
