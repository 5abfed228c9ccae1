"""`ingest apply`: what a person declares in YAML, checked as a whole and brought into the ledger in one revision.

Which kinds there are and what fields they have is said by the feeds; how versions are kept, by `storage/catalog.py`.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from pathlib import Path
from typing import cast

import yaml
from psycopg import Rollback

from ingest_platform.domain.errors import IngestError
from ingest_platform.domain.feed import DeclaredKind, Feed, Keep, Kept
from ingest_platform.pipeline.signature import SECRET_PATTERN, new_secret
from ingest_platform.storage import catalog, secrets, workspaces
from ingest_platform.storage.catalog import ChangeKind
from ingest_platform.storage.ledger import Ledger, Transaction
from ingest_platform.storage.workspaces import Workspace

WORKSPACES = "workspaces"
# Names the variable of the environment that has the secret; without it one is made.
SECRET_VARIABLE = "secret_env"  # noqa: S105 - the name of a field.
_VARIABLE: Mapping[str, object] = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,100}$"}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME_RULE = "1 to 63 of a-z, 0-9 and -, not beginning with -"
_FEED_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
# A declaration is read whole; ten thousand configs are about 2 MB.
FILE_BYTES_MAX = 32 * 1024 * 1024
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


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
class _Place:
    file: str
    line: int
    path: str

    def wrong(self, message: str, *, field: str = "") -> Mistake:
        """Say what is wrong here."""
        path = f"{self.path}.{field}" if field else self.path
        return Mistake(file=self.file, line=self.line, path=path, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a file, not yet judged."""

    section: str
    values: Mapping[str, object]
    place: _Place


@unique
class Sign(StrEnum):
    """What an apply does to a thing, as it is printed."""

    CREATED = "+"
    CHANGED = "~"
    RETIRED = "-"
    UNCHANGED = "="


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedChange:
    """What an apply does to one thing; `fields` are those that change, each with before and after."""

    sign: Sign
    section: str
    workspace: str
    id: str
    version: int | None
    fields: Mapping[str, tuple[object, object]]
    # One that was made here; this is the only time that it is shown.
    secret: str | None = dataclasses.field(default=None, repr=False)
    # What it is called by besides its name, if that was not chosen here.
    assigned: str | None = None

    def __str__(self) -> str:
        """Write the line that is printed."""
        where = "" if self.section == WORKSPACES else f" in {self.workspace}"
        number = "" if self.assigned is None else f" ({self.assigned})"
        what = f"{self.sign.value} {self.section}/{self.id}{number}{where}"
        if self.sign is Sign.CHANGED:
            fields = ", ".join(f"{name}: {before!r} → {after!r}" for name, (before, after) in self.fields.items())
            versions = f" (version {self.version - 1} → {self.version})" if self.version else ""
            return f"{what}: {fields}{versions}"
        return f"{what}: {self.sign.name.lower()}"


# Reading


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader; it turns a composed document into values."""


def read_files(paths: Iterable[Path], *, sections: Iterable[str], mistakes: list[Mistake]) -> list[Entry]:
    """Read all entries of all files; mistakes of form are added to the list."""
    known, entries = tuple(sections), list[Entry]()
    for path in paths:
        try:
            with path.open("rb") as file:
                text = file.read(FILE_BYTES_MAX).decode()
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(Mistake(file=str(path), line=0, path="", message=f"cannot be read: {error}"))
            continue
        entries += read_text(text, file=str(path), sections=known, mistakes=mistakes)
    return entries


def read_text(text: str, *, file: str, sections: Sequence[str], mistakes: list[Mistake]) -> list[Entry]:
    """Read the entries of one document; its mistakes of form are added to the list."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return []
        _find_duplicates(root, file=file, path="", mistakes=mistakes)
        document = cast("object", loader.construct_document(root))
    except (yaml.YAMLError, RecursionError) as error:
        mistakes.append(Mistake(file=file, line=0, path="", message=f"is not YAML: {error}"))
        return []
    finally:
        loader.dispose()
    if not isinstance(document, dict) or not isinstance(root, yaml.MappingNode):
        mistakes.append(Mistake(file=file, line=1, path="", message=f"must be a mapping of {', '.join(sections)}"))
        return []
    return _entries(cast("dict[object, object]", document), root, file=file, sections=sections, mistakes=mistakes)


