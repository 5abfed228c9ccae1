"""Entries, held against what their kinds must be. What they refer to is looked up elsewhere (`references.py`)."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ingest_platform.declaring.bodies import why_no_json
from ingest_platform.declaring.files import WORKSPACES, Sections
from ingest_platform.declaring.mistakes import Entry, Mistake, Place
from ingest_platform.declaring.schemas import check_value
from ingest_platform.declaring.spaces import check_workspace
from ingest_platform.declaring.variables import Filled, fill_variables
from ingest_platform.domain.feed import DeclaredKind, Feed, Flaw
from ingest_platform.storage import catalog
from ingest_platform.storage.workspaces import Workspace

# Names the variable of the environment that has the secret; without it one is made.
SECRET_VARIABLE = "secret_env"  # noqa: S105 - the name of a field.
_VARIABLE: Mapping[str, object] = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,100}$"}
ReadVariable = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """An entry that is good by itself. `given` has its texts with the values of variables, which are secrets."""

    entry: Entry
    declared: catalog.Declared
    given: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The entries that are good by themselves, in the order of the files."""

    workspaces: Sequence[tuple[Entry, Workspace]]
    declared: Sequence[Sound]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What entries are judged by. `read_variable` reads the environment; without it, variables are left open."""

    kinds: Mapping[str, DeclaredKind]
    read_variable: ReadVariable | None
    mistakes: list[Mistake]

    @property
    def sections(self) -> Sections:
        """Give the sections that files may have."""
        by_id = {name: kind.id_field for name, kind in self.kinds.items() if kind.by_id}
        return Sections(names=(WORKSPACES, *self.kinds), by_id=by_id)


def kinds_of(feeds: Iterable[Feed]) -> dict[str, DeclaredKind]:
    """Collect what the feeds let a person declare, by the section's name."""
    return {kind.section: kind for feed in feeds for kind in feed.kinds}


def fields_of(kind: DeclaredKind) -> Mapping[str, Mapping[str, object]]:
    """Give the fields of an entry, with the one that all kinds with a secret have."""
    return {**kind.fields, SECRET_VARIABLE: _VARIABLE} if kind.has_secret else kind.fields


def judge_entries(judge: Judge, entries: Sequence[Entry]) -> Judged:
    """Hold each entry against its kind; the good ones are returned, what is wrong is added to the mistakes."""
    spaces, declared = list[tuple[Entry, Workspace]](), list[Sound]()
    seen: dict[tuple[str, str, str, str], Place] = {}
    for entry in entries:
        if entry.section == WORKSPACES:
            workspace = check_workspace(entry, judge.mistakes)
            if workspace is None:
                continue
            spaces.append((entry, workspace))
            identity = (WORKSPACES, "", "", workspace.name)
        else:
            sound = _check_entry(judge, entry)
            if sound is None:
                continue
            declared.append(sound)
            one, within = sound.declared, judge.kinds[entry.section].within
            identity = (one.kind, one.workspace, "" if within is None else str(one.body[within]), one.id)
        first = seen.setdefault(identity, entry.place)
        if first is not entry.place:
            where = f"{first.file}:{first.line}"
            judge.mistakes.append(entry.place.wrong(f"{identity[-1]} is declared twice, first in {where}; keep one"))
    return Judged(workspaces=spaces, declared=declared)


def _check_entry(judge: Judge, entry: Entry) -> Sound | None:
    before, values, place, kind = len(judge.mistakes), entry.values, entry.place, judge.kinds[entry.section]
    identity, workspace = values.get(kind.id_field), values.get("workspace")
    retired = values.get("retired", False)
    if not isinstance(workspace, str):
        said = "is missing; or put `workspace: …` at the top of the file"
        judge.mistakes.append(place.wrong(said, field="workspace"))
    if not isinstance(identity, str) or re.search(kind.id_pattern, identity) is None:
        said = "is missing" if identity is None else f"{identity!r} is wrong"
        judge.mistakes.append(place.wrong(f"{said}; it must match {kind.id_pattern}", field=kind.id_field))
    if not isinstance(retired, bool):
        judge.mistakes.append(place.wrong("must be true or false", field="retired"))
    given: Mapping[str, str] = {}
    if kind.check is None:
        body = _flat_body(judge, entry, kind, retired=retired is True)
    elif retired is True:
        # Nothing is said of it any more, but which one it is.
        body = {}
    else:
        body, given = _checked_body(judge, entry, kind)
    if len(judge.mistakes) > before:
        return None
    declared = catalog.Declared(
        workspace=cast("str", workspace),
        kind=kind.section,
        id=cast("str", identity),
        body=body,
        retired=cast("bool", retired),
    )
    return Sound(entry=entry, declared=declared, given=given)


def _flat_body(judge: Judge, entry: Entry, kind: DeclaredKind, *, retired: bool) -> Mapping[str, object]:
    """Hold the fields of a kind against the schema of each."""
    values, place, fields = entry.values, entry.place, fields_of(kind)
    allowed = ("workspace", kind.id_field, *fields, "retired")
    judge.mistakes.extend(
        place.wrong(f"is unknown; there are {', '.join(allowed)}", field=name) for name in values if name not in allowed
    )
    body = {**(kind.defaults or {}), **{name: values[name] for name in fields if name in values}}
    needed = kind.required
    if retired:
        needed = () if kind.within is None else (kind.within,)
        body = {name: body[name] for name in needed if name in body}
    judge.mistakes.extend(
        place.wrong(f"is missing; it is a {fields[name]['type']}", field=name) for name in needed if name not in values
    )
    wrong = {name: check_value(value, fields[name]) for name, value in body.items()}
    found = [place.wrong(said, field=name) for name, said in wrong.items() if said is not None]
    judge.mistakes.extend(found)
    if found:
        return {}
    # 1 and 1.0 are one factor; the catalog compares bodies as they are written.
    return {name: float(cast("float", v)) if fields[name]["type"] == "number" else v for name, v in body.items()}


def _checked_body(judge: Judge, entry: Entry, kind: DeclaredKind) -> tuple[Mapping[str, object], Mapping[str, str]]:
    """Let a kind judge what is more than flat fields; with the values of the variables in it."""
    assert kind.check is not None
    place, apart = entry.place, ("workspace", kind.id_field, "retired")
    # Null is as if it were left out.
    given = {name: value for name, value in entry.values.items() if value is not None}
    body: Mapping[str, object] = {name: value for name, value in given.items() if name not in apart}
    why = why_no_json(body)
    if why is not None:
        judge.mistakes.append(place.wrong(why.message, field=why.path))
        return {}, {}
    body = {**(kind.defaults or {}), **body}
    prepared: Sequence[Flaw] = ()
    if kind.prepare is not None:
        body, prepared = kind.prepare(body, folder=Path(place.file).parent)
    filled = fill_variables(body, judge.read_variable) if kind.variables else Filled()
    # Of what can't be read, nothing else is said.
    unread = {*filled.open, *(flaw.path for flaw in prepared)}
    checked = [flaw for flaw in kind.check(body, given=filled.given) if flaw.path not in unread]
    flaws = [*prepared, *filled.flaws, *checked]
    judge.mistakes.extend(place.wrong(flaw.message, field=flaw.path) for flaw in flaws)
    return body, filled.given
