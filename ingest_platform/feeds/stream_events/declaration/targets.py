"""Which fields of an event a pipeline may write to, replace or take away; the others are what an event is."""

from ingest_platform.feeds.stream_events.declaration.pipeline import Path
from ingest_platform.feeds.stream_events.declaration.place import Place

EVENT, METADATA, TIMESTAMP, SOURCE = "event", "metadata", "timestamp", "source"


def changed(place: Place) -> Path | None:
    """Read the path of a field whose value is replaced or taken away."""
    path = place.way()
    if path is None:
        return None
    if path[0] == TIMESTAMP:
        place.wrong("timestamp can't be changed: events are kept and partitioned by it")
    elif path == (EVENT,):
        place.wrong("event itself must stay an object; name a field in it, such as event.message")
    else:
        return path
    return None


def read_text_of(place: Place) -> Path | None:
    """Read the path of a field whose text is parsed."""
    path = place.way()
    if path in {(EVENT,), (METADATA,), (TIMESTAMP,)}:
        place.wrong(f"{path[0] if path else ''} is no text; name a field with a text, such as event.message")
        return None
    return path


def filled(place: Place) -> Path | None:
    """Read the path of an object that gets members."""
    path = place.way()
    if path is not None and path[0] in {TIMESTAMP, SOURCE}:
        place.wrong(f"{path[0]} is no object; name event, metadata or a field in them")
        return None
    return path
