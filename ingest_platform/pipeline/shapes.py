"""What a submission's records are held to and where they lie: its feed's own shape, or the one of its target.

How a target declares its shape is the feed's own matter (`Feed.shapes`).
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping

from ingest_platform.domain.feed import Feed, Shape
from ingest_platform.domain.submission import Submission
from ingest_platform.storage.ledger import Ledger

# A shape of fifty fields, with the decoder and the checks that are kept for it elsewhere, is some 100 kB.
SHAPES_MAX = 1_024


def own_shape(feed: Feed) -> Shape:
    """Give the shape of a feed's submissions without a target."""
    return Shape(contract=feed.contract, table=feed.table)


class ShapeCache:
    """The shapes of one process. Once declared a shape never changes, so that one that was found is kept."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, str, str], Shape] = OrderedDict()

    def of(self, feed: Feed, *, workspace: str, target: str | None) -> Shape | None:
        """Find the shape of a workspace's target, or of no target; None if there is no such target or no shape yet."""
        if target is None:
            return own_shape(feed)
        if feed.shapes is None:
            return None
        key = (feed.name, workspace, target)
        with self._lock:
            if (found := self._found.get(key)) is not None:
                self._found.move_to_end(key)
                return found
        with self._ledger.connection() as connection:
            read = feed.shapes(connection, workspace=workspace, target=target)
        if read is None:
            return None
        with self._lock:
            # What others have made of a contract is known by its identity: of two that read it, one is kept.
            kept = self._found.setdefault(key, read)
            if len(self._found) > SHAPES_MAX:
                self._found.popitem(last=False)
            return kept

    def of_submission(self, feed: Feed, submission: Submission) -> Shape | None:
        """Find the shape of a submission's records."""
        return self.of(feed, workspace=submission.workspace, target=submission.target)


Targeted = Mapping[tuple[str, str | None], list[Submission]]


def by_target(submissions: list[Submission]) -> Targeted:
    """Part submissions by their target, each part in their order. Those without a target stay together.

    Targets of two workspaces are two targets, whatever they are called.
    """
    parts: dict[tuple[str, str | None], list[Submission]] = {}
    for each in submissions:
        workspace = "" if each.target is None else each.workspace
        parts.setdefault((workspace, each.target), []).append(each)
    return parts