def _find_duplicates(node: yaml.Node, *, file: str, path: str, mistakes: list[Mistake]) -> None:
    """Find keys that stand twice: YAML's reader would silently take the last."""
    if isinstance(node, yaml.SequenceNode):
        for place, each in enumerate(cast("list[yaml.Node]", node.value)):
            _find_duplicates(each, file=file, path=f"{path}[{place}]", mistakes=mistakes)
    if isinstance(node, yaml.MappingNode):
        seen = set[str]()
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            name = str(key.value)
            here = f"{path}.{name}" if path else name
            if name in seen:
                line = key.start_mark.line + 1
                mistakes.append(Mistake(file=file, line=line, path=here, message="stands twice; keep one"))
            seen.add(name)
            _find_duplicates(value, file=file, path=here, mistakes=mistakes)


def _entries(
    document: Mapping[object, object],
    root: yaml.MappingNode,
    *,
    file: str,
    sections: Sequence[str],
    mistakes: list[Mistake],
) -> list[Entry]:
    default = document.get("workspace")
    found: list[Entry] = []
    for key, node in cast("list[tuple[yaml.Node, yaml.Node]]", root.value):
        name = str(key.value)
        place = _Place(file=file, line=key.start_mark.line + 1, path=name)
        if name == "workspace":
            if not isinstance(default, str):
                mistakes.append(place.wrong("must be the name of a workspace"))
            continue
        values = document.get(name)
        if name not in sections:
            mistakes.append(place.wrong(f"is unknown; there are workspace, {', '.join(sections)}"))
        elif not isinstance(values, list) or not isinstance(node, yaml.SequenceNode):
            mistakes.append(place.wrong("must be a list of entries, each beginning with “- ”"))
        else:
            for index, value in enumerate(cast("list[object]", values)):
                line = cast("list[yaml.Node]", node.value)[index].start_mark.line + 1
                here = _Place(file=file, line=line, path=f"{name}[{index}]")
                if isinstance(value, dict):
                    given = {str(field): each for field, each in cast("dict[object, object]", value).items()}
                    if name != WORKSPACES and isinstance(default, str):
                        given = {"workspace": default, **given}
                    found.append(Entry(section=name, values=given, place=here))
                else:
                    mistakes.append(here.wrong("must be a mapping of fields"))
    return found


# Judging


def check_value(value: object, schema: Mapping[str, object]) -> str | None:
    """Hold one value against the schema of its field; what is allowed, if it does not fit.

    >>> check_value("1.0", {"type": "number"})
    "must be a number, not the text '1.0'"
    >>> check_value(1, {"type": "number"})
    """
    kind = str(schema["type"])
    fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not fits:
        said = f"the text {value!r}" if isinstance(value, str) else repr(value)
        return f"must be a {kind}, not {said}"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, str):
        return _check_text(value, schema)
    if isinstance(value, (int, float)):
        return _check_bounds(value, schema)
    return None


def _check_text(value: str, schema: Mapping[str, object]) -> str | None:
    least, most = cast("int", schema.get("minLength", 0)), cast("int | None", schema.get("maxLength"))
    if len(value) < least or (most is not None and len(value) > most):
        return f"has {len(value)} characters; {least} to {most if most is not None else '…'} are allowed"
    pattern = cast("str | None", schema.get("pattern"))
    if pattern is not None and re.search(pattern, value) is None:
        return f"must match {pattern}"
    allowed = cast("Sequence[str] | None", schema.get("enum"))
    if allowed is not None and value not in allowed:
        return f"must be one of {', '.join(allowed)}"
    return None


def _check_bounds(value: float, schema: Mapping[str, object]) -> str | None:
    least, most = cast("float | None", schema.get("minimum")), cast("float | None", schema.get("maximum"))
    if (least is not None and value < least) or (most is not None and value > most):
        return f"must be from {'…' if least is None else least} to {'…' if most is None else most}"
    return None


