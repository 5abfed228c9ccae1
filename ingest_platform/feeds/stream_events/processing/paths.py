"""Values on their way into and out of documents: a column of one path gathered, put back, taken away.

A document is a decoded event. Objects on the way to a value that is put are made where they are missing; what stands in
the way and is no object (a text, a list) gives way to one. Documents share nothing: whoever puts an object or a list
puts one that stands nowhere else (`fresh`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeGuard

Document = dict[str, object]


class Missing:
    """The value of a path at which nothing stands; null is a value."""


MISSING: Final = Missing()


def is_object(value: object) -> TypeGuard[Document]:
    """Tell whether a value of a document is an object.

    >>> is_object({}), is_object([]), is_object(None)
    (True, False, False)
    """
    return isinstance(value, dict)


def gather(documents: Sequence[Document], path: Sequence[str]) -> list[object]:
    """Take the values of a path, one for each document; what is missing is None, like null.

    >>> gather([{"event": {"level": "INFO"}}, {"event": {}}, {}], ("event", "level"))
    ['INFO', None, None]
    """
    *parents, name = path
    holders: Sequence[object] = documents
    for parent in parents:
        holders = [holder.get(parent) if isinstance(holder, dict) else None for holder in holders]
    return [holder.get(name) if isinstance(holder, dict) else None for holder in holders]


def take(documents: Sequence[Document], path: Sequence[str]) -> list[object]:
    """Take the values of a path away, one for each document; what is missing is MISSING."""
    *parents, name = path
    holders: Sequence[object] = documents
    for parent in parents:
        holders = [holder.get(parent) if isinstance(holder, dict) else None for holder in holders]
    return [holder.pop(name, MISSING) if isinstance(holder, dict) else MISSING for holder in holders]


def objects_at(documents: Iterable[Document], path: Sequence[str]) -> list[Document]:
    """Find the object at a path in each document, made where there is none; at () stands the document itself."""
    holders = list(documents)
    for name in path:
        holders = [_inner(holder, name) for holder in holders]
    return holders


def _inner(holder: Document, name: str) -> Document:
    inner = holder.get(name)
    if not is_object(inner):
        inner = holder[name] = {}
    return inner


def put(documents: Sequence[Document], path: Sequence[str], values: Sequence[object]) -> None:
    """Put values at a path, one for each document; MISSING puts nothing.

    >>> documents = [{"event": {}}, {"event": {}}]
    >>> put(documents, ("event", "http", "status"), [200, MISSING])
    >>> documents
    [{'event': {'http': {'status': 200}}}, {'event': {}}]
    """
    *parents, name = path
    if MISSING in values:
        documents = [document for document, value in zip(documents, values, strict=True) if value is not MISSING]
        values = [value for value in values if value is not MISSING]
    for holder, value in zip(objects_at(documents, parents), values, strict=True):
        holder[name] = value


def fresh(value: object) -> Callable[[], object]:
    """Make copies of a JSON value, one for each document; what can't be changed need not be copied.

    >>> new = fresh({"a": [1]})
    >>> new() == new(), new() is new()
    (True, False)
    """
    if isinstance(value, dict):
        members = [(name, fresh(inner)) for name, inner in value.items()]
        return lambda: {name: new() for name, new in members}
    if isinstance(value, list | tuple):
        parts = [fresh(inner) for inner in value]
        return lambda: [new() for new in parts]
    return lambda: value
