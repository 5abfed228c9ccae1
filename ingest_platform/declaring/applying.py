"""`ingest apply`: what a person declares in YAML, checked as a whole and brought into the ledger in one revision.

Which kinds there are and what fields they have is said by the feeds; how versions are kept, by `storage/catalog.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from psycopg import Rollback

from ingest_platform.declaring.changes import AppliedChange, Sign, as_applied, as_kept
from ingest_platform.declaring.files import WORKSPACES, read_files
from ingest_platform.declaring.judging import Judge, Judged, ReadVariable, Sound, judge_entries, kinds_of
from ingest_platform.declaring.keeping import put_secrets, read_secrets
from ingest_platform.declaring.mistakes import Entry, Mistake, WronglyDeclared
from ingest_platform.declaring.references import check_references
from ingest_platform.declaring.spaces import put_workspace
from ingest_platform.domain.feed import DeclaredKind, Feed, Keep
from ingest_platform.storage import catalog
from ingest_platform.storage.catalog import Declared
from ingest_platform.storage.ledger import Ledger, Transaction


def apply(
    ledger: Ledger,
    paths: Sequence[Path],
    *,
    feeds: Sequence[Feed],
    dry_run: bool = False,
    read_variable: ReadVariable = lambda _: None,
    only: str | None = None,
) -> list[AppliedChange]:
    """Bring what the files declare into the ledger, all of it in one revision or nothing.

    `read_variable` gives the secrets that are named by a variable of the environment. `only` is the one workspace of
    which something may be declared, and none itself; entries that name no workspace are its. Raises WronglyDeclared
    with every mistake of all files. A dry run finds and tells the same and changes nothing.
    """
    judge = Judge(kinds=kinds_of(feeds), read_variable=read_variable, mistakes=[])
    judged = _judge_files(judge, paths, only=only)
    given = read_secrets(judge, judged)
    with ledger.transaction() as tx:
        # Others who declare something at the same time wait: what is looked up here must still hold in the end.
        catalog.lock(tx)
        judge.mistakes.extend(check_references(tx, judged, judge.kinds))
        _raise_any(judge.mistakes)
        changes = [put_workspace(tx, workspace) for _, workspace in judged.workspaces]
        applied = _put_declared(tx, judged, judge.kinds, dry_run=dry_run)
        changes += put_secrets(tx, judged, applied, kinds=judge.kinds, given=given, dry_run=dry_run)
        if dry_run or all(change.sign is Sign.UNCHANGED for change in changes):
            # A revision that changes nothing would make every worker read the catalog again.
            raise Rollback
    return changes


def read_declared(paths: Sequence[Path], *, feeds: Sequence[Feed]) -> list[Declared]:
    """Read what the files declare without looking at what stands, or at the environment.

    Raises WronglyDeclared with every mistake that can be found so.
    """
    judge = Judge(kinds=kinds_of(feeds), read_variable=None, mistakes=[])
    judged = _judge_files(judge, paths)
    _raise_any(judge.mistakes)
    return [sound.declared for sound in judged.declared]


def _judge_files(judge: Judge, paths: Sequence[Path], *, only: str | None = None) -> Judged:
    entries = read_files(paths, sections=judge.sections, mistakes=judge.mistakes)
    if only is not None:
        entries = [_within(each, only, judge.mistakes) for each in entries]
    return judge_entries(judge, entries)


def _within(entry: Entry, workspace: str, mistakes: list[Mistake]) -> Entry:
    """Give an entry that names no workspace the one in which it may be, and refuse those that are not in it."""
    if entry.section == WORKSPACES:
        mistakes.append(entry.place.wrong("is declared with `ingest apply`, by who runs the platform"))
        return entry
    named = entry.values.get("workspace", workspace)
    if isinstance(named, str) and named != workspace:
        said = f"must be {workspace}, the workspace of the key; or leave it out"
        mistakes.append(entry.place.wrong(said, field="workspace"))
    return replace(entry, values={"workspace": workspace, **entry.values})


def _raise_any(mistakes: Sequence[Mistake]) -> None:
    if mistakes:
        raise WronglyDeclared(sorted(mistakes, key=lambda each: (each.file, each.line)))


def _put_declared(
    tx: Transaction, judged: Judged, kinds: Mapping[str, DeclaredKind], *, dry_run: bool
) -> list[AppliedChange]:
    """Put what was declared into the catalog, or to where its feed keeps it; the changes are in the order declared."""
    catalogued = [sound.declared for sound in judged.declared if kinds[sound.declared.kind].keep is None]
    changes = iter([as_applied(change) for change in catalog.put(tx, catalogued)] if catalogued else [])
    kept: dict[str, Iterator[AppliedChange]] = {}
    for section, kind in kinds.items():
        own = [sound for sound in judged.declared if sound.declared.kind == section]
        if kind.keep is not None and own:
            kept[section] = iter(_keep(tx, own, kind.keep, dry_run=dry_run))
    return [next(kept.get(sound.declared.kind, changes)) for sound in judged.declared]


def _keep(tx: Transaction, own: Sequence[Sound], keep: Keep, *, dry_run: bool) -> list[AppliedChange]:
    done = keep(tx, [sound.declared for sound in own])
    _raise_any([sound.entry.place.wrong(each.wrong) for sound, each in zip(own, done, strict=True) if each.wrong])
    return [as_kept(sound.declared, each, dry_run=dry_run) for sound, each in zip(own, done, strict=True)]