def _check_workspace(entry: Entry, mistakes: list[Mistake]) -> Workspace | None:
    before, values, place = len(mistakes), entry.values, entry.place
    allowed = ("name", "projects", "quotas", "rate_limits")
    mistakes += [
        place.wrong(f"is unknown; there are {', '.join(allowed)}", field=name) for name in values if name not in allowed
    ]
    name = values.get("name")
    projects: object = values.get("projects") or cast("list[object]", [])
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        mistakes.append(place.wrong(f"must be {_NAME_RULE}", field="name"))
    if not isinstance(projects, list) or not all(
        isinstance(each, str) and _NAME.fullmatch(each) for each in cast("list[object]", projects)
    ):
        mistakes.append(place.wrong(f"must be a list of names, each {_NAME_RULE}", field="projects"))
    limits = {
        field: _check_limits(values.get(field) or {}, entry.place, field=field, least=least, mistakes=mistakes)
        for field, least in (("quotas", -1), ("rate_limits", 1))
    }
    if len(mistakes) > before:
        return None
    return Workspace(
        name=cast("str", name),
        projects=cast("list[str]", projects),
        quotas=limits["quotas"],
        rate_limits=limits["rate_limits"],
    )


def _check_limits(given: object, place: _Place, *, field: str, least: int, mistakes: list[Mistake]) -> dict[str, int]:
    if not isinstance(given, dict):
        mistakes.append(place.wrong("must be a mapping of feeds to whole numbers", field=field))
        return {}
    limits: dict[str, int] = {}
    for name, limit in cast("dict[object, object]", given).items():
        here = f"{field}.{name}"
        if not isinstance(name, str) or _FEED_NAME.fullmatch(name) is None:
            mistakes.append(place.wrong("must be the name of a feed", field=here))
        elif not isinstance(limit, int) or isinstance(limit, bool) or limit < least:
            mistakes.append(place.wrong(f"must be a whole number, {least} or more, not {limit!r}", field=here))
        else:
            limits[name.replace("-", "_")] = limit
    return limits


def _check_entry(entry: Entry, kind: DeclaredKind, mistakes: list[Mistake]) -> catalog.Declared | None:
    before, values, place = len(mistakes), entry.values, entry.place
    identity, workspace = values.get(kind.id_field), values.get("workspace")
    allowed = ("workspace", kind.id_field, *fields_of(kind), "retired")
    if not isinstance(workspace, str):
        mistakes.append(place.wrong("is missing; or put `workspace: …` at the top of the file", field="workspace"))
    if not isinstance(identity, str) or re.search(kind.id_pattern, identity) is None:
        said = "is missing" if identity is None else f"{identity!r} is wrong"
        mistakes.append(place.wrong(f"{said}; it must match {kind.id_pattern}", field=kind.id_field))
    mistakes += [
        place.wrong(f"is unknown; there are {', '.join(allowed)}", field=name) for name in values if name not in allowed
    ]
    retired = values.get("retired", False)
    if not isinstance(retired, bool):
        mistakes.append(place.wrong("must be true or false", field="retired"))
    fields = fields_of(kind)
    body = {**(kind.defaults or {}), **{name: values[name] for name in fields if name in values}}
    needed = kind.required
    if retired:
        # Nothing is said of it any more, but which one it is.
        needed = () if kind.within is None else (kind.within,)
        body = {name: body[name] for name in needed if name in body}
    mistakes += [
        place.wrong(f"is missing; it is a {fields[name]['type']}", field=name) for name in needed if name not in values
    ]
    wrong = {name: check_value(value, fields[name]) for name, value in body.items()}
    mistakes += [place.wrong(said, field=name) for name, said in wrong.items() if said is not None]
    if len(mistakes) > before:
        return None
    # 1 and 1.0 are one factor; the catalog compares bodies as they are written.
    body = {name: float(cast("float", v)) if fields[name]["type"] == "number" else v for name, v in body.items()}
    return catalog.Declared(
        workspace=cast("str", workspace),
        kind=kind.section,
        id=cast("str", identity),
        body=body,
        retired=cast("bool", retired),
    )


