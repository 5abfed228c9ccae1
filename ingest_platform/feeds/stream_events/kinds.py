"""What `ingest apply` declares for streams: the streams themselves, and the destinations that their events go to.

What a pipeline must be is in `declaration/`, what each type of destination is in `destinations/`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from ingest_platform.domain.feed import DeclaredKind, Flaw, Reference, Tried
from ingest_platform.feeds.stream_events.declaration import Envelope
from ingest_platform.feeds.stream_events.declaration.place import WrongPipeline
from ingest_platform.feeds.stream_events.declaration.reading import read_pipeline
from ingest_platform.feeds.stream_events.declaration.routes import DESTINATION_NAME
from ingest_platform.feeds.stream_events.declaration.tables import with_tables
from ingest_platform.feeds.stream_events.destinations.destination import destination_types, filled
from ingest_platform.feeds.stream_events.shapes import STREAMS as STREAMS_SECTION

DESTINATIONS_SECTION = "destinations"
# A UUID, or a name; it is a folder's name below landing/ and the value of a header.
STREAM_ID = "[a-z0-9][a-z0-9_-]{0,62}"
_TYPE = "type"


def check_stream(body: Mapping[str, object], *, given: Mapping[str, str]) -> Sequence[Flaw]:
    """Find everything that is wrong with a stream."""
    assert not given, "streams have no secrets"
    try:
        read_pipeline(body)
    except WrongPipeline as wrong:
        return [Flaw(path=fault.path, message=fault.message) for fault in wrong.faults]
    return ()


def prepare_stream(body: Mapping[str, object], *, folder: Path) -> tuple[Mapping[str, object], Sequence[Flaw]]:
    """Put the lookup tables of files into a stream."""
    whole, wrong = with_tables(body, folder)
    return whole, [Flaw(path=path, message=message) for path, message in wrong]


def destinations_in(body: Mapping[str, object]) -> list[Reference]:
    """List the destinations that the routes of a sound stream name, each time they do."""
    routes = cast("Mapping[str, object]", body.get("routes") or {})
    rules = cast("list[Mapping[str, object]]", routes.get("rules") or [])
    named = [(f"routes.rules[{number}].to", rule.get("to")) for number, rule in enumerate(rules)]
    return [
        each for path, names in (*named, ("routes.otherwise", routes.get("otherwise"))) for each in _of(path, names)
    ]


def _of(path: str, names: object) -> Iterator[Reference]:
    """List the names of one place; there may be the word that names none."""
    if isinstance(names, list):
        for number, name in enumerate(cast("list[str]", names)):
            yield Reference(path=f"{path}[{number}]", section=DESTINATIONS_SECTION, id=name)


def try_stream(body: Mapping[str, object], samples: bytes) -> Sequence[Tried]:
    """Try a stream on the events of a file (`trial.py`)."""
    # It loads what only runs need, for half a second, in whichever process knows this kind.
    from ingest_platform.feeds.stream_events import trial  # noqa: PLC0415

    return trial.try_stream(body, samples)


def check_destination(body: Mapping[str, object], *, given: Mapping[str, str]) -> Sequence[Flaw]:
    """Find everything that is wrong with a destination. A secret must come from the environment, not from the file."""
    types = destination_types()
    word = body.get(_TYPE)
    if not isinstance(word, str) or word not in types:
        said = "is missing; it is" if word is None else "must be"
        return [Flaw(path=_TYPE, message=f"{said} one of {', '.join(sorted(types))}")]
    kind = types[word]
    plain = sorted(name for name in kind.secrets if isinstance(body.get(name), str) and name not in given)
    return [
        *(Flaw(path=name, message="is a secret; give it as ${VARIABLE}, not in the file itself") for name in plain),
        *(
            Flaw(path=fault.path, message=fault.message)
            for fault in kind.read(filled(body, given))
            if fault.path not in plain
        ),
    ]


STREAMS = DeclaredKind(
    section=STREAMS_SECTION,
    id_field="id",
    id_pattern=f"^{STREAM_ID}$",
    fields={},
    defaults={"envelope": Envelope.STRICT.value},
    check=check_stream,
    prepare=prepare_stream,
    references=destinations_in,
    fixed=("envelope",),
    example={"name": "example", "routes": {"match": "first", "rules": [], "otherwise": "drop"}},
    trial=try_stream,
)
DESTINATIONS = DeclaredKind(
    section=DESTINATIONS_SECTION,
    id_field="name",
    id_pattern=f"^{DESTINATION_NAME}$",
    fields={},
    check=check_destination,
    variables=True,
    by_id=True,
    example={"type": "files", "path": "exports/example/"},
)
