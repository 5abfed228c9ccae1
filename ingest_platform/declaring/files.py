"""Declarations as files of YAML, read into entries. What an entry must be is not known here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from ingest_platform.declaring.mistakes import Entry, Mistake, Place

WORKSPACES = "workspaces"
# A declaration is read whole; ten thousand configs are about 2 MB.
FILE_BYTES_MAX = 32 * 1024 * 1024


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader; it turns a composed document into values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """The sections that a file may have; those in `by_id` (with the field of the id) may be mappings of ids."""

    names: tuple[str, ...]
    by_id: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """One section of a file, as it is read; `default` is what its entries have if they don't say it themselves."""

    name: str
    default: Mapping[str, object]
    place: Place


def read_files(paths: Iterable[Path], *, sections: Sections, mistakes: list[Mistake]) -> list[Entry]:
    """Read all entries of all files; mistakes of form are added to the list."""
    entries = list[Entry]()
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
            text = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(Mistake(file=str(path), line=0, path="", message=f"cannot be read: {error}"))
            continue
        if len(data) > FILE_BYTES_MAX:
            said = f"has more than {FILE_BYTES_MAX:,} bytes; part it into several files"
            mistakes.append(Mistake(file=str(path), line=0, path="", message=said))
            continue
        entries += read_text(text, file=str(path), sections=sections, mistakes=mistakes)
    return entries


def read_text(text: str, *, file: str, sections: Sections, mistakes: list[Mistake]) -> list[Entry]:
    """Read the entries of one document; its mistakes of form are added to the list."""
    loader = None
    try:
        # It looks at the characters at once.
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return []
        _find_duplicates(root, file=file, path="", mistakes=mistakes)
        document = cast("object", loader.construct_document(root))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # A ValueError is of a date that does not exist, or of a number of thousands of digits.
        mistakes.append(Mistake(file=file, line=0, path="", message=f"is not YAML: {error}"))
        return []
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(document, dict) or not isinstance(root, yaml.MappingNode):
        said = f"must be a mapping of {', '.join(sections.names)}"
        mistakes.append(Mistake(file=file, line=1, path="", message=said))
        return []
    return _entries(cast("dict[object, object]", document), root, file=file, sections=sections, mistakes=mistakes)


def _find_duplicates(
    node: yaml.Node, *, file: str, path: str, mistakes: list[Mistake], seen: set[yaml.Node] | None = None
) -> None:
    """Find keys that stand twice: YAML's reader would silently take the last."""
    # What has several aliases is looked at once; to follow each would take for ever in a document made for it.
    seen = set() if seen is None else seen
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, yaml.SequenceNode):
        for place, each in enumerate(cast("list[yaml.Node]", node.value)):
            _find_duplicates(each, file=file, path=f"{path}[{place}]", mistakes=mistakes, seen=seen)
    if isinstance(node, yaml.MappingNode):
        names = set[str]()
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            name = str(key.value)
            here = f"{path}.{name}" if path else name
            if name in names:
                line = key.start_mark.line + 1
                mistakes.append(Mistake(file=file, line=line, path=here, message="stands twice; keep one"))
            names.add(name)
            _find_duplicates(value, file=file, path=here, mistakes=mistakes, seen=seen)


def _entries(
    document: Mapping[object, object],
    root: yaml.MappingNode,
    *,
    file: str,
    sections: Sections,
    mistakes: list[Mistake],
) -> list[Entry]:
    workspace = document.get("workspace")
    default = {"workspace": workspace} if isinstance(workspace, str) else dict[str, object]()
    found: list[Entry] = []
    for key, node in cast("list[tuple[yaml.Node, yaml.Node]]", root.value):
        name = str(key.value)
        place = Place(file=file, line=key.start_mark.line + 1, path=name, node=node)
        if name == "workspace":
            if not default:
                mistakes.append(place.wrong("must be the name of a workspace"))
        elif name not in sections.names:
            mistakes.append(place.wrong(f"is unknown; there are workspace, {', '.join(sections.names)}"))
        else:
            section = _Section(name=name, default={} if name == WORKSPACES else default, place=place)
            found += _of_section(section, document.get(name), id_field=sections.by_id.get(name), mistakes=mistakes)
    return found


def _of_section(section: _Section, values: object, *, id_field: str | None, mistakes: list[Mistake]) -> list[Entry]:
    """Read the entries of a section: a list; or, where they may be called by their ids, a mapping."""
    node = section.place.node
    if isinstance(values, list) and isinstance(node, yaml.SequenceNode):
        return _listed(section, cast("list[object]", values), node, mistakes)
    if id_field is not None and isinstance(values, dict) and isinstance(node, yaml.MappingNode):
        return _named(section, cast("dict[object, object]", values), node, id_field=id_field, mistakes=mistakes)
    also = "" if id_field is None else f", or a mapping of each {id_field} to its fields"
    mistakes.append(section.place.wrong(f"must be a list of entries, each beginning with “- ”{also}"))
    return []


def _listed(section: _Section, values: list[object], node: yaml.SequenceNode, mistakes: list[Mistake]) -> list[Entry]:
    found: list[Entry] = []
    for index, (value, each) in enumerate(zip(values, cast("list[yaml.Node]", node.value), strict=True)):
        line, path = each.start_mark.line + 1, f"{section.name}[{index}]"
        place = Place(file=section.place.file, line=line, path=path, node=each)
        if isinstance(value, dict):
            given = {str(field): one for field, one in cast("dict[object, object]", value).items()}
            found.append(Entry(section=section.name, values={**section.default, **given}, place=place))
        else:
            mistakes.append(place.wrong("must be a mapping of fields"))
    return found


def _named(
    section: _Section,
    values: Mapping[object, object],
    node: yaml.MappingNode,
    *,
    id_field: str,
    mistakes: list[Mistake],
) -> list[Entry]:
    nodes = {str(key.value): (key, each) for key, each in cast("list[tuple[yaml.Node, yaml.Node]]", node.value)}
    found: list[Entry] = []
    for name, value in values.items():
        # A key that YAML reads as something else than a text has no node under its name; it is no id either.
        key, each = nodes.get(str(name), (node, None))
        line, path = key.start_mark.line + 1, f"{section.name}.{name}"
        place = Place(file=section.place.file, line=line, path=path, node=each)
        if not isinstance(value, dict):
            mistakes.append(place.wrong("must be a mapping of fields"))
            continue
        given = {str(field): one for field, one in cast("dict[object, object]", value).items()}
        if id_field in given:
            mistakes.append(place.wrong(f"is what stands before the colon, {name}", field=id_field))
            continue
        found.append(Entry(section=section.name, values={**section.default, **given, id_field: name}, place=place))
    return found