# Applying


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    workspaces: Sequence[tuple[Entry, Workspace]]
    declared: Sequence[tuple[Entry, catalog.Declared]]


def kinds_of(feeds: Iterable[Feed]) -> dict[str, DeclaredKind]:
    """Collect what the feeds let a person declare, by the section's name."""
    return {kind.section: kind for feed in feeds for kind in feed.kinds}


def apply(
    ledger: Ledger,
    paths: Sequence[Path],
    *,
    feeds: Sequence[Feed],
    dry_run: bool = False,
    read_variable: Callable[[str], str | None] = lambda _: None,
) -> list[AppliedChange]:
    """Bring what the files declare into the ledger, all of it in one revision or nothing.

    `read_variable` gives the secrets that are named by a variable of the environment. Raises WronglyDeclared with every
    mistake of all files. A dry run finds and tells the same and changes nothing.
    """
    kinds = kinds_of(feeds)
    mistakes = list[Mistake]()
    judged = _judge(read_files(paths, sections=(WORKSPACES, *kinds), mistakes=mistakes), kinds, mistakes)
    given = _read_secrets(judged, kinds, read_variable, mistakes)
    with ledger.transaction() as tx:
        mistakes += _check_references(tx, judged, kinds)
        if mistakes:
            raise WronglyDeclared(sorted(mistakes, key=lambda each: (each.file, each.line)))
        changes = [_put_workspace(tx, workspace) for _, workspace in judged.workspaces]
        applied = _put_declared(tx, judged, kinds, dry_run=dry_run)
        changes += _put_secrets(tx, judged, applied, kinds=kinds, given=given, dry_run=dry_run)
        if dry_run or all(change.sign is Sign.UNCHANGED for change in changes):
            # A revision that changes nothing would make every worker read the catalog again.
            raise Rollback
    return changes


def _judge(entries: Sequence[Entry], kinds: Mapping[str, DeclaredKind], mistakes: list[Mistake]) -> _Judged:
    """Hold each entry against its kind; the good ones are returned, what is wrong is added to the mistakes."""
    spaces, declared = list[tuple[Entry, Workspace]](), list[tuple[Entry, catalog.Declared]]()
    seen: dict[tuple[str, str, str, str], _Place] = {}
    for entry in entries:
        if entry.section == WORKSPACES:
            workspace = _check_workspace(entry, mistakes)
            if workspace is None:
                continue
            spaces.append((entry, workspace))
            identity = (WORKSPACES, "", "", workspace.name)
        else:
            one = _check_entry(entry, kinds[entry.section], mistakes)
            if one is None:
                continue
            declared.append((entry, one))
            within = kinds[entry.section].within
            identity = (one.kind, one.workspace, "" if within is None else str(one.body[within]), one.id)
        first = seen.setdefault(identity, entry.place)
        if first is not entry.place:
            where = f"{first.file}:{first.line}"
            mistakes.append(entry.place.wrong(f"{identity[-1]} is declared twice, first in {where}; keep one"))
    return _Judged(workspaces=spaces, declared=declared)


def _put_declared(
    tx: Transaction, judged: _Judged, kinds: Mapping[str, DeclaredKind], *, dry_run: bool
) -> list[AppliedChange]:
    """Put what was declared into the catalog, or to where its feed keeps it; the changes are in the order declared."""
    catalogued = [one for _, one in judged.declared if kinds[one.kind].keep is None]
    changes = iter([_as_applied(change) for change in catalog.put(tx, catalogued)] if catalogued else [])
    kept: dict[str, Iterator[AppliedChange]] = {}
    for section, kind in kinds.items():
        own = [(entry, one) for entry, one in judged.declared if one.kind == section]
        if kind.keep is not None and own:
            kept[section] = iter(_keep(tx, own, kind.keep, dry_run=dry_run))
    return [next(kept.get(one.kind, changes)) for _, one in judged.declared]


