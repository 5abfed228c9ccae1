"""A place in a declaration: the value that stands there, and every fault that is found with it or below it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar, cast

from ingest_platform.feeds.stream_events.declaration.paths import Path, WrongPath, read_path

TEXT_CHARACTERS_MAX = 10_000
# Far more than anybody needs, and little enough that a declaration is read in no time.
ENTRIES_MAX = 1_000
# Of a value that is quoted in a message.
_QUOTED_MAX = 60
Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFault:
    """What is wrong, and where: `path` is written as `routes.rules[2].when`; the message says what is allowed."""

    path: str
    message: str


class WrongPipeline(Exception):
    """A declaration with faults: all of them, in the order in which they stand."""

    def __init__(self, faults: Sequence[PipelineFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.path}: {fault.message}" for fault in faults))


def quoted(value: object) -> str:
    """Write a value for a message, cut short.

    >>> quoted("x" * 100)[-4:]
    "xx…'"
    """
    text = repr(value)
    return text if len(text) <= _QUOTED_MAX else f"{text[:_QUOTED_MAX]}…{text[-1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A value and where it stands. What reads it says what is wrong, and goes on with what is not."""

    value: object
    path: str = ""
    faults: list[PipelineFault] = field(default_factory=list[PipelineFault])

    def wrong(self, message: str) -> None:
        """Say what is wrong here."""
        self.faults.append(PipelineFault(path=self.path, message=message))

    def below(self, name: str, value: object) -> "Place":
        """Go to a member."""
        return Place(value=value, path=f"{self.path}.{name}" if self.path else name, faults=self.faults)

    def members(self) -> "dict[str, Place]":
        """Go to all members of a mapping, whatever their names are."""
        if not isinstance(self.value, Mapping):
            self.wrong(f"must be a mapping, not {quoted(self.value)}")
            return {}
        found = cast("Mapping[object, object]", self.value)
        if len(found) > ENTRIES_MAX:
            self.wrong(f"has {len(found)} members; at most {ENTRIES_MAX} are allowed")
            return {}
        return {str(name): self.below(str(name), value) for name, value in found.items()}

    def fields(self, *allowed: str, required: Sequence[str] = ()) -> "dict[str, Place]":
        """Go to the members of a mapping that has certain ones; null is as if it were left out."""
        found = self.members()
        for name in [name for name in found if name not in allowed]:
            found.pop(name).wrong(f"is unknown; there are {', '.join(allowed)}")
        found = {name: place for name, place in found.items() if place.value is not None}
        if isinstance(self.value, Mapping):
            for name in required:
                if name not in found:
                    self.below(name, None).wrong("is missing")
        return found

    def entries(self, *, most: int = ENTRIES_MAX) -> "list[Place]":
        """Go to the entries of a list."""
        if not isinstance(self.value, list):
            self.wrong(f"must be a list, not {quoted(self.value)}")
            return []
        found = cast("list[object]", self.value)
        if len(found) > most:
            self.wrong(f"has {len(found)} entries; at most {most} are allowed")
            return []
        return [
            Place(value=value, path=f"{self.path}[{number}]", faults=self.faults) for number, value in enumerate(found)
        ]

    def text(self, *, most: int = TEXT_CHARACTERS_MAX) -> str | None:
        """Read a text that is not blank."""
        if not isinstance(self.value, str):
            self.wrong(f"must be a text, not {quoted(self.value)}")
            return None
        if not self.value.strip() or len(self.value) > most:
            self.wrong(f"has {len(self.value)} characters; 1 to {most} are allowed, and not only blanks")
            return None
        return self.value

    def word(self, words: type[Word]) -> Word | None:
        """Read one of some words."""
        allowed = [word.value for word in words]
        if isinstance(self.value, str) and self.value in allowed:
            return words(self.value)
        self.wrong(f"must be one of {', '.join(allowed)}, not {quoted(self.value)}")
        return None

    def number(self, *, above: float, most: float) -> float | None:
        """Read a number in (above, most]."""
        value = self.value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            if above < value <= most:
                return float(value)
            self.wrong(f"is {value!r}; it must be greater than {above:g} and at most {most:g}")
        else:
            self.wrong(f"must be a number greater than {above:g} and at most {most:g}, not {quoted(value)}")
        return None

    def whole(self, *, least: int, most: int) -> int | None:
        """Read a whole number."""
        if isinstance(self.value, int) and not isinstance(self.value, bool) and least <= self.value <= most:
            return self.value
        self.wrong(f"must be a whole number from {least} to {most}, not {quoted(self.value)}")
        return None

    def way(self) -> Path | None:
        """Read the path of a field."""
        if not isinstance(self.value, str):
            self.wrong(f"must be the path of a field, such as event.message, not {quoted(self.value)}")
            return None
        try:
            return read_path(self.value)
        except WrongPath as wrong:
            self.wrong(str(wrong))
            return None
