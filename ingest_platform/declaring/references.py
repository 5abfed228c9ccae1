"""What declared things refer to, held against what will stand when all of a declaration is applied."""

from collections.abc import Iterable, Mapping, Sequence

from ingest_platform.declaring.files import WORKSPACES
from ingest_platform.declaring.judging import Judged, Sound
from ingest_platform.declaring.mistakes import Mistake
from ingest_platform.domain.feed import DeclaredKind, Reference
from ingest_platform.storage import catalog, workspaces
from ingest_platform.storage.ledger import Transaction

Body = Mapping[str, object]
# What will stand, by workspace and section: body by id.
Standing = Mapping[tuple[str, str], Mapping[str, Body]]
# Of things of a name that is not among them.
NAMES_TOLD_MAX = 20


def check_references(tx: Transaction, judged: Judged, kinds: Mapping[str, DeclaredKind]) -> list[Mistake]:
    """Hold what is declared against what will stand afterwards: its workspaces, and the ids that it refers to."""
    spaces = {workspace.name for _, workspace in judged.workspaces} | set(workspaces.names(tx))
    mistakes = [
        sound.entry.place.wrong(
            f"there is no workspace {sound.declared.workspace!r}; declare it under `{WORKSPACES}:`", field="workspace"
        )
        for sound in judged.declared
        if sound.declared.workspace not in spaces
    ]
    after = _after(tx, judged, kinds)
    for sound in judged.declared:
        kind = kinds[sound.declared.kind]
        if sound.declared.retired:
            mistakes += _still_used(sound, after, kinds)
        else:
            mistakes += _missing(sound, kind, after)
            mistakes += _not_as_it_was(tx, sound, kind)
    return mistakes


def references_of(kind: DeclaredKind, body: Body) -> Sequence[Reference]:
    """List what a body refers to."""
    fields = kind.refers or {}
    flat = [
        Reference(path=field, section=section, id=wanted)
        for field, section in fields.items()
        if isinstance(wanted := body.get(field), str)
    ]
    return flat if kind.references is None else [*flat, *kind.references(body)]


def _after(tx: Transaction, judged: Judged, kinds: Mapping[str, DeclaredKind]) -> Standing:
    after: dict[tuple[str, str], dict[str, Body]] = {
        (workspace, section): {entry.id: entry.body for entry in catalog.current(tx, workspace=workspace, kind=section)}
        for workspace in {sound.declared.workspace for sound in judged.declared}
        for section in kinds
    }
    for sound in judged.declared:
        one = sound.declared
        standing = after.setdefault((one.workspace, one.kind), {})
        if one.retired:
            standing.pop(one.id, None)
        else:
            standing[one.id] = one.body
    return after


def _missing(sound: Sound, kind: DeclaredKind, after: Standing) -> Iterable[Mistake]:
    workspace = sound.declared.workspace
    for wanted in references_of(kind, sound.declared.body):
        standing = after.get((workspace, wanted.section), {})
        if wanted.id not in standing:
            names = sorted(standing)
            there = f"; there are {', '.join(names)}" if 0 < len(names) <= NAMES_TOLD_MAX else ""
            said = f"there is no {wanted.id!r} among the {wanted.section} of {workspace}{there}"
            yield sound.entry.place.wrong(f"{said}; declare it under `{wanted.section}:`", field=wanted.path)


def _not_as_it_was(tx: Transaction, sound: Sound, kind: DeclaredKind) -> Iterable[Mistake]:
    """Hold the fields that never change against what was declared before, if anything was."""
    one = sound.declared
    before = catalog.last_standing(tx, workspace=one.workspace, kind=one.kind, id_=one.id) if kind.fixed else None
    for field in kind.fixed:
        if before is not None and before.body.get(field) != one.body.get(field):
            said = f"is {before.body.get(field)!r} and never changes; declare another one under another {kind.id_field}"
            yield sound.entry.place.wrong(said, field=field)


def _still_used(sound: Sound, after: Standing, kinds: Mapping[str, DeclaredKind]) -> Iterable[Mistake]:
    retired = sound.declared
    for kind in kinds.values():
        if kind.references is None and retired.kind not in (kind.refers or {}).values():
            continue
        users: dict[str, list[str]] = {}
        for id_, body in after.get((retired.workspace, kind.section), {}).items():
            for used in references_of(kind, body):
                if (used.section, used.id) == (retired.kind, retired.id) and id_ not in users.get(used.path, []):
                    users.setdefault(used.path, []).append(id_)
        for path, ids in users.items():
            said = f"is still the {path} of {len(ids)} {kind.section} ({ids[0]} …); retire them as well"
            yield sound.entry.place.wrong(said)
