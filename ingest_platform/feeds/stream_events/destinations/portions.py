"""A batch that is too much at once, or has something in it that is refused, is sent in halves: the rest arrives."""

from collections.abc import Callable, Sequence

from ingest_platform.feeds.stream_events.destinations.destination import Item, Permanent, Sent, Transient


class Divisible(Permanent):
    """The batch was refused as a whole, and a part of it may be taken."""


def send_in_portions(items: Sequence[Item], send: Callable[[Sequence[Item]], Sent]) -> Sent:
    """Send events at once, or in halves of halves where that is refused. Raises what `send` does for all of them."""
    try:
        return send(items)
    except Divisible as refused:
        if len(items) == 1:
            return Sent(delivered=(), dead={items[0].event_id: refused.reason})
    middle = len(items) // 2
    first, second = _told(items[:middle], send), _told(items[middle:], send)
    pauses = [each.retry_after_seconds for each in (first, second) if each.retry_after_seconds is not None]
    return Sent(
        delivered=[*first.delivered, *second.delivered],
        retry={**first.retry, **second.retry},
        dead={**first.dead, **second.dead},
        retry_after_seconds=max(pauses) if pauses else None,
    )


def _told(items: Sequence[Item], send: Callable[[Sequence[Item]], Sent]) -> Sent:
    try:
        return send_in_portions(items, send)
    except Transient as failed:
        retry = dict.fromkeys((item.event_id for item in items), failed.reason)
        return Sent(delivered=(), retry=retry, retry_after_seconds=failed.retry_after_seconds)
    except Permanent as failed:
        return Sent(delivered=(), dead=dict.fromkeys((item.event_id for item in items), failed.reason))
