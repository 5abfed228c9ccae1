"""Routes, read. Which events meet a rule is found out in `processing/routing.py`."""

import re
from collections.abc import Mapping
from typing import cast

from ingest_platform.feeds.stream_events.declaration.expressions import read_rule
from ingest_platform.feeds.stream_events.declaration.pipeline import Match, RouteRule, Routes
from ingest_platform.feeds.stream_events.declaration.place import Place

RULES_MAX = 200
# Each one is a delivery of its own for every event.
DESTINATIONS_MAX = 20
# What stands for the route of events that meet no rule, and for no route.
OTHERWISE, DROP = "otherwise", "drop"
_RULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_RULE_NAME_SAYS = "1 to 63 of letters, digits, _, . and -, beginning with a letter or digit"
DESTINATION_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
_DESTINATION_NAME_SAYS = "the name of a destination, 1 to 63 of a-z, 0-9, _ and -"
_SAMPLE_ALL = 1.0


def read_routes(place: Place) -> Routes:
    """Read where events go."""
    found = place.fields("match", "rules", OTHERWISE)
    match = found["match"].word(Match) if "match" in found else Match.FIRST
    places = found["rules"].entries(most=RULES_MAX) if "rules" in found else []
    rules = [_read_rule(each) for each in places]
    _check_names(places)
    otherwise = _otherwise(found[OTHERWISE]) if OTHERWISE in found else ()
    if isinstance(place.value, dict) and "rules" not in found and OTHERWISE not in found:
        place.wrong("has neither rules nor otherwise; events must go somewhere, or be dropped by `otherwise: drop`")
    return Routes(
        match=match or Match.FIRST, rules=tuple(rule for rule in rules if rule is not None), otherwise=otherwise
    )


def _otherwise(place: Place) -> tuple[str, ...]:
    if place.value == DROP:
        return ()
    if not isinstance(place.value, list):
        place.wrong("must be a list of destinations, or drop")
        return ()
    return _destinations(place)


def _read_rule(place: Place) -> RouteRule | None:
    before = len(place.faults)
    found = place.fields("name", "when", "sample", "to", required=("name", "when", "to"))
    name = found["name"].text() if "name" in found else None
    if name is not None and (_RULE_NAME.fullmatch(name) is None or name == OTHERWISE):
        reserved = f"{OTHERWISE} is what takes the events that meet no rule" if name == OTHERWISE else "is no name"
        found["name"].wrong(f"{reserved}; a name is {_RULE_NAME_SAYS}")
    when = read_rule(found["when"]) if "when" in found else None
    sample = found["sample"].number(above=0, most=_SAMPLE_ALL) if "sample" in found else _SAMPLE_ALL
    to = _destinations(found["to"]) if "to" in found else ()
    if name is None or when is None or sample is None or len(place.faults) > before:
        return None
    return RouteRule(name=name, when=when, sample=sample, to=to)


def _destinations(place: Place) -> tuple[str, ...]:
    """Read names of destinations; whether they are declared is known only where the declaration is applied."""
    names: list[str] = []
    for each in place.entries(most=DESTINATIONS_MAX):
        if not isinstance(each.value, str) or re.fullmatch(DESTINATION_NAME, each.value) is None:
            each.wrong(f"must be {_DESTINATION_NAME_SAYS}")
        elif each.value in names:
            each.wrong(f"{each.value} stands twice; keep one")
        else:
            names.append(each.value)
    if place.value == []:
        place.wrong("is empty; name at least one destination")
    return tuple(names)


def _check_names(rules: list[Place]) -> None:
    """Hold the names against each other: they are what counters and explanations call the rules by."""
    first: dict[object, str] = {}
    for place in rules:
        value = cast("Mapping[object, object]", place.value) if isinstance(place.value, dict) else {}
        name = value.get("name")
        if isinstance(name, str) and first.setdefault(name, place.path) != place.path:
            place.below("name", name).wrong(f"{name!r} is the name of {first[name]}, too; choose another")
