"""Mistakes in a declaration, each with its file, line and place. How they are found is not known here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import yaml

from ingest_platform.domain.errors import IngestError

_INDEX = re.compile(r"\[(\d+)\]\.?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Something wrong in a declaration: where, and what is allowed there."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        """Write it as editors and compilers do."""
        return f"{self.file}:{self.line}: {self.path}: {self.message}" if self.path else f"{self.file}: {self.message}"


class WronglyDeclared(IngestError):
    """A declaration with mistakes; nothing of it was applied."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(each) for each in mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an entry stands; `node` is the entry as YAML's reader has it, by which places in it have lines."""

    file: str
    line: int
    path: str
    node: yaml.Node | None = field(default=None, repr=False, compare=False)

    def wrong(self, message: str, *, field: str = "") -> Mistake:
        """Say what is wrong here, or in a place below (`routes.rules[2].when`)."""
        path = f"{self.path}.{field}" if field else self.path
        return Mistake(file=self.file, line=line_of(self.node, field, line=self.line), path=path, message=message)


def line_of(node: yaml.Node | None, path: str, *, line: int) -> int:
    """Find the line of the deepest place on the way that a path goes, which begins at a line."""
    while path:
        if isinstance(node, yaml.MappingNode):
            pairs = cast("list[tuple[yaml.Node, yaml.Node]]", node.value)
            # Keys may have dots and brackets: the longest that fits is meant.
            fits = [(len(name), key, value) for key, value in pairs if _leads(name := str(key.value), path)]
            if not fits:
                return line
            length, key, node = max(fits, key=lambda fit: fit[0])
            line, path = key.start_mark.line + 1, path[length:].removeprefix(".")
        elif isinstance(node, yaml.SequenceNode) and (found := _INDEX.match(path)) is not None:
            entries, index = cast("list[yaml.Node]", node.value), int(found[1])
            if index >= len(entries):
                return line
            node = entries[index]
            line, path = node.start_mark.line + 1, path[found.end() :]
        else:
            return line
    return line


def _leads(name: str, path: str) -> bool:
    return path == name or path.startswith((f"{name}.", f"{name}["))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a file, not yet judged."""

    section: str
    values: Mapping[str, object]
    place: Place
