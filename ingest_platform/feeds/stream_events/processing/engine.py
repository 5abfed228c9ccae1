"""A frame of events through a pipeline: parse, enrich, mask, route, sample. Which pipeline it is, is not known here.

Only what the pipeline looks at is decoded, and only what it changes is encoded again; an event that no step touches is
stored as it was sent.
"""

import contextlib
import gc
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ingest_platform.domain.rejection import Problem
from ingest_platform.feeds.stream_events.contract import DOCUMENT, SOURCE, TIMESTAMP
from ingest_platform.feeds.stream_events.declaration.pipeline import Envelope, Path, Pipeline
from ingest_platform.feeds.stream_events.envelopes import event_of, problems_of
from ingest_platform.feeds.stream_events.language import columns_of
from ingest_platform.feeds.stream_events.language.columns import Kind, column_name
from ingest_platform.feeds.stream_events.load import ROUTED
from ingest_platform.feeds.stream_events.processing.enriching import enrich
from ingest_platform.feeds.stream_events.processing.flat import decode, encode, flatten
from ingest_platform.feeds.stream_events.processing.hiding import MaskKey
from ingest_platform.feeds.stream_events.processing.masking import Masker, fields_of
from ingest_platform.feeds.stream_events.processing.parsing.parse import CODE, parse
from ingest_platform.feeds.stream_events.processing.projecting import Document, Project, projection
from ingest_platform.feeds.stream_events.processing.routing import Places, route