def _keep(
    tx: Transaction, own: Sequence[tuple[Entry, catalog.Declared]], keep: Keep, *, dry_run: bool
) -> list[AppliedChange]:
    done = keep(tx, [one for _, one in own])
    mistakes = [entry.place.wrong(each.wrong) for (entry, _), each in zip(own, done, strict=True) if each.wrong]
    if mistakes:
        raise WronglyDeclared(mistakes)
    return [_as_kept(one, each, dry_run=dry_run) for (_, one), each in zip(own, done, strict=True)]


def _as_kept(one: catalog.Declared, kept: Kept, *, dry_run: bool) -> AppliedChange:
    sign = Sign.CHANGED if kept.changed else Sign.UNCHANGED
    sign = Sign.CREATED if kept.created else Sign.RETIRED if kept.retired else sign
    return AppliedChange(
        sign=sign,
        section=one.kind,
        workspace=one.workspace,
        id=one.id,
        version=None,
        fields=kept.changed,
        # What a dry run makes is taken back, and gets another the next time.
        assigned=None if kept.created and dry_run else kept.assigned,
    )


def _check_references(tx: Transaction, judged: _Judged, kinds: Mapping[str, DeclaredKind]) -> list[Mistake]:
    """Hold what is declared against what will stand afterwards: its workspaces, and the ids that it refers to."""
    spaces = {workspace.name for _, workspace in judged.workspaces} | set(workspaces.names(tx))
    mistakes = [
        entry.place.wrong(
            f"there is no workspace {one.workspace!r}; declare it under `{WORKSPACES}:`", field="workspace"
        )
        for entry, one in judged.declared
        if one.workspace not in spaces
    ]
    after = _after(
        tx, judged, {name for kind in kinds.values() for name in (kind.section, *(kind.refers or {}).values())}
    )
    for entry, one in judged.declared:
        for field, target in (kinds[one.kind].refers or {}).items():
            wanted = one.body.get(field)
            if not one.retired and wanted is not None and wanted not in after.get((one.workspace, target), {}):
                said = f"there is no {wanted!r} among the {target} of {one.workspace}; declare it under `{target}:`"
                mistakes.append(entry.place.wrong(said, field=field))
        if one.retired:
            mistakes += _still_used(entry, one, after, kinds)
    return mistakes


def _after(
    tx: Transaction, judged: _Judged, sections: Iterable[str]
) -> dict[tuple[str, str], dict[str, Mapping[str, object]]]:
    """Work out what will stand, by workspace and kind: body by id."""
    involved = {one.workspace for _, one in judged.declared}
    after = {
        (workspace, section): {
            entry.id: cast("Mapping[str, object]", entry.body)
            for entry in catalog.current(tx, workspace=workspace, kind=section)
        }
        for workspace in involved
        for section in sections
    }
    for _, one in judged.declared:
        standing = after.setdefault((one.workspace, one.kind), {})
        if one.retired:
            standing.pop(one.id, None)
        else:
            standing[one.id] = one.body
    return after


def _still_used(
    entry: Entry,
    retired: catalog.Declared,
    after: Mapping[tuple[str, str], Mapping[str, Mapping[str, object]]],
    kinds: Mapping[str, DeclaredKind],
) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for kind in kinds.values():
        for field, target in (kind.refers or {}).items():
            standing = after.get((retired.workspace, kind.section), {})
            users = [id_ for id_, body in standing.items() if target == retired.kind and body.get(field) == retired.id]
            if users:
                said = f"is still the {field} of {len(users)} {kind.section} ({users[0]} …); retire them as well"
                mistakes.append(entry.place.wrong(said))
    return mistakes


def fields_of(kind: DeclaredKind) -> Mapping[str, Mapping[str, object]]:
    """Give the fields of an entry, with the one that all kinds with a secret have."""
    return {**kind.fields, SECRET_VARIABLE: _VARIABLE} if kind.has_secret else kind.fields


