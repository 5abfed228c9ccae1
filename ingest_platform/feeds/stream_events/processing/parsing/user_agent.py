"""User agents, as the project `ua-parser` knows them: the objects `browser`, `os` and `device`.

`browser` and `os` have a `name` and, if it is told, a `version` (`120.0.1`); `device` has a `name` and, if they are
known, a `brand` and a `model`. Every text is somebody's user agent: of one that nobody knows the name is `Other`.
"""

import functools
from collections.abc import Iterator, Sequence

from ua_parser import Parser, load_lazy_builtins
from ua_parser.regex import Resolver

from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted

# What tells one agent from another stands in the beginning; thousands of expressions are tried.
CHARACTERS_MAX = 1_024
# Most traffic is of a few thousand agents; an entry has at most about 6 KiB.
AGENTS_MAX = 4_096
OTHER = "Other"


def lift(texts: Sequence[str]) -> Iterator[Lifted]:
    """Tell what browsers, systems and devices user agents name."""
    # The objects are the event's own, not the cache's.
    return ({name: dict(told) for name, told in _read(text[:CHARACTERS_MAX])} for text in texts)


@functools.lru_cache(maxsize=1)
def _parser() -> Parser:
    """Compile the expressions, which takes a while: not before the first agent is seen."""
    return Parser(Resolver(load_lazy_builtins()))


@functools.lru_cache(maxsize=AGENTS_MAX)
def _read(text: str) -> tuple[tuple[str, dict[str, str]], ...]:
    read = _parser().parse(text).with_defaults()
    agent, system, device = read.user_agent, read.os, read.device
    browser = _known(name=agent.family, version=_version(agent.major, agent.minor, agent.patch, agent.patch_minor))
    os = _known(name=system.family, version=_version(system.major, system.minor, system.patch, system.patch_minor))
    machine = _known(name=device.family, brand=device.brand, model=device.model)
    return ("browser", browser), ("os", os), ("device", machine)


def _version(*parts: str | None) -> str | None:
    return ".".join(part for part in parts if part) or None


def _known(**told: str | None) -> dict[str, str]:
    return {name: value for name, value in told.items() if value}
