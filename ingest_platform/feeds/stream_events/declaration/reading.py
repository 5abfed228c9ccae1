"""A stream's declaration, read: the pipeline that it is, or every fault of it with its place."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from ingest_platform.feeds.stream_events.declaration.masks import MASKS_MAX, read_mask
from ingest_platform.feeds.stream_events.declaration.pipeline import Envelope, Pipeline
from ingest_platform.feeds.stream_events.declaration.place import Place, WrongPipeline
from ingest_platform.feeds.stream_events.declaration.routes import read_routes
from ingest_platform.feeds.stream_events.declaration.steps import STEPS_MAX, read_enrich, read_parse

# The fields of a declared stream, besides its id.
FIELDS = ("name", "envelope", "parse", "enrich", "mask", "routes")
NAME_CHARACTERS_MAX = 100
Value = TypeVar("Value")


def read_pipeline(body: Mapping[str, object]) -> Pipeline:
    """Read what was declared. Raises WrongPipeline with all faults, in the order in which they stand."""
    place = Place(value=body)
    found = place.fields(*FIELDS, required=("name", "routes"))
    name = found["name"].text(most=NAME_CHARACTERS_MAX) if "name" in found else None
    envelope = found["envelope"].word(Envelope) if "envelope" in found else Envelope.STRICT
    parse = _each(found, "parse", most=STEPS_MAX, read=read_parse)
    enrich = _each(found, "enrich", most=STEPS_MAX, read=read_enrich)
    masks = _each(found, "mask", most=MASKS_MAX, read=read_mask)
    routes = read_routes(found["routes"]) if "routes" in found else None
    if place.faults:
        raise WrongPipeline(place.faults)
    assert name is not None
    assert envelope is not None
    assert routes is not None
    return Pipeline(name=name, envelope=envelope, parse=parse, enrich=enrich, masks=masks, routes=routes)


def _each(
    found: Mapping[str, Place], name: str, *, most: int, read: Callable[[Place], Value | None]
) -> tuple[Value, ...]:
    places = found[name].entries(most=most) if name in found else []
    return tuple(value for place in places if (value := read(place)) is not None)