def _read_secrets(
    judged: _Judged,
    kinds: Mapping[str, DeclaredKind],
    read_variable: Callable[[str], str | None],
    mistakes: list[Mistake],
) -> dict[tuple[str, str], str]:
    """Read the secrets that are given, by kind and id; none of them is told when it is wrong."""
    given: dict[tuple[str, str], str] = {}
    for entry, one in judged.declared:
        variable = one.body.get(SECRET_VARIABLE)
        if not kinds[one.kind].has_secret or one.retired or variable is None:
            continue
        secret = read_variable(variable)
        if secret is None:
            mistakes.append(entry.place.wrong(f"the variable {variable} is not set", field=SECRET_VARIABLE))
        elif re.search(SECRET_PATTERN, secret) is None:
            said = f"the value of {variable} must match {SECRET_PATTERN}"
            mistakes.append(entry.place.wrong(said, field=SECRET_VARIABLE))
        else:
            given[one.kind, one.id] = secret
    return given


def _put_secrets(
    tx: Transaction,
    judged: _Judged,
    changes: Sequence[AppliedChange],
    *,
    kinds: Mapping[str, DeclaredKind],
    given: Mapping[tuple[str, str], str],
    dry_run: bool,
) -> list[AppliedChange]:
    """Give what was declared its secrets: those that were given, and new ones where there is none yet."""
    done: list[AppliedChange] = []
    for (entry, one), change in zip(judged.declared, changes, strict=True):
        if not kinds[one.kind].has_secret:
            done.append(change)
        elif one.retired:
            secrets.drop(tx, workspace=one.workspace, kind=one.kind, id=one.id)
            done.append(change)
        else:
            done.append(_put_secret(tx, entry, one, change, given=given.get((one.kind, one.id)), dry_run=dry_run))
    return done


def _put_secret(
    tx: Transaction, entry: Entry, one: catalog.Declared, change: AppliedChange, *, given: str | None, dry_run: bool
) -> AppliedChange:
    before = secrets.secret_of(tx, workspace=one.workspace, kind=one.kind, id=one.id)
    made = new_secret() if given is None and before is None else None
    wanted = given or made or before
    assert wanted is not None
    if wanted == before:
        return change
    if not secrets.keep(tx, workspace=one.workspace, kind=one.kind, id=one.id, secret=wanted):
        said = f"{one.id!r} is taken in this installation; whoever calls with it names nothing else, so choose another"
        raise WronglyDeclared([entry.place.wrong(said)])
    if change.sign in {Sign.UNCHANGED, Sign.CHANGED}:
        # Nothing else may have changed, and nobody is told what it is or was.
        said = ("(none)", "(set)") if before is None else ("(set)", "(replaced)")
        change = replace(change, sign=Sign.CHANGED, fields={**change.fields, "secret": said})
    return replace(change, secret=None if dry_run else made)


def _put_workspace(tx: Transaction, workspace: Workspace) -> AppliedChange:
    before = workspaces.find(tx, workspace.name)
    fields = ("projects", "rate_limits", "quotas")
    wanted: dict[str, object] = {name: getattr(workspace, name) for name in fields}
    found: dict[str, object] = {} if before is None else {name: getattr(before, name) for name in fields}
    changed = {name: (found.get(name), value) for name, value in wanted.items() if found.get(name) != value}
    if changed or before is None:
        workspaces.put(tx, workspace)
    sign = Sign.CREATED if before is None else Sign.CHANGED if changed else Sign.UNCHANGED
    return AppliedChange(
        sign=sign, section=WORKSPACES, workspace=workspace.name, id=workspace.name, version=None, fields=changed
    )


_SIGNS = {
    ChangeKind.CREATED: Sign.CREATED,
    ChangeKind.CHANGED: Sign.CHANGED,
    ChangeKind.RETIRED: Sign.RETIRED,
    ChangeKind.UNCHANGED: Sign.UNCHANGED,
}


def _as_applied(change: catalog.Change) -> AppliedChange:
    before, after = change.before or {}, change.declared.body
    names = sorted({*before, *after}) if change.kind is ChangeKind.CHANGED else []
    return AppliedChange(
        sign=_SIGNS[change.kind],
        section=change.declared.kind,
        workspace=change.declared.workspace,
        id=change.declared.id,
        version=change.version,
        fields={name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)},
    )
