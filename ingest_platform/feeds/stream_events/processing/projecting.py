"""Some fields of events, decoded without the others: documents that have only what is asked for, at half the cost."""

import functools
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypedDict, TypeGuard

import msgspec
import numpy as np
import numpy.typing as npt

from ingest_platform.feeds.stream_events.declaration.pipeline import Path

Document = dict[str, object]
Project = Callable[[Sequence[str]], list[Document]]
# Each is a decoder of a few kilobytes; a worker works on as many versions of streams at once.
PROJECTIONS_MAX = 256


class _Tree(dict[str, "_Tree"]):
    """Members below a member; none: it is wanted whole."""


@functools.lru_cache(maxsize=PROJECTIONS_MAX)
def projection(paths: frozenset[Path]) -> Project:
    """Make a reader of JSON texts, which are objects, that keeps only the values at some paths.

    What is no object where a path goes on is kept as it is.

    >>> projection(frozenset({("event", "level"), ("source",)}))(['{"source": "a", "event": {"level": 1, "b": 2}}'])
    [{'source': 'a', 'event': {'level': 1}}]
    """
    tree = _Tree()
    # Longer ones first: a path that ends on the way of another wants all.
    for path in sorted(paths, key=len, reverse=True):
        _add(tree, path)
    decode = msgspec.json.Decoder(list[_record(tree) or dict[str, Any]]).decode  # pyright: ignore[reportInvalidTypeArguments]
    return lambda texts: decode(f"[{','.join(texts)}]")


def _add(tree: _Tree, path: Path) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, _Tree())
    tree[path[-1]] = _Tree()


def _record(tree: _Tree) -> Any:  # noqa: ANN401 - a type that is made here.
    """Make the type of an object with some members; None: all of them are to be decoded."""
    # msgspec 0.22 does not find names beyond ASCII in a TypedDict.
    if not all(name.isascii() for name in tree):
        return None
    members: dict[str, Any] = {
        name: (_record(below) or dict[str, Any]) | str | int | float | bool | list[Any] | None if below else Any
        for name, below in tree.items()
    }
    return TypedDict("Projected", members, total=False)  # type: ignore[operator]


def standing_at(documents: Sequence[Document], path: Path) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Tell in which documents something stands at a path, and in which a list stands on its way."""
    *parents, name = path
    holders: Sequence[object] = documents
    for parent in parents:
        holders = _inner(holders, parent)
    if _all_objects(holders):
        stands = [name in holder for holder in holders]
        return np.array(stands, dtype=np.bool_), np.zeros(len(stands), dtype=np.bool_)
    stands = [isinstance(holder, dict) and name in holder for holder in holders]
    lists = [isinstance(holder, list) for holder in holders]
    return np.array(stands, dtype=np.bool_), np.array(lists, dtype=np.bool_)


def _inner(holders: Sequence[object], name: str) -> list[object]:
    """Look a member up in each object; a list stays one."""
    try:
        if _all_objects(holders):
            return list(map(itemgetter(name), holders))
    except KeyError:
        pass
    return [holder.get(name) if isinstance(holder, dict) else holder for holder in holders]


def _all_objects(values: Sequence[object]) -> TypeGuard[Sequence[Document]]:
    return set(map(type, values)) <= {dict}