# Each step has a cost of its own, whatever the number of events; decoded, their text takes five times its memory.
SLICE_EVENTS = 32_768
SLICE_BYTES = 16 * 1024 * 1024
# While one waits for the interpreter, the other is with Polars, which does not need it: about half of the time.
THREADS = 2
PARALLEL_EVENTS_MIN = 8_192
_SOURCE: Path = (SOURCE.name,)
_SOURCE_COLUMN = column_name(_SOURCE, Kind.STRING)
EVENTS_SCHEMA: Mapping[str, pl.DataType] = {
    "submission": pl.UInt32(),
    "record_index": pl.Int64(),
    TIMESTAMP.name: pl.Datetime("us", "UTC"),
    SOURCE.name: pl.String(),
    "decision": pl.String(),
    "rules": pl.String(),
    "destinations": pl.String(),
    DOCUMENT: pl.String(),
    "faults": pl.String(),
}
PROBLEMS_SCHEMA: Mapping[str, pl.DataType] = {
    "submission": pl.UInt32(),
    "record_index": pl.Int64(),
    "code": pl.String(),
    "field": pl.String(),
    "message": pl.String(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """What became of a frame: `events` (EVENTS_SCHEMA), and `problems` (PROBLEMS_SCHEMA) of those that are rejected."""

    events: pl.DataFrame
    problems: pl.DataFrame


def process(frame: pl.DataFrame, pipeline: Pipeline, *, job_ids: Mapping[int, str], key: MaskKey | None) -> Processed:
    """Take events of one version of a stream through its pipeline.

    `frame` has `submission`, `record_index`, `timestamp` and `document` (each event as JSON text, an object that keeps
    the contract); `job_ids` by submission. `key` is needed by masks that hash.
    """
    machine = _Machine.of(pipeline, key)
    slices = _slices(frame)
    with _no_collector():
        if len(slices) == 1:
            parts = [_process(each, machine, job_ids) for each in slices]
        else:
            with ThreadPoolExecutor(max_workers=THREADS) as pool:
                parts = list(pool.map(lambda each: _process(each, machine, job_ids), slices))
    return Processed(
        events=pl.concat([pl.DataFrame(schema=EVENTS_SCHEMA), *(part.events for part in parts)]),
        problems=pl.concat([pl.DataFrame(schema=PROBLEMS_SCHEMA), *(part.problems for part in parts)]),
    )


def _slices(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """Cut a frame into slices of one size, as many for each thread."""
    total = int(frame[DOCUMENT].str.len_bytes().sum())
    count = max(math.ceil(frame.height / SLICE_EVENTS), math.ceil(total / SLICE_BYTES), 1)
    if frame.height >= PARALLEL_EVENTS_MIN:
        count = math.ceil(count / THREADS) * THREADS
    return list(frame.iter_slices(max(1, math.ceil(frame.height / count))))


@contextlib.contextmanager
def _no_collector() -> Generator[None]:
    """Keep Python from looking for cycles among decoded events, which have none: it would look again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """A pipeline, and what follows from it for every frame."""

    pipeline: Pipeline
    masker: Masker
    # Of the rules, and of the table's own columns.
    paths: frozenset[Path]
    project: Project = field(repr=False)

    @classmethod
    def of(cls, pipeline: Pipeline, key: MaskKey | None) -> "_Machine":
        paths = frozenset({_SOURCE}).union(*(rule.when.paths for rule in pipeline.routes.rules))
        return cls(
            pipeline=pipeline,
            masker=Masker(masks=pipeline.masks, key=key),
            paths=paths,
            project=projection(paths),
        )

    @property
    def rewrites(self) -> bool:
        """Whether events are changed before they are masked."""
        return self.pipeline.envelope is Envelope.AUTO or bool(self.pipeline.parse or self.pipeline.enrich)

    @property
    def masks_what_rules_read(self) -> bool:
        """Whether what was decoded before is not what the rules see."""
        return any(
            path[: len(each)] == each or each[: len(path)] == path
            for path in self.paths
            for each in fields_of(self.pipeline.masks)
        )


def _process(frame: pl.DataFrame, machine: _Machine, job_ids: Mapping[int, str]) -> Processed:
    problems = pl.DataFrame(schema=PROBLEMS_SCHEMA)
    texts = frame[DOCUMENT]
    documents = None
    if machine.rewrites:
        documents, found = _rewritten(texts, machine.pipeline)
        problems = _problems(frame, found)
        good = np.array([place not in found for place in range(frame.height)], dtype=np.bool_)
        frame, texts = frame.filter(pl.Series(good)), encode(documents)
    texts, documents = _masked(texts, documents, machine)
    columns = columns_of(documents, machine.paths)
    routed = route(columns, machine.pipeline.routes, _places(frame, job_ids))
    source = columns[_SOURCE_COLUMN] if _SOURCE_COLUMN in columns.columns else pl.lit(None, dtype=pl.String)
    events = frame.select("submission", "record_index", TIMESTAMP.name).with_columns(
        source.alias(SOURCE.name),
        *routed.get_columns(),
        # What goes nowhere is not kept.
        pl.when(routed["decision"] == ROUTED).then(texts.alias(DOCUMENT)).alias(DOCUMENT),
    )
    return Processed(events=events.select(list(EVENTS_SCHEMA)).cast(pl.Schema(EVENTS_SCHEMA)), problems=problems)


def _places(frame: pl.DataFrame, job_ids: Mapping[int, str]) -> Places:
    submissions, jobs = np.unique(frame["submission"].to_numpy(), return_inverse=True)
    return Places(
        job_ids=[job_ids[submission] for submission in submissions.tolist()],
        jobs=jobs.astype(np.int64),
        indexes=frame["record_index"].to_numpy(),
    )


def _rewritten(texts: pl.Series, pipeline: Pipeline) -> tuple[list[Document], dict[int, list[Problem]]]:
    """Bring events into their form, parse and enrich; the good ones, and the problems of the others by their place."""
    documents = decode(texts.to_list())
    problems: dict[int, list[Problem]] = {}
    if pipeline.envelope is Envelope.AUTO:
        problems = {place: list(found) for place, each in enumerate(documents) if (found := problems_of(each))}
    places = [place for place in range(len(documents)) if place not in problems]
    good = [documents[place] for place in places]
    if pipeline.envelope is Envelope.AUTO:
        good = [event_of(each) for each in good]
    for fault in parse(good, pipeline.parse):
        if fault.rejects:
            problem = Problem(code=CODE, field=fault.field, message=fault.message)
            problems.setdefault(places[fault.place], []).append(problem)
    good = [each for place, each in zip(places, good, strict=True) if place not in problems]
    enrich(good, pipeline.enrich)
    return good, problems


def _problems(frame: pl.DataFrame, problems: Mapping[int, Sequence[Problem]]) -> pl.DataFrame:
    submissions, indexes = frame["submission"], frame["record_index"]

    def rows() -> Iterator[tuple[int, int, str, str | None, str]]:
        for place in sorted(problems):
            for each in problems[place]:
                yield submissions[place], indexes[place], each.code, each.field, each.message

    return pl.DataFrame(rows(), schema=dict(PROBLEMS_SCHEMA), orient="row")


def _masked(texts: pl.Series, documents: list[Document] | None, machine: _Machine) -> tuple[pl.Series, list[Document]]:
    """Mask events; give them, and decoded what the rules look at, as it is behind the masks."""
    if not machine.pipeline.masks:
        return texts, machine.project(texts.to_list()) if documents is None else documents
    flat = flatten(texts)
    changed = machine.masker.apply(flat)
    texts = flat.json()
    if documents is None or machine.masks_what_rules_read:
        return texts, machine.project(texts.to_list())
    places = np.flatnonzero(changed)
    for place, document in zip(places.tolist(), machine.project(texts.gather(places).to_list()), strict=True):
        documents[place] = document
    return texts, documents
