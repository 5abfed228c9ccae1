"""Events of streams that take flat objects: what is wrong with one besides its timestamp, and the event that it is.

The door and the run both ask here, for what the contract of such a stream (`AUTO`) does not say. An object whose
`event` is an object is held to what every event is held to. Any other is flat: its `source` (or else its `service`) is
the event's, an object under `metadata` its metadata, and all the rest is what happened.
"""

from collections.abc import Mapping

from ingest_platform.domain.contract import WHITE_SPACE
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.feeds.stream_events.contract import EVENT, METADATA, SOURCE, STRICT, TIMESTAMP
from ingest_platform.pipeline.records import missing, reader_of
from ingest_platform.pipeline.rules import problem

# The second name under which a flat object may have its source.
SERVICE = "service"

Document = Mapping[str, object]


def problems_of(document: Document) -> tuple[Problem, ...]:
    """List what is wrong with a decoded record of such a stream, one that keeps the contract `AUTO`.

    >>> [found.message for found in problems_of({"timestamp": "2026-05-06T10:15:00Z", "level": "ERROR"})]
    ['source is missing.']
    """
    if not _is_enveloped(document):
        return () if _source_key(document) is not None else _problems_of_source(document)
    problems = _problems_of_source(document)
    if METADATA.name in document and not isinstance(document[METADATA.name], dict):
        return (*problems, _wrong_type(METADATA.name, "an object", document[METADATA.name]))
    return problems


def event_of(document: Document) -> dict[str, object]:
    """Give a record without problems the form of an event.

    >>> event_of({"timestamp": "2026-05-06T10:15:00Z", "service": "api", "level": "ERROR"})
    {'timestamp': '2026-05-06T10:15:00Z', 'source': 'api', 'event': {'level': 'ERROR'}}
    """
    if _is_enveloped(document):
        return dict(document)
    key = _source_key(document)
    assert key is not None
    taken = {TIMESTAMP.name, key}
    event: dict[str, object] = {TIMESTAMP.name: document[TIMESTAMP.name], SOURCE.name: document[key]}
    metadata = document.get(METADATA.name)
    if isinstance(metadata, dict):
        taken.add(METADATA.name)
        event[METADATA.name] = metadata
    event[EVENT.name] = {name: value for name, value in document.items() if name not in taken}
    return event


def _is_enveloped(document: Document) -> bool:
    return isinstance(document.get(EVENT.name), dict)


def _source_key(document: Document) -> str | None:
    """Tell where a flat object has its source: the first of the two names that has a text with something in it."""
    return next((name for name in (SOURCE.name, SERVICE) if _says(document.get(name))), None)


def _says(value: object) -> bool:
    return isinstance(value, str) and value.strip(WHITE_SPACE) != ""


def _problems_of_source(document: Document) -> tuple[Problem, ...]:
    if SOURCE.name not in document:
        return (missing(SOURCE),)
    source = document[SOURCE.name]
    if not isinstance(source, str):
        return (_wrong_type(SOURCE.name, "a string", source),)
    return tuple(rule.problem for rule in reader_of(STRICT).rules[SOURCE.name] if not rule.keeps(source))


def _wrong_type(name: str, wanted: str, value: object) -> Problem:
    return problem(Code.INVALID_TYPE, name, f"{name} must be {wanted}, but is {_name_of(value)}.")


def _name_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
