"""What is lifted out of a text: members for an object, or nothing. Where they are put is `parse.py`'s business."""

from collections.abc import Iterable, Mapping

from ingest_platform.feeds.stream_events.processing.paths import Document

# As dict.update takes them: most are put into an object that stands already, and need none of their own. They can be
# looked at once, and are made one after the other: objects that live until the last text is read would be visited again
# and again by Python's collector of cycles, which took twice the time of all the rest. None: the text has not the form
# that was declared.
Members = Mapping[str, object] | Iterable[tuple[str, object]]
Lifted = Members | None


def collected(pairs: Iterable[tuple[str, str]]) -> Document:
    """Collect values by their names; the values of a name that occurs several times become a list.

    >>> collected([("a", "1"), ("b", "2"), ("a", "3")])
    {'a': ['1', '3'], 'b': '2'}
    """
    values: Document = {}
    for name, value in pairs:
        before = values.get(name)
        if before is None:
            values[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            values[name] = [before, value]
    return values
