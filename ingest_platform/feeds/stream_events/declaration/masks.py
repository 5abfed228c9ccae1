"""Masks, read. How values are masked is in `processing/masking.py`."""

from ingest_platform.feeds.stream_events.declaration.patterns import read_regex
from ingest_platform.feeds.stream_events.declaration.pipeline import PARTIAL_KEEPS, Detector, How, Mask, Path
from ingest_platform.feeds.stream_events.declaration.place import Place
from ingest_platform.feeds.stream_events.declaration.targets import changed

MASKS_MAX = 100
KEEP_LAST_MAX = 64
REPLACEMENT_CHARACTERS_MAX = 200
REPLACEMENT = "***"


def read_mask(place: Place) -> Mask | None:
    """Read one mask."""
    before = len(place.faults)
    found = place.fields("field", "pattern", "how", "keep_last", "replacement", required=("how",))
    how = found["how"].word(How) if "how" in found else None
    field = changed(found["field"]) if "field" in found else None
    keep_last = _keep_last(found, how)
    if how is None:
        return None
    if how is How.REGEX:
        return _regex(place, found, field, before=before)
    if "replacement" in found:
        found["replacement"].wrong(f"belongs to regex; {how.value} has none")
    detector = _detector(place, found)
    if len(place.faults) > before:
        return None
    return Mask(field=field, detector=detector, how=how, keep_last=keep_last)


def _keep_last(found: dict[str, Place], how: How | None) -> int | None:
    if how is not How.PARTIAL:
        if how is not None and "keep_last" in found:
            found["keep_last"].wrong(f"belongs to partial; {how.value} keeps nothing")
        return None
    return found["keep_last"].whole(least=0, most=KEEP_LAST_MAX) if "keep_last" in found else PARTIAL_KEEPS


def _detector(place: Place, found: dict[str, Place]) -> Detector | None:
    """Read what is looked for anywhere in the event; there must be that, or a field."""
    if ("field" in found) == ("pattern" in found):
        said = "must have" if "field" not in found else "can't have both;"
        place.wrong(f"{said} either a field, or a pattern that is looked for everywhere")
        return None
    if "pattern" not in found:
        return None
    return found["pattern"].word(Detector)


def _regex(place: Place, found: dict[str, Place], field: Path | None, *, before: int) -> Mask | None:
    """Read a mask by a regular expression, which belongs to a field."""
    for name, meaning in (("field", "name the field"), ("pattern", "give the regular expression")):
        if name not in found:
            place.below(name, None).wrong(f"is missing; {meaning}")
    pattern = read_regex(found["pattern"]) if "pattern" in found else None
    replacement: object = found["replacement"].value if "replacement" in found else REPLACEMENT
    if not isinstance(replacement, str) or len(replacement) > REPLACEMENT_CHARACTERS_MAX:
        found["replacement"].wrong(f"must be a text of at most {REPLACEMENT_CHARACTERS_MAX} characters")
        return None
    if len(place.faults) > before:
        return None
    return Mask(field=field, how=How.REGEX, pattern=pattern, replacement=replacement)
