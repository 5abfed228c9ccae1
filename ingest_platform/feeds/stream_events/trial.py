"""A stream tried on sample events before it is applied: each one's way, by the functions that a run goes through.

No store is touched. Two things are other than they will be: the ids of events, from which samples are drawn, and the
key of tokens.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import msgspec
import polars as pl

from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.feed import Tried
from ingest_platform.domain.rejection import Problem, reasons
from ingest_platform.feeds.stream_events.contract import DOCUMENT
from ingest_platform.feeds.stream_events.declaration.pipeline import Envelope, Match, Pipeline, Routes
from ingest_platform.feeds.stream_events.declaration.reading import read_pipeline
from ingest_platform.feeds.stream_events.declaration.routes import OTHERWISE
from ingest_platform.feeds.stream_events.envelopes import event_of, problems_of
from ingest_platform.feeds.stream_events.load import EVENT_ID_PREFIX
from ingest_platform.feeds.stream_events.processing.engine import process
from ingest_platform.feeds.stream_events.processing.enriching import enrich
from ingest_platform.feeds.stream_events.processing.flat import decode
from ingest_platform.feeds.stream_events.processing.hiding import mask_key
from ingest_platform.feeds.stream_events.processing.parsing.parse import parse
from ingest_platform.feeds.stream_events.processing.sampling import draw_of
from ingest_platform.feeds.stream_events.shapes import contract_of
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.documents import BOM, split_document
from ingest_platform.pipeline.parse import parse_lines
from ingest_platform.pipeline.records import BLANKS, DECODE_ERRORS

# Whoever tries a declaration reads what becomes of each.
SAMPLES_MAX = 10_000
REJECTED = "rejected"
# The same in each trial, so that one is repeated exactly.
_JOB = f"{EVENT_ID_PREFIX}{'0' * 26}"
_KEY = mask_key(bytes(32))
# By these routes every event is kept as it is behind the masks, wherever it really goes.
_EVERYWHERE = Routes(match=Match.FIRST, rules=(), otherwise=("everywhere",))
_is_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder(dict[str, object]).decode
_weights = msgspec.json.Decoder(dict[str, int | float]).decode
_encode = msgspec.json.encode

Document = dict[str, object]
Told = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """An accepted event after each part of its pipeline; None where nothing was changed."""

    parsed: Document | None
    enriched: Document | None
    # What the masks are given.
    last: Document
    # What could not be parsed and is kept.
    unparsed: Sequence[str]


def try_stream(body: Mapping[str, object], samples: bytes) -> Sequence[Tried]:
    """Try a sound declaration on the events of a file: one, an array, or one a line. Raises Unreadable."""
    pipeline = read_pipeline(body)
    contract = contract_of(pipeline.envelope)
    nothing = pl.DataFrame()
    parsed = parse_lines(records := _events_of(samples), 0, contract)
    checked = check(parsed, contract, refer=None, origins=nothing, known=nothing)
    frame = checked.accepted
    real = process(frame, pipeline, job_ids={0: _JOB}, key=_KEY)
    shown = process(frame, replace(pipeline, routes=_EVERYWHERE), job_ids={0: _JOB}, key=_KEY)
    problems = {each.record_index: each.problems for each in checked.rejections} | _problems(real.problems)
    masked: dict[int, str] = dict(shown.events.select("record_index", DOCUMENT).iter_rows())
    steps = dict(_steps(frame, pipeline))
    rows = {row["record_index"]: row for row in real.events.iter_rows(named=True)}
    return [
        _rejected(index, problems[index])
        if index in problems
        else _taken(index, rows[index], steps[index], _decode(masked[index]), pipeline)
        for index in range(len(records))
    ]


def _events_of(samples: bytes) -> list[bytes]:
    """Cut a file into events."""
    plain = samples.removeprefix(BOM).strip(BLANKS)
    try:
        _is_object(plain)
        records = [plain]
    except DECODE_ERRORS:
        alone = plain.startswith(b"[")
        records = split_document(plain, "") if alone else [line for line in plain.split(b"\n") if line.strip(BLANKS)]
    if not records:
        raise Unreadable("There are no events in the file; give one, an array of them, or one a line.")
    if len(records) > SAMPLES_MAX:
        raise Unreadable(f"There are {len(records):,} events in the file; a trial takes at most {SAMPLES_MAX:,}.")
    return records


def _problems(problems: pl.DataFrame) -> dict[int, tuple[Problem, ...]]:
    found: dict[int, tuple[Problem, ...]] = {}
    for index, code, field, message in problems.select("record_index", "code", "field", "message").iter_rows():
        found[index] = (*found.get(index, ()), Problem(code=code, field=field, message=message))
    return found


def _steps(frame: pl.DataFrame, pipeline: Pipeline) -> Iterator[tuple[int, _Steps]]:
    """Go with each event through what comes before the masks, part by part."""
    for index, text in frame.select("record_index", DOCUMENT).iter_rows():
        (document,) = decode([text])
        if pipeline.envelope is Envelope.AUTO:
            if problems_of(document):
                continue
            document = event_of(document)
        before = copy.deepcopy(document)
        faults = parse([document], pipeline.parse)
        parsed = copy.deepcopy(document)
        if not any(fault.rejects for fault in faults):
            enrich([document], pipeline.enrich)
        unparsed = [f"parse[{fault.step}]: {fault.message}" for fault in faults]
        yield (
            index,
            _Steps(
                parsed=parsed if parsed != before else None,
                enriched=document if document != parsed else None,
                last=document,
                unparsed=unparsed,
            ),
        )


def _rejected(index: int, problems: Sequence[Problem]) -> Tried:
    lines = [f"event {index}: {REJECTED}", *(f"  {problem.code}: {problem.message}" for problem in problems)]
    told: Told = {"index": index, "decision": REJECTED, "reasons": reasons(problems)}
    return Tried(told=told, lines=lines, outcomes=[REJECTED])


def _taken(index: int, row: Mapping[str, str | None], steps: _Steps, masked: Document, pipeline: Pipeline) -> Tried:
    decision = str(row["decision"])
    weights = _weights(row["destinations"] or "{}")
    rules = [_rule(name, index, pipeline) for name in _names(row["rules"]) if name != OTHERWISE]
    told: Told = {
        "index": index,
        "decision": decision,
        "rules": [asdict(rule) for rule in rules],
        "faults": _names(row["faults"]),
        "destinations": weights,
        "unparsed": list(steps.unparsed),
        "parsed": steps.parsed,
        "enriched": steps.enriched,
        "masked": None if masked == steps.last else masked,
    }
    goes = ", ".join(f"{name} (weight {weight:g})" for name, weight in weights.items())
    shown = {"parsed": steps.parsed, "enriched": steps.enriched, "masked": told["masked"]}
    lines = [
        f"event {index}: {decision.replace('_', ' ')}{f' to {goes}' if goes else ''}",
        *(f"  {each} It is kept as it is." for each in steps.unparsed),
        *(f"  {name}: {_encode(document).decode()}" for name, document in shown.items() if document is not None),
        *(f"  rule {name} is not met: a value has another type than it asks for" for name in _names(row["faults"])),
        *([str(rule) for rule in rules] or [f"  no rule is met: {'otherwise' if weights else 'it is dropped'}"]),
    ]
    return Tried(told=told, lines=lines, outcomes=[decision, *(f"to {name}" for name in weights)])


def _names(text: str | None) -> list[str]:
    return text.split(",") if text else []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A rule that took an event; a rule that samples has drawn for it."""

    name: str
    sample: float
    draw: float | None
    kept: bool

    def __str__(self) -> str:
        if self.draw is None:
            return f"  rule {self.name} takes it"
        drawn = f"draw {self.draw:.4f} {'<' if self.kept else '≥'} {self.sample:g}"
        return f"  rule {self.name} takes it: {drawn}, so it is {'kept' if self.kept else 'sampled out'}"


def _rule(name: str, index: int, pipeline: Pipeline) -> _Rule:
    (rule,) = (rule for rule in pipeline.routes.rules if rule.name == name)
    if rule.sample == 1:
        return _Rule(name=name, sample=1.0, draw=None, kept=True)
    draw = draw_of(f"{_JOB}-{index}", name)
    return _Rule(name=name, sample=rule.sample, draw=draw, kept=draw < rule.sample)
