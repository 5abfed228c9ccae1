"""Parse steps: structure lifted out of the texts of a field into the object at `into`, a frame of events at a time.

`into` is the object in which the field stands, unless another is declared (of a field at the top: `event`).
What is found replaces members of the same names, the field's own text among them; objects are merged with objects. A
field that is missing or null is no error; one that is no text, or a text without the declared form, is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingest_platform.feeds.stream_events.declaration.paths import write_path
from ingest_platform.feeds.stream_events.declaration.pipeline import OnError, ParseKind, ParseStep
from ingest_platform.feeds.stream_events.processing.parsing import (
    csv,
    grok,
    json,
    logfmt,
    regex,
    syslog,
    url,
    user_agent,
)
from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted, Members
from ingest_platform.feeds.stream_events.processing.paths import Document, gather, is_object, objects_at

CODE = "unparsable"
# Those that need to know nothing but the texts.
_LIFTERS: Mapping[ParseKind, Callable[[Sequence[str]], Iterator[Lifted]]] = {
    ParseKind.LOGFMT: logfmt.lift,
    ParseKind.URL: url.lift,
    ParseKind.USER_AGENT: user_agent.lift,
    ParseKind.SYSLOG: syslog.lift,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFault:
    """A text that could not be parsed: of which event (its place in the frame) and step, and what is said of it.

    `rejects`: the event is rejected, and no later step has looked at it. Else it stays as it was before the step.
    """

    place: int
    step: int
    field: str
    message: str
    rejects: bool


def parse(documents: Sequence[Document], steps: Sequence[ParseStep]) -> list[ParseFault]:
    """Apply parse steps to events, in place. Faults stand in the order of the steps, then of the events."""
    faults: list[ParseFault] = []
    places: Sequence[int] = range(len(documents))
    left = documents
    for number, step in enumerate(steps):
        field, rejects = write_path(step.field), step.on_error is OnError.REJECT
        found = [
            ParseFault(place=places[place], step=number, field=field, message=message, rejects=rejects)
            for place, message in _apply(left, step)
        ]
        faults += found
        if found and rejects:
            rejected = {fault.place for fault in found}
            places = [place for place in places if place not in rejected]
            left = [documents[place] for place in places]
    return faults


def _apply(documents: Sequence[Document], step: ParseStep) -> Iterable[tuple[int, str]]:
    """Apply a step; returns the places of events that it can't be applied to, and why."""
    values = gather(documents, step.field)
    places = [place for place, value in enumerate(values) if isinstance(value, str)]
    into = step.into or step.field[:-1] or ("event",)
    targets = gather(documents, into)
    lifted = _lift([value for value in values if isinstance(value, str)], step, within=len(into))
    unfit: list[int] = []
    for place, members in zip(places, lifted, strict=True):
        if members is None:
            unfit.append(place)
        else:
            target = targets[place]
            _merge(target if is_object(target) else objects_at([documents[place]], into)[0], members)
    # Without the value: it may be what a later step masks.
    message = f"{write_path(step.field)} could not be parsed as {step.as_.value}."
    bad = [(place, message) for place in unfit]
    if len(places) == len(values):
        return bad
    message = f"{write_path(step.field)} must be a string, to be parsed as {step.as_.value}."
    return sorted(bad + [(place, message) for place, value in enumerate(values) if _is_other(value)])


def _lift(texts: Sequence[str], step: ParseStep, *, within: int) -> Iterator[Lifted]:
    match step.as_:
        case ParseKind.JSON:
            return json.lift(texts, within=within)
        case ParseKind.REGEX | ParseKind.GROK:
            assert step.pattern is not None, "it was asked for when the stream was applied"
            return (regex if step.as_ is ParseKind.REGEX else grok).lift(texts, step.pattern)
        case ParseKind.CSV:
            return csv.lift(texts, columns=step.columns, separator=step.separator)
        case ParseKind.LOGFMT | ParseKind.URL | ParseKind.USER_AGENT | ParseKind.SYSLOG:
            return _LIFTERS[step.as_](texts)


def _is_other(value: object) -> bool:
    return value is not None and not isinstance(value, str)


def _merge(target: Document, members: Members) -> None:
    if not is_object(members) or target.keys().isdisjoint(members):
        target.update(members)
        return
    for name, value in members.items():
        there = target.get(name)
        if is_object(value) and is_object(there):
            _merge(there, value)
        else:
            target[name] = value
